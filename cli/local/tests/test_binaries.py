"""Installation of Prometheus and Alertmanager from Debian packages into a new cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.local import binaries
from phaseflow import PlatformError
from phaseflow.settings import from_environment

debian = pytest.mark.skipif(
    not shutil.which("dpkg-deb"), reason="needs dpkg-deb, which only Debian and its derivatives have"
)


def package(folder: Path, name: str, programs: tuple[str, ...]) -> None:
    """Build a package whose programs print their version."""
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
    system = [str(Path(path).parent) for name in ("dpkg", "sh", "cp") if (path := shutil.which(name))]
    monkeypatch.setenv("PATH", ":".join([str(fake.parent), *system]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there" / "yet"))
    monkeypatch.setattr(binaries, "find", lambda _: cached_binaries())
    programs = binaries.ensure(from_environment({}), lambda _: None)
    for program in (programs.prometheus, programs.promtool, programs.alertmanager):
        assert program.is_relative_to(tmp_path / "not" / "there" / "yet")
        assert subprocess.run([program, "--version"], check=True, capture_output=True).stdout.endswith(b" 1\n")


def cached_binaries() -> dict[str, Path]:
    """Like `find`, but without the programs that are installed on this machine."""
    names = {"prometheus": "prometheus", "promtool": "promtool", "alertmanager": "prometheus-alertmanager"}
    return {name: binaries.cache() / file for name, file in names.items() if (binaries.cache() / file).exists()}


def test_missing_programs_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(PlatformError) as error:
        binaries.ensure(from_environment({"PHASEFLOW_OFFLINE": "1"}), lambda _: None)
    assert str(error.value).startswith("prometheus, promtool, alertmanager is not on this machine.")
    assert ("brew install" if sys.platform == "darwin" else "https://prometheus.io/download") in str(error.value)
