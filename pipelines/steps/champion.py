"""The present champion, fetched from MLflow to be judged on the same holdout."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from phaseflow import formats
from phaseflow.contract import Project
from pipelines.steps import tracking

AGAINST: Final = "phaseflow.judged_against"
"""Tag of a version: the champion that it was compared with."""
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

    It is a tag of the challenger's version. Raises PlatformError when MLflow can't be reached.
    """
    client = tracking.client()
    found = tracking.reach(
        lambda: client.search_model_versions(
            f"name = '{project.name}'", max_results=VERSIONS, order_by=["version_number DESC"]
        )
    )
    looks = [json.loads(one.tags[LOOK]) for one in found if one.tags.get(AGAINST) == version and LOOK in one.tags]
    return looks[0] if looks else None


def read(project: Project, version: str, folder: Path) -> Champion:
    """A version from its downloaded files; raises PlatformError when they are of another format."""
    manifest = json.loads(next(folder.rglob("model.json")).read_bytes())
    formats.require(f"model.json of {project.name} {version}", manifest.get("format"), formats.MODEL)
    return Champion(
        version=version,
        onnx=next(folder.rglob("model.onnx")).read_bytes(),
        classes=tuple(manifest["classes"] or ()),
        candidate=manifest["candidate"],
    )
