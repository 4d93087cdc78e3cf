"""Prometheus and Alertmanager from the distribution's packages, into a cache that does not exist yet."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from phaseflow import PlatformError
from phaseflow.embedded import binaries
from phaseflow.settings import from_environment

debian = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="only Debian and its kin have packages of this kind")


def package(folder: Path, name: str, programs: tuple[str, ...]) -> None:
    """A package whose programs say their version."""
    root = folder / name
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a test\n"
    )
    for program in programs:
        path = root / "usr" / "bin" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {program} 1\n")
        path.chmod(0o755)
    subprocess.run(["dpkg-deb", "--build", root, folder / f"{name}.deb"], check=True, capture_output=True)


@debian
def test_packages_are_unpacked_into_a_new_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package(tmp_path, "prometheus", ("prometheus", "promtool"))
    package(tmp_path, "prometheus-alertmanager", ("prometheus-alertmanager",))
    fake = tmp_path / "bin" / "apt-get"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n[ "$1" = download ] && cp {tmp_path}/*.deb .\n')
    fake.chmod(0o755)
    system = [str(Path(found).parent) for name in ("dpkg", "sh", "cp") if (found := shutil.which(name))]
    monkeypatch.setenv("PATH", ":".join([str(fake.parent), *system]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there" / "yet"))
    monkeypatch.setattr(binaries, "find", lambda _: found_in_the_cache())
    found = binaries.ensure(from_environment({}), lambda _: None)
    for program in (found.prometheus, found.promtool, found.alertmanager):
        assert program.is_relative_to(tmp_path / "not" / "there" / "yet")
        assert subprocess.run([program, "--version"], check=True, capture_output=True).stdout.endswith(b" 1\n")


def found_in_the_cache() -> dict[str, Path]:
    """As `find`, but blind to what this machine has installed."""
    names = {"prometheus": "prometheus", "promtool": "promtool", "alertmanager": "prometheus-alertmanager"}
    return {name: binaries.cache() / file for name, file in names.items() if (binaries.cache() / file).exists()}


def test_what_is_missing_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(PlatformError) as caught:
        binaries.ensure(from_environment({"PHASEFLOW_OFFLINE": "1"}), lambda _: None)
    assert str(caught.value).startswith("prometheus, promtool, alertmanager is not on this machine.")
    assert ("brew install" if sys.platform == "darwin" else "https://prometheus.io/download") in str(caught.value)
