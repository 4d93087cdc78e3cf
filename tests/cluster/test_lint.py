"""What every profile makes, held by the tools that people hold charts by; kubeconform by the schemas of the cluster's own API server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from phaseflow.settings import ROOT
from tests.cluster import schemas


def test_the_charts_are_clean_or_say_why(tmp_path: Path) -> None:
    openapi = subprocess.run(["kubectl", "get", "--raw", "/openapi/v2"], capture_output=True, text=True, check=True)
    assert schemas.write(json.loads(openapi.stdout), tmp_path) > 100
    done = subprocess.run(
        [ROOT / "bin" / "lint-charts"],
        capture_output=True,
        text=True,
        env={**os.environ, "KUBECONFORM_SCHEMAS": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Invalid: 0, Errors: 0" in done.stdout
    assert "Failed checks: 0" in done.stdout


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
    found = json.loads((tmp_path / "outer-things-v1.json").read_text())
    assert found["additionalProperties"] is False
    assert found["definitions"]["io.example.Inner"] == {
        "type": "object",
        "properties": {"count": {"type": "integer"}},
        "additionalProperties": False,
    }
