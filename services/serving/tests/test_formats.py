"""A model in another format is refused with an error that names it and the fix."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from phaseflow import PlatformError
from services.serving import model


def test_a_model_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    files = {
        "model.onnx": b"",
        "model.json": json.dumps({"format": 2, "candidate": ["of", "another", "type"]}).encode(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    with pytest.raises(PlatformError) as error:
        model.load("titanic", "3", tmp_path, digests["model.onnx"], digests["model.json"])
    assert str(error.value) == (
        "model.json of titanic 3 has the format 2; this release reads format 1. "
        "Use the release that wrote it or a newer one, or make it again with this one."
    )


@pytest.mark.parametrize(
    "contract",
    [
        {},
        {"task": "image", "inputs": [{"name": "image", "kind": "image", "shape": [8, 8, 1]}]},
        {"task": "segmentation", "inputs": [{"name": "x", "kind": "vector", "shape": [3]}]},
    ],
)
def test_a_model_of_version_0_1_0_is_read_whatever_its_contract_says(contract: dict[str, object]) -> None:
    about = {
        "format": 1,
        "candidate": "tree",
        "sha256": "a" * 64,
        "snapshot": "b",
        "created": "2026-11-20T00:00:00+00:00",
        "metrics": {"accuracy": 0.9},
        "reference": [],
    }
    manifest = msgspec.json.decode(json.dumps(about | contract), type=model.Manifest)
    assert (manifest.candidate, manifest.classes) == ("tree", None)
