"""The version: written in one place, and generated into the others."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
import yaml

from cli import version
from phaseflow import __version__
from phaseflow.settings import ROOT


def test_every_file_receives_the_version() -> None:
    texts = {path.relative_to(ROOT).as_posix(): text for path, text in version.files(ROOT, "7.8.9")}
    assert tomllib.loads(texts["pyproject.toml"])["project"]["version"] == "7.8.9"
    locked = tomllib.loads(texts["uv.lock"])["package"]
    assert [package["version"] for package in locked if package["name"] == "phaseflow"] == ["7.8.9"]
    charts = {name: yaml.safe_load(text) for name, text in texts.items() if name.endswith("Chart.yaml")}
    assert len(charts) == len(list(ROOT.glob("helm/*/Chart.yaml")))
    for chart in charts.values():
        assert chart["version"] == "7.8.9"
        assert {item["version"] for item in chart.get("dependencies", []) if "file://" in item["repository"]} <= {
            "7.8.9"
        }
    assert charts["helm/mlflow/Chart.yaml"]["appVersion"] == "7.8.9"
    assert charts["helm/kubeflow-pipelines/Chart.yaml"]["appVersion"] == "2.17.0"  # upstream's


def test_no_other_package_in_the_lock_changes() -> None:
    before, after = (ROOT / "uv.lock").read_text(), dict(version.files(ROOT, "7.8.9"))[ROOT / "uv.lock"]
    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert changed == [(f'version = "{__version__}"', 'version = "7.8.9"')]


def test_a_stale_file_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert version.main(["--check"]) == 0
    monkeypatch.setattr(version, "__version__", "7.8.9")
    assert version.main(["--check"]) == 1
    assert "stale: the version in helm/mlflow/Chart.yaml (`make generate`)\n" in capsys.readouterr().err


def test_the_changelog_has_the_version() -> None:
    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_command_prints_the_version() -> None:
    completed = subprocess.run(
        [ROOT / "bin" / "phaseflow", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert completed.stdout == f"phaseflow {__version__}\n"
