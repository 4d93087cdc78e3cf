"""Commands on projects."""

from __future__ import annotations

import os
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from cli import retention, show, work
from cli.commands.options import Json, Project, selection
from cli.local import platform as local_platform
from cli.local import supervisor
from phaseflow import discovery, errors
from phaseflow.settings import from_environment

DATA_FIX: Final = "On Kubernetes, trigger the DAG `{}` in Airflow: `{{0}} urls` shows its address"
"""Fix of an error: `clean` and `forget` are DAGs on a cluster, since its store is not reachable from here."""


class Task(StrEnum):
    """Tasks of a table."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


def projects(as_json: Json = False) -> None:
    """List the projects.

    PHASEFLOW_PROJECTS adds folders of projects, and PHASEFLOW_ONLY restricts the list.

    Example:
        phaseflow projects --json

    """
    definitions = discovery.all_projects()
    if as_json:
        show.data([definition.to_dict() for definition in definitions])
        return
    show.table(
        "",
        ("project", "title", "task", "phase", "candidates", "first metric"),
        [
            (
                definition.name,
                definition.title,
                definition.task,
                definition.phase,
                len(definition.candidates),
                definition.primary.name,
            )
            for definition in definitions
        ],
    )


def run(context: typer.Context, project: Project, as_json: Json = False) -> None:
    """Run ETL, pipeline, gate and promotion without Airflow (this machine only).

    Services that are needed and do not run are started.

    Example:
        phaseflow run titanic

    """
    selection(context).require_local("run", fix=f"Start the project's DAG: `{{0}} trigger {project}`")
    settings = from_environment()
    definition = discovery.get(project)
    with show.starting(quiet=as_json) as watch:
        local_platform.ensure(settings, ("mlflow", "pipelines", "serving"), watch)
    with show.working(f"{project}: starting", quiet=as_json) as say:
        result = work.run(settings, definition, say)
    if as_json:
        show.data(result)
        return
    work.show_verdict(definition, result["verdict"])
    promotion = result["promotion"]
    show.console.print(
        f"version {promotion['version']} is champion and served"
        if promotion
        else "the champion stays: the gate refused the best candidate"
    )


def trigger(
    context: typer.Context,
    project: Project,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run ends. Exit status 1 if it fails.")] = False,
    reason: Annotated[str, typer.Option(help="Saved with the run.")] = "by hand",
    as_json: Json = False,
) -> None:
    """Start the project's DAG through Airflow's REST API.

    The DAG runs ETL, pipeline, gate and promotion.

    Example:
        phaseflow trigger titanic --wait
        phaseflow --context kind-phaseflow trigger titanic --reason "new data"

    """
    discovery.get(project)
    settings = selection(context).platform().settings()
    with show.working(f"{project}: triggering its DAG", quiet=as_json) as say:
        dag_run = work.trigger(settings, project, reason, wait=wait, say=say)
    work.show_run(dag_run, as_json=as_json)
    if wait and dag_run["state"] != "success":
        raise typer.Exit(1)


def traffic(
    context: typer.Context,
    project: Project,
    rows: Annotated[int, typer.Option(help="Number of rows; 0 sends until Ctrl-C.")] = 0,
    rate: Annotated[float, typer.Option(help="Rows per second; 0 sends as fast as the service responds.")] = 20.0,
    drift: Annotated[
        bool, typer.Option("--drift", help="Send drifted rows, as the project's `Drift.scenario` defines them.")
    ] = False,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Also send the label of each row after its prediction.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed sends the same rows.")] = 1,
    as_json: Json = False,
) -> None:
    """Simulate traffic: send rows of the project's data to the service.

    The exit status is 1 if a request fails.

    Example:
        phaseflow traffic titanic --rows 500
        phaseflow --context kind-phaseflow traffic titanic --drift --feedback

    """
    definition = discovery.get(project)
    settings = selection(context).platform().settings()
    arguments = work.traffic_arguments(rows=rows, rate=rate, seed=seed, drift=drift, feedback=feedback)
    with show.working(f"{project}: reading its data", quiet=as_json) as say:
        summary = work.traffic(settings, definition, arguments, say)
    work.show_traffic(summary, as_json=as_json)
    if summary["failed"]:
        raise typer.Exit(1)


def promote(
    context: typer.Context,
    project: Project,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Version in MLflow; default: the challenger.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Promote the version even if the gate refused it.")] = False,
    as_json: Json = False,
) -> None:
    """Make a version the champion.

    The service swaps to it without dropping a request.

    Example:
        phaseflow promote titanic
        phaseflow --context kind-phaseflow promote titanic 3

    """
    arguments = [*(["--version", version] if version else []), *["--force"] * force]
    _change_champion(context, "promote", project, arguments, as_json=as_json)


def rollback(context: typer.Context, project: Project, as_json: Json = False) -> None:
    """Make the previous champion the champion again.

    The service swaps to it without dropping a request.

    Example:
        phaseflow rollback titanic
        phaseflow --context kind-phaseflow rollback titanic

    """
    _change_champion(context, "rollback", project, [], as_json=as_json)


def _change_champion(context: typer.Context, action: str, project: str, arguments: list[str], *, as_json: bool) -> None:
    discovery.get(project)
    platform = selection(context).platform()
    with show.working(action, quiet=as_json):
        result = platform.registry(action, "--project", project, *arguments)
    work.show_champion(result, as_json=as_json)


def clean(
    context: typer.Context,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Default: all projects.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed, what stays, and why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove data that is older than the project's `Keep` allows (this machine only).

    The exit status is 1 if a component is unreachable.

    Example:
        phaseflow clean titanic --dry-run

    """
    selection(context).require_local("clean", fix=DATA_FIX.format("clean"))
    settings = from_environment()
    definitions = [discovery.get(project)] if project else discovery.all_projects()
    results = []
    for definition in definitions:
        with show.working(f"{definition.name}: checking its data", quiet=as_json):
            results.append(retention.clean(settings, definition, dry_run=dry_run))
    retention.show_clean(results, as_json=as_json)
    if any(result["problems"] for result in results):
        raise typer.Exit(1)


