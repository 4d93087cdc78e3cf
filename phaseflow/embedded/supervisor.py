"""supervisord (http://supervisord.org): its configuration from a plan, and the calls it answers on a socket of mode 0600."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from phaseflow.embedded import guardian, launcher, processes
from phaseflow.embedded.processes import MARK
from phaseflow.embedded.program import Program
from phaseflow.errors import PlatformError
from phaseflow.settings import PORTS, ROOT, Settings
from phaseflow.store import write_atomic

INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "XDG_CACHE_HOME")
"""Of the caller's environment, beside `PHASEFLOW_*`: what runs should not hang on a person's shell."""
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
LIBRARIES: Final = ("WANDB_", "HF_", "CUDA_")
"""Settings of what the projects use: where experiments are mirrored to, where weights come from, which GPUs are used. No key
and no token: each library's own login keeps those in the home."""
SOCKET_LENGTH: Final = 90
"""Of a Unix socket's path the system allows 104 (macOS) to 108 bytes, and supervisord adds its id for a moment."""
LOG_BYTES: Final = "10MB"
OPEN_FILES: Final = 65_536
"""That each process may have open, sockets included, where the system's hard limit allows it: a login's soft limit is often 1,024."""
GONE: Final = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)
"""What a call raises when no supervisord answers."""


def folder(settings: Settings) -> Path:
    """Where its configuration, socket and own log are."""
    return settings.home / "supervisor"


def log(settings: Settings, name: str) -> Path:
    """The log of a program or a step."""
    return settings.home / "logs" / f"{name}.log"


def socket_path(settings: Settings) -> Path:
    """Its socket: in its folder, else, where that path is too long, in a private folder of the temporary one."""
    path = folder(settings) / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_LENGTH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    private = Path(tempfile.gettempdir()) / f"phaseflow-{os.getuid()}-{digest}"
    private.mkdir(mode=0o700, exist_ok=True)
    if private.stat().st_uid != os.getuid() or private.is_symlink():
        raise PlatformError(f"{private} belongs to someone else", fix="Set PHASEFLOW_HOME to a shorter path")
    return private / "s"


def remove_socket(settings: Settings) -> None:
    """Remove it, with the private folder that was made for it; once supervisord is gone."""
    path = socket_path(settings)
    path.unlink(missing_ok=True)
    if path.parent != folder(settings):
        path.parent.rmdir()


def inherited() -> dict[str, str]:
    """What supervisord itself gets, and all that it starts."""
    return {key: value for key, value in os.environ.items() if key in INHERITED or key in PROXIES}


