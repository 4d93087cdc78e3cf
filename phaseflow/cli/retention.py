"""`phaseflow clean` and `phaseflow forget`: each part is asked in the environment that has its libraries."""

from __future__ import annotations

import json
from typing import Any, Final

from phaseflow.cli import show
from phaseflow.contract import Project
from phaseflow.embedded import components
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings

STORE_GROUP: Final = "tabular"
"""Dependency group of the environment that reads Parquet. No project code runs in it."""
UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(settings: Settings, project: Project, *, dry_run: bool) -> dict[str, Any]:
    """Remove what the project no longer keeps; gives the lines of each part, and the parts that could not be asked.

    Raises PlatformError where the store's part fails.
    """
    lines: list[dict[str, Any]] = []
    problems: dict[str, str] = {}
    dry = ["--dry-run"] * dry_run
    named = ["--project", project.name]
    arguments: list[str] = []
    try:
        registered = components.call(settings, "registry", "services.registry", "clean", *named, *dry)
        lines += registered["lines"]
        arguments = ["--versions", json.dumps(registered["versions"])]
    except PlatformError as error:
        problems["MLflow"] = str(error)
    lines += components.answer(settings, STORE_GROUP, "pipelines.retention", "clean", *named, *dry, *arguments)
    try:
        lines += components.answer(settings, STORE_GROUP, "pipelines.retention", "runs", *named, *dry)
    except PlatformError as error:
        problems["The pipeline engine"] = str(error)
    return {"project": project.name, "dry_run": dry_run, "lines": lines, "problems": problems}


def forget(settings: Settings, project: Project, identity: str) -> dict[str, Any]:
    """Erase the row; gives what was changed, the versions that learned from it, and what was not reached.

    Raises PlatformError where no log and no snapshot holds the id, or where the store or MLflow fails: again it goes on.
    """
    arguments = ["forget", "--project", project.name]
    done: dict[str, Any] = components.call(settings, STORE_GROUP, "pipelines.retention", *arguments, f"--id={identity}")
    versions = components.answer(settings, "registry", "services.registry", *arguments)
    changed = set(done["snapshots"].values())
    return done | {"versions": [version for version in versions if version["snapshot"] in changed]}


def show_forget(done: dict[str, Any], *, as_json: bool) -> None:
    """What was erased, and what holds it still."""
    if as_json:
        show.data(done)
        return
    show.console.print(f"{done['rows']} rows are erased from {done['log']} files of the log", highlight=False)
    for old, new in done["snapshots"].items():
        show.console.print(f"the snapshot {old} is now {new}, without the row")
    for window in done["reports"]:
        show.console.print(f"the report {window} saw the row, and is removed")
    show.console.print("not reached:")
    for version in done["versions"]:
        aliases = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
        show.console.print(
            f"- the weights of version {version['version']}{aliases}, which was trained on it: train another; `phaseflow clean` removes "
            "old ones",
            soft_wrap=True,
        )
    for name in done.get("unknown", []):
        show.console.print(f"- the snapshot {name} has no ids, and the log no longer holds the row", soft_wrap=True)
    for text in done["unreached"]:
        show.console.print(f"- {text}", markup=False, soft_wrap=True)


def show_clean(results: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print the removed and the remaining objects, each with the reason."""
    if as_json:
        show.data(results)
        return
    verb = "would go" if any(result["dry_run"] for result in results) else "removed"
    for result in results:
        show.table(
            result["project"],
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
                for line in sorted(result["lines"], key=lambda line: not line["remove"])
            ],
        )
        for part, problem in result["problems"].items():
            show.errors.print(f"{part}: {problem}", markup=False, soft_wrap=True)


def size(count: float) -> str:
    """1,536 bytes are 1.5 KiB."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
