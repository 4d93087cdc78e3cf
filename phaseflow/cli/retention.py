"""`phaseflow clean` and `phaseflow forget`: each part is asked in the environment that has its libraries."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Final

from phaseflow.cli import show
from phaseflow.contract import Project
from phaseflow.embedded import components
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings

STORE_GROUP: Final = "tabular"
"""Of the environment that reads Parquet: no project's own code runs."""
UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(settings: Settings, project: Project, *, dry_run: bool) -> dict[str, Any]:
    """Remove what the project no longer keeps; gives the lines of each part, and the parts that could not be asked.

    Raises PlatformError where the store's part fails.
    """
    lines: list[dict[str, Any]] = []
    problems: dict[str, str] = {}
    dry = ["--dry-run"] * dry_run
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["clean", "--project", project.name, *dry]
        try:
            versions = components.call(
                settings, "registry", "services.registry", "versions", "--project", project.name
            )
            path = Path(folder) / "versions.json"
            path.write_text(json.dumps(versions))
            arguments += ["--versions", str(path)]
        except PlatformError as error:
            problems["MLflow"] = str(error)
        lines += components.call(settings, STORE_GROUP, "pipelines.retention", *arguments)
    return {"project": project.name, "dry_run": dry_run, "lines": lines, "problems": problems}


def show_clean(done: list[dict[str, Any]], *, as_json: bool) -> None:
    """What was removed, what stays and why."""
    if as_json:
        show.data(done)
        return
    verb = "would go" if any(one["dry_run"] for one in done) else "removed"
    for one in done:
        show.table(
            one["project"],
            ("", "what", "objects", "size", "why", "for example"),
            [
                (
                    f"[red]{verb}[/]" if line["remove"] else "stays",
                    line["what"],
                    f"{line['count']:,}",
                    size(line["bytes"]),
                    line["why"],
                    f"[dim]{', '.join(line['names'])}[/]",
                )
                for line in sorted(one["lines"], key=lambda line: not line["remove"])
            ],
        )
        for part, problem in one["problems"].items():
            show.errors.print(f"{part}: {problem}", markup=False, soft_wrap=True)


def size(count: float) -> str:
    """1,536 bytes are 1.5 KiB."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
