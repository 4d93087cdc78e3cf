"""Promotion and rollback. MLflow has no compare-and-set on aliases, so that both hold a lock."""

from __future__ import annotations

from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from phaseflow import events
from phaseflow.contract import Project
from phaseflow.errors import PermanentError
from phaseflow.settings import Settings
from phaseflow.store import Store

PATIENCE: Final = 60.0
"""Seconds to wait for another promotion."""
PAGE: Final = 200
"""Versions of one answer of MLflow."""
ABSENT: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""What MLflow answers where there is no such version or alias."""


def by_alias(client: MlflowClient, project: Project, alias: str) -> str | None:
    """The version that an alias names."""
    try:
        return str(client.get_model_version_by_alias(project.name, alias).version)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise


def promote(
    client: MlflowClient, settings: Settings, project: Project, version: str | None = None, *, force: bool = False
) -> dict[str, Any]:
    """Make a version (by default the challenger) the champion, and the champion `previous`; again changes nothing.

    Raises PermanentError for a version that doesn't exist, that the gate refused (unless `force`), or that is older than
    the champion while it was the one a pipeline has just made (two at once: the newer wins); PlatformError where the store
    fails or another promotion goes on, MlflowException where MLflow fails.
    """
    with Store(settings.store).lock(f"promotion-{project.name}", PATIENCE) as lock:
        chosen = version or by_alias(client, project, "challenger")
        if chosen is None:
            raise PermanentError(
                f"{project.name} has no challenger", fix=f"Train one by `phaseflow run {project.name}`"
            )
        try:
            found = client.get_model_version(project.name, chosen)
        except MlflowException as error:
            if error.error_code not in ABSENT:  # MLflow itself failed
                raise
            raise PermanentError(
                f"{project.name} has no version {chosen!r}",
                fix=f"See them by `python -m services.registry versions --project {project.name}`",
            ) from error
        champion = by_alias(client, project, "champion")
        result = {"project": project.name, "version": chosen, "previous": champion, "changed": champion != chosen}
        if champion == chosen:
            return result | {"previous": by_alias(client, project, "previous")}
        verdict = found.tags.get("phaseflow.verdict")
        if verdict != "passed" and not force:
            raise PermanentError(
                f"Version {chosen} of {project.name} did not pass the gate (verdict: {verdict})",
                fix="Read its model card in MLflow; promote it all the same by `--force`",
            )
        if champion is not None and int(chosen) < int(champion) and not force:
            raise PermanentError(
                f"Version {chosen} of {project.name} is older than the champion, version {champion}",
                fix="Go back by `phaseflow rollback`, or promote it all the same by `--force`",
            )
        lock.check()  # MLflow may have been slow, and another promotion may be at work by now
        # `previous` first: killed between the two, the champion is the old one and a retry finds the same state.
        if champion is not None:
            client.set_registered_model_alias(project.name, "previous", champion)
        client.set_registered_model_alias(project.name, "champion", chosen)
        if by_alias(client, project, "challenger") == chosen:
            client.delete_registered_model_alias(project.name, "challenger")
        events.record(Store(settings.store), project, "promotion", result, source="registry")
        return result


def rollback(client: MlflowClient, settings: Settings, project: Project) -> dict[str, Any]:
    """Make `previous` the champion again; a second rollback goes forward again.

    Raises PermanentError when there is no previous version, else as `promote` does.
    """
    with Store(settings.store).lock(f"promotion-{project.name}", PATIENCE) as lock:
        previous, champion = by_alias(client, project, "previous"), by_alias(client, project, "champion")
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
    """Every version, the newest first, with its aliases and tags."""
    aliases = {alias: by_alias(client, project, alias) for alias in ("champion", "challenger", "previous")}
    found: list[ModelVersion] = []
    token: str | None = None
    while not found or token:
        try:
            page = client.search_model_versions(f"name = '{project.name}'", max_results=PAGE, page_token=token)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
        found += page
        token = page.token
        if not page:
            break
    return [
        {
            "version": str(one.version),
            "aliases": [alias for alias, named in aliases.items() if named == str(one.version)],
            "candidate": one.tags.get("phaseflow.candidate"),
            "verdict": one.tags.get("phaseflow.verdict"),
            "snapshot": one.tags.get("phaseflow.snapshot"),
            "erased_from": one.tags.get("phaseflow.erased_from"),
            "run": one.tags.get("phaseflow.run"),
            "created": one.creation_timestamp,
        }
        for one in sorted(found, key=lambda one: int(one.version), reverse=True)
    ]
