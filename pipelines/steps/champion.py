"""The present champion, fetched from MLflow to be judged on the same holdout."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from phaseflow import formats
from phaseflow.contract import Project
from pipelines.steps import tracking


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
