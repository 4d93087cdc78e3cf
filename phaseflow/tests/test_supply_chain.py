"""Supply chain: pinned dependencies and images, bills of materials, scans, and the tests of the threat model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from phaseflow.settings import ROOT

GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())


def test_every_test_in_the_threat_model_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| who |", "| --- |"))]
    assert len(rows) >= 10
    for row in rows:
        tests = re.findall(r"`([^` ]+\.py)::(test_\w+)`", row)
        assert tests, row
        for path, test in tests:
            source = (ROOT / path).read_text()
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), f"{path}::{test}"


def uv() -> str:
    return shutil.which("uv") or str(ROOT / ".venvs" / "uv" / "bin" / "uv")


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    out = tmp_path_factory.mktemp("sbom")
    subprocess.run([sys.executable, ROOT / "k8s" / "sbom.py", uv(), out], check=True)
    return {path.name.removesuffix(".cdx.json"): json.loads(path.read_text()) for path in out.iterdir()}


def names(document: dict) -> set[str]:
    return {f"{component['name']}=={component['version']}" for component in document["components"]}


def locked(group: str) -> set[str]:
    """The packages of a dependency group, from the requirements export of uv."""
    completed = subprocess.run(
        [uv(), "export", "--quiet", "--frozen", "--no-hashes", "--no-annotate", "--no-header", "--only-group", group],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.split(";")[0].strip() for line in completed.stdout.splitlines() if "==" in line}


def test_every_group_and_the_lock_has_a_bill_of_materials(documents: dict[str, dict]) -> None:
    assert documents.keys() == {*GROUPS, "lock"}
    for name, document in documents.items():
        assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
        subject = document["metadata"]["component"]
        assert subject["name"] == ("phaseflow" if name == "lock" else f"phaseflow/{name}")
        references = [component["bom-ref"] for component in document["components"]]
        assert len(set(references)) == len(references)
        targets = {*references, subject["bom-ref"]}
        for dependency in document["dependencies"]:
            assert {dependency["ref"], *dependency.get("dependsOn", [])} <= targets
        for component in document["components"]:
            assert component["purl"] == component["bom-ref"]
            assert component["type"] == "library"


def test_a_bill_of_materials_contains_every_package_of_its_group(documents: dict[str, dict]) -> None:
    for group in GROUPS:
        assert names(documents[group]) == locked(group)
    packages = {
        f"{package['name']}=={package['version']}" for package in LOCK["package"] if package["name"] != "phaseflow"
    }
    assert names(documents["lock"]) == packages


def test_uv_is_installed_by_version_and_hashes() -> None:
    text = (ROOT / "bin" / "uv.txt").read_text()
    assert re.search(r"^uv==\d+\.\d+\.\d+ \\$", text, re.MULTILINE)
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", text)) >= 10  # a wheel for each platform
    for path in ("bin/environment", "k8s/Dockerfile"):
        commands = re.findall(r"pip install [^&|\n]*", (ROOT / path).read_text())
        assert commands, path
        for command in commands:
            assert "uv" not in command or "`" in command or "--require-hashes" in command, command
    assert "-r bin/uv.txt" in (ROOT / "bin" / "environment").read_text()
    assert "-r bin/uv.txt" in (ROOT / "k8s" / "Dockerfile").read_text()
    assert "!bin/uv.txt" in (ROOT / ".dockerignore").read_text().splitlines()


def test_a_release_is_not_built_on_a_base_without_a_digest(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text(
        f'#!/bin/sh\necho "$BASE" "$@" >>{tmp_path}/calls\n'
        'case "$*" in *--print*) echo \'{"target": {}}\' ;; esac\n'
    )
    docker.chmod(0o755)

    def build(**environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [ROOT / "bin" / "images"], env={"PATH": path} | environment, capture_output=True, text=True
        )

    refused = build(PUSH="1", BASE="python:3.11-slim-bookworm")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: the base image python:3.11-slim-bookworm has no digest, and its tag may move. "
        "Ask the registry for it: `make lock-images`.\n"
    )
    assert not (tmp_path / "calls").exists()
    assert build(PUSH="1", BASE=f"python:3.11@sha256:{'0' * 64}").returncode == 0
    assert "--push" in (tmp_path / "calls").read_text()
    assert build(BASE="python:3.11-slim-bookworm").returncode == 0  # a build for the local machine only


def test_every_image_has_the_same_base() -> None:
    bake = (ROOT / "k8s" / "images.hcl").read_text()
    (base,) = re.findall(r'^variable "BASE" \{ default = "([^"]+)" \}$', bake, re.MULTILINE)
    dockerfile = (ROOT / "k8s" / "Dockerfile").read_text()
    assert f"ARG BASE={base.partition('@')[0]}\n" in dockerfile
    assert {line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM ")} == {"${BASE}"}
    arguments = re.findall(r"^ +args += \{(.*)\}$", bake, re.MULTILINE)
    assert arguments
    assert all("BASE = BASE" in argument for argument in arguments)
    # A locally built base has the same tag and another digest.
    assert f"BASE={base.partition('@')[0]} " in (ROOT / "bin" / "test-images").read_text()


def components(target: str) -> list[str]:
    """The components that a target of the bake file builds an image of."""
    bake = (ROOT / "k8s" / "images.hcl").read_text()
    match = re.search(rf'target "{target}" \{{.*?component = (\[[^\]]*\])', bake, re.DOTALL)
    assert match is not None
    names: list[str] = json.loads(match[1])
    return names


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_workflow_may_only_read_and_pins_its_actions(path: Path) -> None:
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert "This workflow has not run yet" in text
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+\.\d+\.\d+|[0-9a-f]{40})", step["uses"]), step["uses"]
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


def test_a_release_has_every_image_for_both_architectures_signed_with_a_bill_of_materials() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yaml").read_text())
    images, release_charts = workflow["jobs"]["images"], workflow["jobs"]["charts"]
    assert images["strategy"]["matrix"]["component"] == [*components("image"), *components("environment")]
    for job in (images, release_charts):
        assert job["permissions"] == {"contents": "read", "packages": "write", "id-token": "write"}
    scripts = [step.get("run", "") for step in images["steps"]]
    (build,) = (step for step in images["steps"] if "bin/images" in step.get("run", ""))
    assert build["env"]["PUSH"] == "1"  # bin/images then builds for amd64 and arm64
    assert "--sbom=true" in build["run"]
    for command in ("cosign sign --yes", "cosign attest --yes --type cyclonedx", "k8s/sbom.py"):
        assert any(command in script for script in scripts), command
    assert "cosign sign --yes" in release_charts["steps"][-1]["run"]
    assert "bin/release-charts" in release_charts["steps"][-1]["run"]


def test_the_scan_covers_every_group_and_image() -> None:
    text = (ROOT / ".github" / "workflows" / "security.yaml").read_text()
    workflow = yaml.safe_load(text)
    loop = re.search(r"for group in ([\w ]+); do", text)
    assert loop is not None
    assert set(loop[1].split()) == GROUPS.keys() - {"test"}  # the group `dev` includes it
    assert workflow["jobs"]["images"]["strategy"]["matrix"]["component"] == components("image")
