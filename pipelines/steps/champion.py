"""The present champion, fetched from MLflow to be judged on the same holdout."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

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

    Raises PlatformError when MLflow can't be reached.
    """
    client = tracking.client()
    version = tracking.by_alias(client, project.name, "champion")
    if version is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(tracking.download(version, folder))
        manifest = json.loads(next(root.rglob("model.json")).read_bytes())
        content = next(root.rglob("model.onnx")).read_bytes()
    return Champion(
        version=str(version.version),
        onnx=content,
        classes=tuple(manifest["classes"] or ()),
        candidate=manifest["candidate"],
    )
