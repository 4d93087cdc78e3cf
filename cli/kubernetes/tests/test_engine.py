"""Requirements of kind on this machine, from the outputs of docker and kind as recorded."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from cli.kubernetes import engine
from cli.local.machine import GIB, Finding

INFO = {"NCPU": 4, "MemTotal": 8 * GIB, "DockerRootDir": "/var/lib/docker", "Name": "a-virtual-machine"}
"""The fields of `docker info --format '{{json .}}'` that are read."""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first in the PATH, for docker and kind."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def install(programs: Path, name: str, output: str, *, error: str = "", code: int = 0) -> None:
    """A program that prints a recorded output."""
    (programs / f"{name}.out").write_text(output)
    (programs / f"{name}.err").write_text(error)
    script = f'#!/bin/sh\ncat "{programs}/{name}.out"; cat "{programs}/{name}.err" >&2; exit {code}\n'
    (programs / name).write_text(script)
    (programs / name).chmod(0o755)


def subjects(profile: str = "small") -> dict[str, Finding]:
    return {finding.subject: finding for finding in engine.findings(profile)}


def test_a_machine_with_enough_of_everything_is_ready(programs: Path) -> None:
    install(programs, "docker", json.dumps(INFO | {"Name": platform.node(), "DockerRootDir": str(programs)}))
    install(programs, "kind", "kind v0.30.0 go1.24.6 linux/amd64\n")
    findings = subjects()
    assert findings.keys() == {"container engine", "engine CPU", "engine memory", "engine disk", "kind version"}
    assert [name for name, finding in findings.items() if not finding.ok] in ([], ["engine disk"])
    assert "GiB free" in findings["engine disk"].observed
    assert "20 needed" in findings["engine disk"].observed
    assert findings["engine CPU"].observed == "4, 2 needed"


def test_an_engine_that_does_not_respond_is_named_before_anything_is_built(programs: Path) -> None:
    error = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n"
    install(programs, "docker", '{"ServerErrors": ["x"]}\n', error=error, code=1)
    install(programs, "kind", "kind v0.30.0 go1.24.6 darwin/arm64\n")
    findings = subjects()
    assert findings.keys() == {"container engine", "kind version"}
    assert not findings["container engine"].ok
    assert findings["container engine"].observed == error.strip()
    assert "Start it" in findings["container engine"].fix


def test_an_engine_that_is_too_small_is_named_with_the_setting(programs: Path) -> None:
    install(programs, "docker", json.dumps(INFO | {"NCPU": 2, "MemTotal": 4 * GIB}))
    install(programs, "kind", "kind v0.30.0 go1.24.6 darwin/arm64\n")
    findings = subjects("kind")
    assert findings["engine CPU"].observed == "2, 4 needed"
    assert findings["engine memory"].observed == "4.0 GiB, 8 needed"
    for subject in ("engine CPU", "engine memory"):
        assert not findings[subject].ok
        assert "Docker Desktop" in findings[subject].fix


def test_the_disk_of_an_engine_in_a_virtual_machine_is_only_mentioned(programs: Path) -> None:
    install(programs, "docker", json.dumps(INFO))
    install(programs, "kind", "kind v0.30.0 go1.24.6 darwin/arm64\n")
    disk = subjects()["engine disk"]
    assert (disk.ok, disk.required) == (True, False)
    assert disk.observed == "on a-virtual-machine, which this machine can't see; 20 GiB needed"


@pytest.mark.parametrize(("version", "ok"), [("0.22.0", False), ("0.23.0", True), ("0.30.0", True), ("1.0.0", True)])
def test_kind_creates_nodes_of_a_supported_kubernetes(programs: Path, version: str, ok: bool) -> None:
    install(programs, "docker", json.dumps(INFO))
    install(programs, "kind", f"kind v{version} go1.24.6 linux/amd64\n")
    finding = subjects()["kind version"]
    assert finding.ok is ok
    assert bool(finding.fix) is not ok
