"""What the machine has and lacks, each with the fix."""

from __future__ import annotations

import platform as system
import shutil
import sys
from pathlib import Path

from phaseflow.embedded import binaries, machine, supervisor
from phaseflow.embedded.machine import Finding
from phaseflow.settings import Settings

INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
"""Airflow and others watch files; below it they fail with 'no space left on device'."""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything."""
    running = supervisor.running(settings)
    found = binaries.find(settings)
    home = binaries.grafana(settings)
    return [
        _python(sys.version_info[:2]),
        _program("uv", "`make setup` brings its own", required=False),
        _program("git", _install("git")),
        _program("make", _install("make")),
        _program("curl", _install("curl"), required=False),
        machine.environments(settings),
        machine.disk(settings.home),
        Finding(subject="memory", ok=True, found="the platform runs") if running else machine.memory(),
        Finding(subject="ports", ok=True, found="the platform holds them")
        if running
        else machine.ports(settings, machine.all_ports()),
        *(_binary(name, found.get(name)) for name in binaries.NAMES),
        Finding(
            subject="grafana",
            ok=home is not None,
            found=str(home) if home else "none: the portal draws the dashboards",
            fix="" if home else binaries.GRAFANA,
            required=False,
        ),
        *_inotify(),
    ]


def _python(version: tuple[int, ...]) -> Finding:
    ok = (3, 11) <= version < (3, 15)
    return Finding(
        subject="python",
        ok=ok,
        found=f"{system.python_version()}; 3.11 to 3.14 needed",
        fix="" if ok else "`make setup PYTHON=python3.13` with one of those",
    )


def _program(name: str, fix: str, *, required: bool = True) -> Finding:
    path = shutil.which(name)
    return Finding(
        subject=name, ok=path is not None, found=path or "not on the PATH", fix="" if path else fix, required=required
    )


def _binary(name: str, path: Path | None) -> Finding:
    return Finding(
        subject=name, ok=path is not None, found=str(path or "not here"), fix="" if path else binaries.hint()
    )


def _install(package: str) -> str:
    return f"`brew install {package}`" if sys.platform == "darwin" else f"`apt install {package}`"


def _inotify() -> list[Finding]:
    if not INOTIFY.exists():
        return []
    instances = int(INOTIFY.read_text())
    ok = instances >= 128
    return [
        Finding(
            subject="inotify",
            ok=ok,
            found=f"{instances} instances, 128 needed",
            fix="" if ok else "`sysctl fs.inotify.max_user_instances=512`",
            required=False,
        )
    ]
