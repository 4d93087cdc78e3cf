"""Checks this machine's requirements. Each failed check has a fix."""

from __future__ import annotations

import platform as system
import shutil
import sys
from pathlib import Path

from cli.local import binaries, machine, supervisor
from cli.local.machine import Finding
from phaseflow.settings import Settings

INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
"""Limit of inotify instances. If it is low, Airflow and others that watch files fail: 'no space left on device'."""


def examine(settings: Settings) -> list[Finding]:
    """Run all checks."""
    running = supervisor.running(settings)
    paths = binaries.find(settings)
    home = binaries.grafana(settings)
    return [
        _python(sys.version_info[:2]),
        _program("uv", "`make setup` installs it", required=False),
        _program("git", _install("git")),
        _program("make", _install("make")),
        _program("curl", _install("curl"), required=False),
        machine.environments(settings),
        machine.disk(settings.home),
        Finding(subject="memory", ok=True, observed="the platform is running") if running else machine.memory(),
        Finding(subject="ports", ok=True, observed="the platform uses them")
        if running
        else machine.ports(settings, machine.all_ports()),
        *(_binary(name, paths.get(name)) for name in binaries.NAMES),
        Finding(
            subject="grafana",
            ok=home is not None,
            observed=str(home) if home else "not found: the portal shows the dashboards",
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
        observed=f"{system.python_version()}; 3.11 to 3.14 needed",
        fix="" if ok else "`make setup PYTHON=python3.13`, or another of these versions",
    )


def _program(name: str, fix: str, *, required: bool = True) -> Finding:
    path = shutil.which(name)
    return Finding(
        subject=name,
        ok=path is not None,
        observed=path or "not on the PATH",
        fix="" if path else fix,
        required=required,
    )


def _binary(name: str, path: Path | None) -> Finding:
    return Finding(
        subject=name, ok=path is not None, observed=str(path or "not found"), fix="" if path else binaries.hint()
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
            observed=f"{instances} instances, 128 needed",
            fix="" if ok else "`sysctl fs.inotify.max_user_instances=512`",
            required=False,
        )
    ]
