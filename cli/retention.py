"""`phaseflow clean` and `phaseflow forget`. Each component runs in the environment that has its libraries."""

from __future__ import annotations

import json
from typing import Any, Final

from cli import show
from cli.local import components
from phaseflow.contract import Project
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings

STORE_GROUP: Final = "tabular"
"""Dependency group of the environment that reads Parquet. No project code runs in it."""
UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(settings: Settings, project: Project, *, dry_run: bool) -> dict[str, Any]:
    """Remove data that the project no longer keeps.

    Returns the `lines` of all components, and as `problems` the components that could not be reached. Raises
    PlatformError if cleaning the store fails.
    """
    lines: list[dict[str, Any]] = []
    problems: dict[str, str] = {}
    dry_run_arguments = ["--dry-run"] * dry_run
    project_arguments = ["--project", project.name]
    arguments: list[str] = []
    try:
        registry_result = components.call(
            settings, "registry", "services.registry", "clean", *project_arguments, *dry_run_arguments
        )
        lines += registry_result["lines"]
        arguments = ["--versions", json.dumps(registry_result["versions"])]
    except PlatformError as error:
        problems["MLflow"] = str(error)
    lines += components.call_json(
        settings, STORE_GROUP, "pipelines.retention", "clean", *project_arguments, *dry_run_arguments, *arguments
    )
    try:
        lines += components.call_json(
            settings, STORE_GROUP, "pipelines.retention", "runs", *project_arguments, *dry_run_arguments
        )
    except PlatformError as error:
        problems["The pipeline engine"] = str(error)
    return {"project": project.name, "dry_run": dry_run, "lines": lines, "problems": problems}


def forget(settings: Settings, project: Project, identity: str) -> dict[str, Any]:
    """Erase the row.

    Returns the changes, the model versions that were trained on the row, and what could not be erased. Raises
    PlatformError if no log and no snapshot holds the ID, or if the store or MLflow fails; another call continues.
    """
    arguments = ["forget", "--project", project.name]
    result: dict[str, Any] = components.call(
        settings, STORE_GROUP, "pipelines.retention", *arguments, f"--id={identity}"
    )
    versions = components.call_json(settings, "registry", "services.registry", *arguments)
    changed_snapshots = set(result["snapshots"].values())
    return result | {"versions": [version for version in versions if version["snapshot"] in changed_snapshots]}


def show_forget(result: dict[str, Any], *, as_json: bool) -> None:
    """Print what was erased, and what still contains the row."""
    if as_json:
        show.data(result)
        return
    show.console.print(f"{result['rows']} rows are erased from {result['log']} files of the log", highlight=False)
    for old, new in result["snapshots"].items():
        show.console.print(f"the snapshot {old} is now {new}, without the row")
    for window in result["reports"]:
        show.console.print(f"the report {window} contained the row, and is removed")
    show.console.print("not erased:")
    for version in result["versions"]:
        aliases = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
        show.console.print(
            f"- the weights of version {version['version']}{aliases}, which was trained on it: train a new version; "
            "`phaseflow clean` removes old ones",
            soft_wrap=True,
        )
    for name in result.get("unknown", []):
        show.console.print(f"- the snapshot {name} has no IDs, and the log no longer contains the row", soft_wrap=True)
    for text in result["unreached"]:
        show.console.print(f"- {text}", markup=False, soft_wrap=True)


def show_clean(results: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print the removed and the remaining objects with the reason of each."""
    if as_json:
        show.data(results)
        return
    verb = "would be removed" if any(result["dry_run"] for result in results) else "removed"
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
    """A size for people: 1,536 bytes are 1.5 KiB."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
