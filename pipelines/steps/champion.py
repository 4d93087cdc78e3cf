"""The current champion, fetched from MLflow to be evaluated on the same holdout."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mlflow.entities.model_registry import ModelVersion

from phaseflow import formats
from phaseflow.contract import Project
from phaseflow.reference import Bins, from_json
from phaseflow.toolkit.scalars import Vocabularies
from pipelines.steps import tracking

AGAINST: Final = "phaseflow.judged_against"
"""Version tag: the champion that the version was compared with."""
CONFIRMS: Final = "phaseflow.confirms"
"""Version tag of a champion's own model with a new reference: the version of that champion."""
LOOK: Final = "phaseflow.look"
"""Version tag: its look at the holdout, as JSON."""
DRIFT: Final = "phaseflow.drift"
"""Version tag: drift of its newest rows from the champion's reference, as JSON (feature, psi, rows)."""
VERSIONS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The model of a registered version and its metadata."""

    version: str
    onnx: bytes
    classes: tuple[str, ...]
    candidate: str
    reference: tuple[Bins, ...] = ()
    """Bins of the monitored features and of the predictions."""
    vocabularies: Vocabularies = field(default_factory=dict)


def fetch(project: Project) -> Champion | None:
    """Return the champion, or None if no version has the alias.

    Raises PlatformError if MLflow can't be reached or the version has another format.
    """
    client = tracking.client()
    version = tracking.by_alias(client, project.name, "champion")
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return read(project, str(version.version), Path(tracking.download(version, folder)))


def last_look(project: Project, version: str) -> dict[str, Any] | None:
    """Return the last look (`pipelines.steps.budget`) of a challenger at this version, or None.

    The look is a tag of the challenger's version. A confirmed champion continues the looks of the version that it
    confirms, because the model is the same. Raises PlatformError if MLflow can't be reached.
    """
    versions = _latest(project)
    compared = [challenger.tags for challenger in versions if challenger.tags.get(AGAINST) == version]
    confirmed = [
        champion.tags for champion in versions if str(champion.version) == version and CONFIRMS in champion.tags
    ]
    return next((json.loads(tags[LOOK]) for tags in (*compared, *confirmed) if LOOK in tags), None)


def withstood(project: Project, version: str, *, snapshot: str) -> int:
    """Count the earlier challengers of this version whose rows had drifted from its reference by more than `Drift.psi`.

    The challenger that was trained from `snapshot` is the current one and does not count, nor do confirmed versions.
    Raises PlatformError if MLflow can't be reached.
    """
    versions = [
        challenger.tags
        for challenger in _latest(project)
        if DRIFT in challenger.tags and CONFIRMS not in challenger.tags
    ]
    earlier = [tags for tags in versions if tags.get(AGAINST) == version and tags.get("phaseflow.snapshot") != snapshot]
    return sum(json.loads(tags[DRIFT])["psi"] > project.drift.psi for tags in earlier)


def _latest(project: Project) -> list[ModelVersion]:
    """Return the latest `VERSIONS` versions, newest first."""
    client = tracking.client()
    return list(
        tracking.translate_errors(
            lambda: client.search_model_versions(
                f"name = '{project.name}'", max_results=VERSIONS, order_by=["version_number DESC"]
            )
        )
    )


def read(project: Project, version: str, folder: Path) -> Champion:
    """Read a version from its downloaded files. Raises PlatformError if they have another format."""
    manifest = json.loads(next(folder.rglob("model.json")).read_bytes())
    formats.require(f"model.json of {project.name} {version}", manifest.get("format"), formats.MODEL)
    return Champion(
        version=version,
        onnx=next(folder.rglob("model.onnx")).read_bytes(),
        classes=tuple(manifest["classes"] or ()),
        candidate=manifest["candidate"],
        reference=from_json(manifest.get("reference", ())),
        vocabularies=manifest.get("vocabularies", {}),
    )
