"""Removes old versions of a project's model and their MLflow runs, and updates the names of rewritten snapshots.

A version is removed in this order: tag its runs, delete the version, then delete the logged model, the files and the run of each run. If
the process is killed in between, the next call finds tagged runs without a version. Deleted runs stay in MLflow's database, marked as
deleted and without files, until `mlflow gc` removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from phaseflow import erasure, retention
from phaseflow.clients.mlflow_errors import ABSENT
from phaseflow.contract import Project
from phaseflow.settings import Settings
from phaseflow.store import Store
from services.registry import promotion

PAGE: Final = 200
SNAPSHOT: Final = "phaseflow.snapshot"
ERASED_FROM: Final = "phaseflow.erased_from"
RUN: Final = "phaseflow.run"
REMOVING: Final = "phaseflow.removing"
"""Tag of a run whose version is being removed."""


def clean(
    client: MlflowClient, settings: Settings, project: Project, now: datetime, *, dry_run: bool = False
) -> dict[str, Any]:
    """Remove the versions that are neither among the newest `Keep.versions` nor have an alias, and their MLflow runs.

    Returns a summary as `lines`, and the versions with an alias as `versions`. With `dry_run` nothing is removed. Raises PlatformError
    if a promotion holds the lock for more than a minute, MlflowException if MLflow fails.
    """
    if not dry_run:
        forget(client, settings, project)
    planned = items(client, project, now)
    for item in [] if dry_run else planned:
        if item.remove and (item.kind != "versions" or _unregister(client, settings, project, item)):
            for run_id in item.keys:
                _remove_run(client, run_id)
    aliased = [version for version in promotion.versions(client, project) if version["aliases"]]
    keys = ("version", "aliases", "snapshot", "erased_from", "run")
    return {
        "lines": retention.summary(planned),
        "versions": [{key: version[key] for key in keys} for version in aliased],
    }


def _unregister(client: MlflowClient, settings: Settings, project: Project, item: retention.Item) -> bool:
    """Delete the version unless it has an alias by now; returns whether its runs may be deleted."""
    for run_id in item.keys:
        client.set_tag(run_id, REMOVING, "true")
    with Store(settings.store).lock(
        f"promotion-{project.name}", promotion.PATIENCE
    ) as lock:  # no alias can move meanwhile
        if item.name in {promotion.version_of(client, project, alias) for alias in retention.ALIASES}:
            return False
        lock.check()
        try:
            client.delete_model_version(project.name, item.name)
        except MlflowException as error:
            if error.error_code not in ABSENT:  # otherwise another process has just removed it
                raise
    return True


def items(client: MlflowClient, project: Project, now: datetime) -> list[retention.Item]:
    """Every version with its runs, then the pipeline runs without a version."""
    versions = promotion.versions(client, project)
    runs = list(_runs(client, project))
    by_pipeline: dict[str, list[Run]] = {}
    for run in runs:
        by_pipeline.setdefault(run.data.tags.get(RUN, ""), []).append(run)
    planned = []
    for index, version in enumerate(versions):
        why = _needed(version, index, project)
        group = by_pipeline.pop(version["run"] or "", [])
        planned.append(
            retention.Item(
                kind="versions",
                name=str(version["version"]),
                keys=tuple(run.info.run_id for run in group),
                count=1,
                size=sum(_size(client, run) for run in group) if not why else 0,
                remove=not why,
                why=why or f"beyond the newest {project.keep.versions}",
            )
        )
    by_pipeline.pop("", None)  # runs in the project's experiment that no pipeline made
    edge = (now - timedelta(days=project.keep.run_days)).timestamp() * 1000
    for name, group in by_pipeline.items():
        marked = all(REMOVING in run.data.tags for run in group)
        if marked or all(run.info.start_time < edge for run in group):
            planned.append(
                retention.Item(
                    kind="MLflow runs",
                    name=name,
                    keys=tuple(run.info.run_id for run in group),
                    count=len(group),
                    size=sum(_size(client, run) for run in group),
                    remove=True,
                    why="left by an interrupted removal"
                    if marked
                    else f"without a version, older than {project.keep.run_days} days",
                )
            )
        else:
            planned.append(
                retention.Item(
                    kind="MLflow runs",
                    name=name,
                    count=len(group),
                    why=f"without a version, within {project.keep.run_days} days",
                )
            )
    return planned


def _needed(version: Mapping[str, Any], index: int, project: Project) -> str:
    """Why the version is kept; empty if it may be removed. `index` counts from the newest version."""
    if version["aliases"]:
        return f"the alias {', '.join(version['aliases'])} points to it"
    return f"one of the newest {project.keep.versions}" if index < project.keep.versions else ""


def _runs(client: MlflowClient, project: Project) -> Iterator[Run]:
    """The live runs of the project's experiment."""
    experiment = client.get_experiment_by_name(project.name)
    token: str | None = None
    while experiment is not None:
        page = client.search_runs([experiment.experiment_id], max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _size(client: MlflowClient, run: Run) -> int:
    """Size of a run's files in bytes, without its logged model."""
    total, folders = 0, [""]
    while folders:
        for file in client.list_artifacts(run.info.run_id, folders.pop() or None):
            if file.is_dir:
                folders.append(file.path)
            else:
                total += file.file_size or 0
    return total


def _remove_run(client: MlflowClient, run_id: str) -> None:
    run = client.get_run(run_id)
    for output in run.outputs.model_outputs if run.outputs else ():
        _remove_model(client, output.model_id)
    _delete_files(run.info.artifact_uri, client)
    client.delete_run(run_id)  # last, so that an interrupted removal finds the run again


def _remove_model(client: MlflowClient, model_id: str) -> None:
    try:
        model = client.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return
        raise
    _delete_files(model.artifact_location, client)
    client.delete_logged_model(model_id)


def _delete_files(uri: str | None, client: MlflowClient) -> None:
    """Delete the files through MLflow's server, which has the credentials; files that no longer exist are no error."""
    if uri:
        files = get_artifact_repository(uri, tracking_uri=client.tracking_uri)
        files.delete_artifacts()  # type: ignore[no-untyped-call]  # MLflow's repositories have no types


def forget(client: MlflowClient, settings: Settings, project: Project) -> list[dict[str, Any]]:
    """Update the snapshot names of versions whose snapshot was rewritten; returns the versions that were trained on erased rows.

    A version keeps both names: the tag `phaseflow.snapshot` is the current one, `phaseflow.erased_from` the one in `model.json`.
    """
    store = Store(settings.store)
    trained = []
    for version in promotion.versions(client, project):
        name = version["snapshot"]
        current = erasure.current(store, project.name, name) if name else name
        if current != name:
            # The old name first, so that it is not lost if the process is killed in between.
            if version["erased_from"] is None:
                client.set_model_version_tag(project.name, version["version"], ERASED_FROM, name)
            client.set_model_version_tag(project.name, version["version"], SNAPSHOT, current)
        if current != name or version["erased_from"] is not None:
            trained.append(
                {
                    "version": version["version"],
                    "aliases": version["aliases"],
                    "snapshot": current,
                    "erased_from": version["erased_from"] or name,
                    "created": datetime.fromtimestamp(version["created"] / 1000, UTC).isoformat(),
                }
            )
    return trained
