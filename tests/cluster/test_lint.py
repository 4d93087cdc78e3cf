"""Linting of every profile's manifests; kubeconform uses the schemas of the cluster's own API server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from phaseflow.settings import ROOT
from tests.cluster import schemas


def test_the_linters_find_no_problem_in_the_charts(tmp_path: Path) -> None:
    openapi = subprocess.run(["kubectl", "get", "--raw", "/openapi/v2"], capture_output=True, text=True, check=True)
    assert schemas.write(json.loads(openapi.stdout), tmp_path) > 100
    completed = subprocess.run(
        [ROOT / "bin" / "lint-charts"],
        capture_output=True,
        text=True,
        env={**os.environ, "KUBECONFORM_SCHEMAS": str(tmp_path)},
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "Invalid: 0, Errors: 0" in completed.stdout
    assert "Failed checks: 0" in completed.stdout


def test_the_schemas_refuse_an_unknown_field(tmp_path: Path) -> None:
    reference = {"$ref": "#/definitions/io.example.Inner"}
    document = {
        "definitions": {
            "io.example.Outer": {
                "type": "object",
                "properties": {"inner": reference},
                "x-kubernetes-group-version-kind": [{"group": "things.example", "kind": "Outer", "version": "v1"}],
            },
            "io.example.Inner": {"type": "object", "properties": {"count": {"type": "integer", "format": "int32"}}},
        }
    }
    assert schemas.write(document, tmp_path) == 1
    schema = json.loads((tmp_path / "outer-things-v1.json").read_text())
    assert schema["additionalProperties"] is False
    assert schema["definitions"]["io.example.Inner"] == {
        "type": "object",
        "properties": {"count": {"type": "integer"}},
        "additionalProperties": False,
    }
