"""Promotion and rollback. Both hold a lock, because MLflow has no compare-and-set on aliases."""

from __future__ import annotations

from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from phaseflow import events
from phaseflow.clients.mlflow import by_alias
from phaseflow.clients.mlflow_errors import ABSENT
from phaseflow.contract import Project
from phaseflow.errors import PermanentError
from phaseflow.settings import Settings
from phaseflow.store import Store

PATIENCE: Final = 60.0
"""Seconds to wait for another promotion."""
PAGE: Final = 200
"""Versions per response of MLflow."""


def version_of(client: MlflowClient, project: Project, alias: str) -> str | None:
    """The version that an alias points to; None if there is no such alias."""
    version = by_alias(client, project.name, alias)
    return None if version is None else str(version.version)


def promote(
    client: MlflowClient, settings: Settings, project: Project, version: str | None = None, *, force: bool = False
) -> dict[str, Any]:
    """Make a version (by default the challenger) the champion, and the old champion `previous`. Idempotent.

    Raises PermanentError if the version does not exist, or (unless `force`) if the gate refused it or it is older than the champion:
    of two concurrent promotions, the newer version wins. Raises PlatformError if the store fails or another promotion is in progress,
    and MlflowException if MLflow fails.
    """
    with Store(settings.store).lock(f"promotion-{project.name}", PATIENCE) as lock:
        candidate = version or version_of(client, project, "challenger")
        if candidate is None:
            raise PermanentError(
                f"{project.name} has no challenger", fix=f"Train one with `phaseflow run {project.name}`"
            )
        try:
            model_version = client.get_model_version(project.name, candidate)
        except MlflowException as error:
            if error.error_code not in ABSENT:  # MLflow itself failed
                raise
            raise PermanentError(
                f"{project.name} has no version {candidate!r}",
                fix=f"List them with `python -m services.registry versions --project {project.name}`",
            ) from error
        champion = version_of(client, project, "champion")
        result = {"project": project.name, "version": candidate, "previous": champion, "changed": champion != candidate}
        if champion == candidate:
            return result | {"previous": version_of(client, project, "previous")}
        verdict = model_version.tags.get("phaseflow.verdict")
        if verdict != "passed" and not force:
            raise PermanentError(
                f"Version {candidate} of {project.name} did not pass the gate (verdict: {verdict})",
                fix="Read its model card in MLflow, or promote it anyway with `--force`",
            )
        if champion is not None and int(candidate) < int(champion) and not force:
            raise PermanentError(
                f"Version {candidate} of {project.name} is older than the champion, version {champion}",
                fix="Go back with `phaseflow rollback`, or promote it anyway with `--force`",
            )
        lock.check()  # MLflow may have been slow, and another promotion may have started
        # `previous` first: if the process is killed between the two, the champion is unchanged and a retry starts from the same state.
        if champion is not None:
            client.set_registered_model_alias(project.name, "previous", champion)
        client.set_registered_model_alias(project.name, "champion", candidate)
        if version_of(client, project, "challenger") == candidate:
            client.delete_registered_model_alias(project.name, "challenger")
        events.record(Store(settings.store), project, "promotion", result, source="registry")
        return result


def rollback(client: MlflowClient, settings: Settings, project: Project) -> dict[str, Any]:
    """Make `previous` the champion again; a second rollback undoes the first.

    Raises PermanentError if there is no previous version, otherwise as `promote`.
    """
    with Store(settings.store).lock(f"promotion-{project.name}", PATIENCE) as lock:
        previous, champion = version_of(client, project, "previous"), version_of(client, project, "champion")
        if previous is None:
            raise PermanentError(f"{project.name} has no previous champion", fix="There is nothing to go back to yet")
        lock.check()
        client.set_registered_model_alias(project.name, "champion", previous)
        if champion is not None and champion != previous:
            client.set_registered_model_alias(project.name, "previous", champion)
        result = {"project": project.name, "version": previous, "previous": champion, "changed": champion != previous}
        events.record(Store(settings.store), project, "rollback", result, source="registry")
        return result


def versions(client: MlflowClient, project: Project) -> list[dict[str, Any]]:
    """Every version with its aliases and tags, newest first."""
    aliases = {alias: version_of(client, project, alias) for alias in ("champion", "challenger", "previous")}
    model_versions: list[ModelVersion] = []
    token: str | None = None
    while not model_versions or token:
        try:
            page = client.search_model_versions(f"name = '{project.name}'", max_results=PAGE, page_token=token)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
        model_versions += page
        token = page.token
        if not page:
            break
    return [
        {
            "version": str(model_version.version),
            "aliases": [alias for alias, named in aliases.items() if named == str(model_version.version)],
            "candidate": model_version.tags.get("phaseflow.candidate"),
            "verdict": model_version.tags.get("phaseflow.verdict"),
            "snapshot": model_version.tags.get("phaseflow.snapshot"),
            "erased_from": model_version.tags.get("phaseflow.erased_from"),
            "run": model_version.tags.get("phaseflow.run"),
            "created": model_version.creation_timestamp,
        }
        for model_version in sorted(model_versions, key=lambda model_version: int(model_version.version), reverse=True)
    ]
