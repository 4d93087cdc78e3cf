"""What the machine must have before anything starts: environments, ports, memory, disk."""

from __future__ import annotations

import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from phaseflow.errors import PlatformError
from phaseflow.settings import PORTS, Settings

GIB: Final = 1 << 30
MEMORY: Final = 3 * GIB
"""The whole platform at work, a training included, stays below it."""
DISK: Final = 2 * GIB
COMPONENTS: Final = ("command", "dags", "pipelines", "tabular", "registry", "serving", "monitor", "portal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    ok: bool
    found: str
    fix: str = ""
    required: bool = True


def environments(settings: Settings) -> Finding:
    """Whether every component has its interpreter."""
    missing = [name for name in COMPONENTS if not settings.python(name).exists()]
    return Finding(
        subject="environments",
        ok=not missing,
        found=f"missing in {settings.venvs}: {', '.join(missing)}" if missing else f"{len(COMPONENTS)} of them",
        fix="Run `make setup`" if missing else "",
    )


def memory(needed: int = MEMORY) -> Finding:
    """Whether `needed` bytes of memory are free."""
    free = psutil.virtual_memory().available
    return Finding(
        subject="memory",
        ok=free >= needed,
        found=f"{free / GIB:.1f} GiB free, {needed / GIB:.1f} needed",
        fix="" if free >= needed else "Close programs that use much memory",
    )


def disk(home: Path, needed: int = DISK) -> Finding:
    """Whether `needed` bytes of disk are free where the platform's data goes."""
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    return Finding(
        subject="disk",
        ok=free >= needed,
        found=f"{free / GIB:.1f} GiB free at {folder}, {needed / GIB:.1f} needed",
        fix="" if free >= needed else "Free disk space, or set PHASEFLOW_HOME to a folder on another disk",
    )


def ports(settings: Settings, names: tuple[str, ...]) -> Finding:
    """Whether all the ports of `names` are free, and who holds one that is not."""
    taken = {name: port for name in names if not _free(port := settings.port(name))}
    offset = settings.port_offset + 1000
    return Finding(
        subject="ports",
        ok=not taken,
        found="; ".join(f"port {port} ({name}) is taken by {_holder(port)}" for name, port in taken.items())
        or f"{len(names)} free",
        fix=f"Stop it, or move all ports: `export PHASEFLOW_PORT_OFFSET={offset}`" if taken else "",
    )


def require(*findings: Finding) -> None:
    """Raise PlatformError when one of them is not in order."""
    bad = [finding for finding in findings if not finding.ok]
    if bad:
        raise PlatformError(
            "; ".join(f"{finding.subject}: {finding.found}" for finding in bad),
            fix="; ".join(dict.fromkeys(finding.fix for finding in bad)),
        )


def all_ports() -> tuple[str, ...]:
    """Names of every port of the platform."""
    return tuple(PORTS)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's remains don't count
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    return "another user's process"
                process = psutil.Process(connection.pid)
                return f"{process.name()} (process {process.pid})"
    except psutil.Error:
        pass  # macOS shows other processes' sockets to root alone
    return "another process"
