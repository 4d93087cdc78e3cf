"""The present champion, fetched from MLflow to be judged on the same holdout."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from phaseflow import formats
from phaseflow.contract import Project
from phaseflow.reference import Bins, from_json
from phaseflow.toolkit.scalars import Vocabularies
from pipelines.steps import tracking

AGAINST: Final = "phaseflow.judged_against"
"""Tag of a version: the champion that it was compared with."""
CONFIRMS: Final = "phaseflow.confirms"
"""Tag of a version that is a champion's own model with a new reference: that champion's version."""
LOOK: Final = "phaseflow.look"
"""Tag of a version: its look at the holdout, as JSON."""
VERSIONS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """A registered version's model and what it said of itself."""

    version: str
    onnx: bytes
    classes: tuple[str, ...]
    candidate: str
    reference: tuple[Bins, ...] = ()
    """The bins of the watched features and of the predictions."""
    vocabularies: Vocabularies = field(default_factory=dict)


def fetch(project: Project) -> Champion | None:
    """The version that the alias names, None where there is none.

    Raises PlatformError when MLflow can't be reached, or the version is of another format.
    """
    client = tracking.client()
    version = tracking.by_alias(client, project.name, "champion")
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return read(project, str(version.version), Path(tracking.download(version, folder)))


def last_look(project: Project, version: str) -> dict[str, Any] | None:
    """The last look (`pipelines.steps.budget`) that compared a challenger with this version, None where there was none.

    It is a tag of the challenger's version. A champion that was confirmed goes on with the looks that it had before, because
    the model is the same. Raises PlatformError when MLflow can't be reached.
    """
    client = tracking.client()
    versions = tracking.reach(
        lambda: client.search_model_versions(
            f"name = '{project.name}'", max_results=VERSIONS, order_by=["version_number DESC"]
        )
    )
    judged = [challenger.tags for challenger in versions if challenger.tags.get(AGAINST) == version]
    confirmed = [
        champion.tags for champion in versions if str(champion.version) == version and CONFIRMS in champion.tags
    ]
    return next((json.loads(tags[LOOK]) for tags in (*judged, *confirmed) if LOOK in tags), None)


def read(project: Project, version: str, folder: Path) -> Champion:
    """A version from its downloaded files; raises PlatformError when they are of another format."""
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