def forget(
    context: typer.Context,
    project: Project,
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="ID of the row: `predictions[].id` in the service's response.")
    ],
    as_json: Json = False,
) -> None:
    """Erase a row from logs, snapshots and reports (this machine only).

    The output lists what still contains the row.

    Example:
        phaseflow forget titanic 01J9ZQ4T8M5W

    """
    selection(context).require_local("forget", fix=DATA_FIX.format("forget"))
    settings = from_environment()
    definition = discovery.get(project)
    with show.working(f"{project}: erasing {identity}", quiet=as_json):
        result = retention.forget(settings, definition, identity)
    retention.show_forget(result, as_json=as_json)


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the project: lower-case letters, digits and _.")],
    csv: Annotated[Path | None, typer.Option(help="The CSV file, optionally gzipped.")] = None,
    target: Annotated[str, typer.Option(help="Name of the column to predict.")] = "",
    text: Annotated[str, typer.Option(help="Name of the text column, for text classification.")] = "",
    images: Annotated[
        Path | None, typer.Option(help="Instead of a CSV file: a folder with one subfolder of images per class.")
    ] = None,
    side: Annotated[int | None, typer.Option(help="Width and height of the images in pixels.")] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which the project is created; default: the last one of PHASEFLOW_PROJECTS, or `projects`."
        ),
    ] = None,
    task: Annotated[Task | None, typer.Option(help="Task of the table; default: inferred from the target.")] = None,
    url: Annotated[str, typer.Option(help="Public URL of the same file.")] = "",
    as_json: Json = False,
) -> None:
    """Generate a project from a CSV file, or from a folder of images.

    The project has its own tests, drift scenario and gate.

    Example:
        phaseflow new bike_sharing --csv hour.csv --target cnt
        phaseflow new reviews --csv reviews.csv --text review --target stars
        phaseflow new leaves --images leaves/ --side 32

    """
    settings = from_environment()
    folder = into or (settings.projects[1].absolute() if settings.projects[1:] else None)
    options = {
        "--csv": csv,
        "--target": target,
        "--text": text,
        "--images": images,
        "--side": side,
        "--into": folder,
        "--task": task,
        "--url": url,
    }
    arguments = [f"{option}={value}" for option, value in options.items() if value not in {None, ""}]
    completed = subprocess.run(
        [settings.python("tabular"), "-m", "cli.scaffold", *arguments, *["--json"] * as_json, "--", name],
        env=os.environ | supervisor.environment(settings),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if completed.returncode:
        if error := errors.from_output(completed.stderr):
            raise error
        show.errors.print(completed.stderr, markup=False, soft_wrap=True)
        raise typer.Exit(completed.returncode)
    if supervisor.running(settings):
        local_platform.refresh(settings)
