"""Requirements that are checked before anything starts: environments, ports, memory and disk."""

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
"""Required free memory. The whole platform under load, including a training, uses less."""
DISK: Final = 2 * GIB
COMPONENTS: Final = ("command", "dags", "pipelines", "tabular", "registry", "serving", "monitor", "portal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check."""

    subject: str
    ok: bool
    observed: str
    fix: str = ""
    required: bool = True


def environments(settings: Settings) -> Finding:
    """Check that every component has its interpreter."""
    missing = [name for name in COMPONENTS if not settings.python(name).exists()]
    return Finding(
        subject="environments",
        ok=not missing,
        observed=f"missing in {settings.venvs}: {', '.join(missing)}"
        if missing
        else f"all {len(COMPONENTS)} installed",
        fix="Run `make setup`" if missing else "",
    )


def memory(needed: int = MEMORY) -> Finding:
    """Check that `needed` bytes of memory are free."""
    free = psutil.virtual_memory().available
    return Finding(
        subject="memory",
        ok=free >= needed,
        observed=f"{free / GIB:.1f} GiB free, {needed / GIB:.1f} needed",
        fix="" if free >= needed else "Close programs that use much memory",
    )


def disk(home: Path, needed: int = DISK) -> Finding:
    """Check that `needed` bytes of disk are free in the platform's home."""
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    return Finding(
        subject="disk",
        ok=free >= needed,
        observed=f"{free / GIB:.1f} GiB free at {folder}, {needed / GIB:.1f} needed",
        fix="" if free >= needed else "Free disk space, or set PHASEFLOW_HOME to a folder on another disk",
    )


def ports(settings: Settings, names: tuple[str, ...]) -> Finding:
    """Check that the ports of `names` are free; for others, name the process that uses them."""
    occupied = {name: port for name in names if not _free(port := settings.port(name))}
    offset = settings.port_offset + 1000
    return Finding(
        subject="ports",
        ok=not occupied,
        observed="; ".join(f"port {port} ({name}) is in use by {_port_user(port)}" for name, port in occupied.items())
        or f"{len(names)} free",
        fix=f"Stop it, or move all ports: `export PHASEFLOW_PORT_OFFSET={offset}`" if occupied else "",
    )


def require(*findings: Finding) -> None:
    """Raise PlatformError if one of the checks failed."""
    failures = [finding for finding in findings if not finding.ok]
    if failures:
        raise PlatformError(
            "; ".join(f"{finding.subject}: {finding.observed}" for finding in failures),
            fix="; ".join(dict.fromkeys(finding.fix for finding in failures)),
        )


def all_ports() -> tuple[str, ...]:
    """Names of all ports of the platform."""
    return tuple(PORTS)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignore connections in TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def _port_user(port: int) -> str:
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    return "another user's process"
                process = psutil.Process(connection.pid)
                return f"{process.name()} (process {process.pid})"
    except psutil.Error:
        pass  # macOS shows the sockets of other processes only to root
    return "another process"