def environment(settings: Settings) -> dict[str, str]:
    """What every process of the platform gets besides."""
    passed = {
        key: value
        for key, value in os.environ.items()
        if (key.startswith("PHASEFLOW_") and key != MARK)
        or (key.startswith(LIBRARIES) and not key.endswith(("_KEY", "_TOKEN")))
    }
    addresses = {f"PHASEFLOW_{name.upper()}_URL": str(getattr(settings, f"{name}_url")) for name in PORTS}
    return (
        passed
        | addresses
        | {
            "PHASEFLOW_HOME": str(settings.home),
            "PHASEFLOW_STORE": settings.store,
            "PHASEFLOW_VENVS": str(settings.venvs),
            "PHASEFLOW_PORT_OFFSET": str(settings.port_offset),
            "PHASEFLOW_DATA_MIRROR": str(settings.data_mirror or ""),
            "PHASEFLOW_OFFLINE": "1" if settings.offline else "",
            "PHASEFLOW_DASHBOARDS": str(settings.home / "monitoring" / "dashboards"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            # No library phones home.
            "DO_NOT_TRACK": "true",
            "BENTOML_DO_NOT_TRACK": "True",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "ORT_DISABLE_TELEMETRY": "1",
            "SCARF_ANALYTICS": "false",
            "SCARF_NO_ANALYTICS": "true",
        }
    )


def configuration(settings: Settings, programs: tuple[Program, ...]) -> str:
    """The text of supervisord.conf."""
    blocks = [
        _section("unix_http_server", {"file": socket_path(settings), "chmod": "0600"}),
        _section(
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
        _section(
            "supervisord",
            {
                "nodaemon": "true",
                "silent": "true",
                "logfile": folder(settings) / "supervisord.log",
                "logfile_maxbytes": LOG_BYTES,
                "logfile_backups": "1",
                "pidfile": folder(settings) / "supervisord.pid",
                "childlogdir": settings.home / "logs",
                "umask": "077",
                "minfds": open_files(),
                "identifier": "phaseflow",
            },
        ),
    ]
    blocks.append(_guardian(settings))
    blocks += [_program(settings, program) for program in programs]
    return "\n".join(blocks)


def open_files() -> int:
    """The limit of open files that supervisord sets for itself and all that it starts; never above the hard one, where it would end."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = (
        OPEN_FILES if sys.platform != "darwin" else 10_240
    )  # macOS' kernel refuses more, whatever the hard limit says
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


def _guardian(settings: Settings) -> str:
    values = {
        "command": shlex.join([str(settings.python("command")), "-m", "phaseflow.embedded.guardian"]),
        "directory": ROOT,
        "environment": _pairs(environment(settings) | {MARK: guardian.NAME}),
        "autostart": "true",
        "autorestart": "true",
        "startsecs": "0",
        "redirect_stderr": "true",
        "stdout_logfile": log(settings, guardian.NAME),
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": "1",
    }
    return _section(f"program:{guardian.NAME}", values)


def _program(settings: Settings, program: Program) -> str:
    values = {
        "command": shlex.join(launcher.command(settings, program)),
        "directory": ROOT,
        "environment": _pairs(environment(settings) | {**program.environment, MARK: program.name}),
        "autostart": "false",  # `up` starts each when what it needs is ready
        "autorestart": "true",
        "startsecs": "5",
        "startretries": "1000",  # the pause between tries grows by a second each
        "stopsignal": program.stop_signal,
        "stopwaitsecs": program.stop_seconds,
        "stopasgroup": "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": log(settings, program.name),
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": "2",
    }
    return _section(f"program:{program.name}", values)


def _section(name: str, values: Mapping[str, object]) -> str:
    lines = [f"[{name}]", *(f"{key}={str(value).replace('%', '%%')}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _pairs(values: Mapping[str, str]) -> str:
    """The form `KEY="value",…`, which knows no escapes."""
    pairs = []
    for key, value in sorted(values.items()):
        quote = "'" if '"' in value else '"'
        if quote in value or "\n" in value:
            raise PlatformError(f"{key} holds both kinds of quotes or a line break", fix=f"Correct or unset {key}")
        pairs.append(f"{key}={quote}{value}{quote}")
    return ",".join(pairs)


def write(settings: Settings, programs: tuple[Program, ...]) -> None:
    """Write the configuration; the home is its owner's alone."""
    for path in (settings.home, folder(settings), settings.home / "logs"):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    write_atomic(folder(settings) / "supervisord.conf", configuration(settings, programs).encode(), mode=0o600)


@contextlib.contextmanager
def lock(settings: Settings) -> Iterator[None]:
    """One `up` or `down` at a time; the system frees it when its holder dies."""
    folder(settings).mkdir(parents=True, exist_ok=True)
    with (folder(settings) / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def call(settings: Settings, method: str, *arguments: object) -> Any:
    """One call of its XML-RPC interface (http://supervisord.org/api.html); raises one of GONE when none answers."""
    transport = SupervisorTransport(None, None, f"unix://{socket_path(settings)}")
    try:
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            return getattr(server, method)(*arguments)
    finally:
        transport.close()


def states(settings: Settings) -> dict[str, dict[str, Any]]:
    """What supervisord knows of each program, by name; empty when it is not running."""
    try:
        return {info["name"]: info for info in call(settings, "supervisor.getAllProcessInfo")}
    except GONE:
        return {}


def running(settings: Settings) -> bool:
    """Whether supervisord answers."""
    try:
        call(settings, "supervisor.getPID")
    except GONE:
        return False
    return True


def launch(settings: Settings, seconds: float = 20) -> None:
    """Start supervisord with nothing running yet.

    Raises PlatformError when it does not answer in time.
    """
    own = log(settings, "supervisord")
    with own.open("ab") as output:
        process = subprocess.Popen(
            [settings.python("command"), "-m", "supervisor.supervisord", "-c", folder(settings) / "supervisord.conf"],
            cwd=ROOT,
            env=inherited() | environment(settings) | {MARK: "supervisord"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + seconds
    while not running(settings):
        if process.poll() is not None or time.monotonic() > deadline:
            raise PlatformError(f"supervisord did not start:\n{tail(own)}", fix=f"Read {own}, then `phaseflow up`")
        time.sleep(0.05)


def update(settings: Settings) -> None:
    """Make a running supervisord follow its configuration: what changed is stopped, and started again by `up`."""
    ((added, changed, removed),) = call(settings, "supervisor.reloadConfig")
    for name in [*changed, *removed]:
        call(settings, "supervisor.stopProcessGroup", name)
        call(settings, "supervisor.removeProcessGroup", name)
    for name in [*changed, *added]:
        call(settings, "supervisor.addProcessGroup", name)


def shutdown(settings: Settings, seconds: float = 60) -> None:
    """Ask supervisord to stop everything and itself, and wait for that."""
    try:
        process = psutil.Process(call(settings, "supervisor.getPID"))
        call(settings, "supervisor.shutdown")
        process.wait(timeout=seconds)
    except (*GONE, psutil.Error):
        return


def start(settings: Settings, name: str) -> None:
    """Start a program; one that runs already, because the guardian started it, is no error."""
    try:
        call(settings, "supervisor.startProcess", name, False)
    except xmlrpc.client.Fault as error:
        if error.faultCode != Faults.ALREADY_STARTED:
            raise


def start_all(settings: Settings) -> None:
    """Start every program of the configuration that does not run."""
    call(settings, "supervisor.startAllProcesses", False)


def members(settings: Settings) -> list[psutil.Process]:
    """Every process that belongs to the platform of this home, also one whose supervisord died."""
    return list(processes.members(settings.home))


def reap(settings: Settings, seconds: float = 5) -> int:
    """End what is left, asking first and then killing; gives how many there were.

    Raises PlatformError when one survives.
    """
    processes.end(settings.home, {guardian.NAME}, seconds=seconds)  # it would start supervisord again
    count, survivors = processes.end(settings.home, seconds=seconds)
    if survivors:
        pids = [str(process.pid) for process in survivors]
        raise PlatformError(
            f"Processes of the platform survive: {', '.join(pids)}", fix=f"End them with `kill -9 {' '.join(pids)}`"
        )
    return count


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64_000))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return "(it wrote no log)"
    return "\n".join(text.splitlines()[-lines:])
