"""A model of another release is refused by name, with the fix."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

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
    with pytest.raises(PlatformError) as caught:
        model.load("titanic", "3", tmp_path, digests["model.onnx"], digests["model.json"])
    assert str(caught.value) == (
        "model.json of titanic 3 has the format 2; this release reads format 1. "
        "Use the release that wrote it or a newer one, or make it again with this one."
    )
