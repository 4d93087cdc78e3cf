"""Prints the results of a demo, and what to try next."""

from __future__ import annotations

from typing import Any

from cli import show
from phaseflow.contract import Project
from phaseflow.settings import Settings


def summary(result: dict[str, Any], project: Project) -> None:
    """Print a table of the results."""
    metric = project.primary.name
    verdict = result["second_verdict"]
    before, drifted, after = (max(result[name].values()) for name in ("psi_before", "psi_drifted", "psi_after"))
    show.console.print()
    show.table(
        f"Results after {show.duration(result['seconds'])}",
        ("", "before", "drifted", "after"),
        [
            ("served version", result["first"]["version"], result["first"]["version"], result["last"]["version"]),
            ("algorithm", result["first"]["candidate"], result["first"]["candidate"], result["last"]["candidate"]),
            ("largest PSI", before, drifted, after),
            (
                f"{metric} on the same holdout",
                "",
                f"{verdict['champion_metrics'][metric]:.3f}",
                f"{verdict['metrics'][metric]:.3f}",
            ),
            (
                "failed requests",
                result["normal_traffic"]["failed"],
                result["traffic"]["failed"],
                result["traffic"]["failed"],
            ),
            ("alerts that trigger retraining", "none", ", ".join(result["alerts"]), "none"),
        ],
    )
    show.console.print(f"\n[dim]all processes together: {result['memory_mb'] / 1024:.2f} GiB of memory at most[/]\n")


def next_steps(command: str, settings: Settings, project: Project) -> None:
    """Print what to try next. `command` is `phaseflow` with the options that select the platform."""
    stop = "make down" if command == "phaseflow" else f"bin/{command} down"
    show.console.print(
        f"\n[bold]Next steps:[/] open {settings.page('airflow')}, trigger [bold]{project.name}[/] with a reason, "
        "and look at the grid.\n"
        f"  bin/{command} traffic {project.name} --drift   sends more drifted rows\n"
        f"  bin/{command} rollback {project.name}          restores the previous champion within a second\n"
        "  bin/phaseflow new NAME --csv FILE --target COLUMN   makes a project from your own data\n"
        f"  {stop}   stops the platform"
    )
