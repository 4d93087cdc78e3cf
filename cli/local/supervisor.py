"""Configures and calls supervisord (http://supervisord.org), which listens on a socket of mode 0600."""

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

from cli import variables
from cli.local import launcher, processes, tools
from cli.local.processes import MARK
from cli.local.program import Program
from phaseflow.errors import PlatformError
from phaseflow.settings import PORTS, ROOT, Settings
from phaseflow.store import write_atomic

INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "XDG_CACHE_HOME")
"""Variables that programs inherit besides `PHASEFLOW_*`. They should not depend on the caller's shell."""
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
LIBRARIES: Final = ("WANDB_", "HF_", "CUDA_")
"""Prefixes of library settings that programs inherit: where experiments are mirrored, where weights come from, which
GPUs are used. Keys and tokens are excluded, because each library's login stores them in the home."""
SOCKET_LENGTH: Final = 90
"""Maximum length of the socket's path. The system allows 104 (macOS) to 108 bytes, and supervisord temporarily appends
its PID."""
LOG_BYTES: Final = "10MB"
OPEN_FILES: Final = 65_536
"""Open files and sockets per process, if the hard limit allows it. A login's soft limit is often 1,024."""
SUPERVISORD: Final = "supervisord"
"""Value of the variable MARK in supervisord's own process."""
GUARDIAN: Final = "guardian"
"""Name of the program that restarts a killed supervisord."""
UNREACHABLE: Final = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)
"""Exceptions that a call raises if supervisord does not respond."""


def folder(settings: Settings) -> Path:
    """Folder of supervisord's configuration, socket and log."""
    return settings.home / "supervisor"


def log(settings: Settings, name: str) -> Path:
    """Path of the log of a program or a step."""
    return settings.home / "logs" / f"{name}.log"


def socket_path(settings: Settings) -> Path:
    """Path of the socket: in supervisord's folder, or in a private temporary folder if that path is too long."""
    path = folder(settings) / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_LENGTH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    private_folder = Path(tempfile.gettempdir()) / f"phaseflow-{os.getuid()}-{digest}"
    private_folder.mkdir(mode=0o700, exist_ok=True)
    if private_folder.stat().st_uid != os.getuid() or private_folder.is_symlink():
        raise PlatformError(f"{private_folder} belongs to someone else", fix="Set PHASEFLOW_HOME to a shorter path")
    return private_folder / "s"


def remove_socket(settings: Settings) -> None:
    """Remove the socket and its private folder; call it after supervisord has ended."""
    path = socket_path(settings)
    path.unlink(missing_ok=True)
    if path.parent != folder(settings):
        path.parent.rmdir()


def inherited() -> dict[str, str]:
    """Variables of the caller's environment for supervisord and all programs."""
    return {key: value for key, value in os.environ.items() if key in INHERITED or key in PROXIES}


def environment(settings: Settings) -> dict[str, str]:
    """Additional environment variables for every process of the platform."""
    inherited_variables = {
        key: value
        for key, value in os.environ.items()
        if (key.startswith("PHASEFLOW_") and key not in {MARK, launcher.STARTED, *variables.SELECTION})
        or (key.startswith(LIBRARIES) and not key.endswith(("_KEY", "_TOKEN")))
    }
    if settings.env_file:  # the processes have another working folder
        inherited_variables["PHASEFLOW_ENV_FILE"] = str(settings.env_file.resolve())
    addresses = {f"PHASEFLOW_{name.upper()}_URL": str(getattr(settings, f"{name}_url")) for name in PORTS}
    return (
        tools.read(settings.env_file)
        | inherited_variables
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
            # Disable the telemetry of libraries.
            "DO_NOT_TRACK": "true",
            "BENTOML_DO_NOT_TRACK": "True",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "ORT_DISABLE_TELEMETRY": "1",
            "SCARF_ANALYTICS": "false",
            "SCARF_NO_ANALYTICS": "true",
        }
    )


def overridden(settings: Settings, variables_of_part: Mapping[str, str]) -> dict[str, str]:
    """All variables of a program or a step: the platform's, its own, and over these the tools' that the user sets."""
    return environment(settings) | dict(variables_of_part) | tools.read(settings.env_file)


def configuration(settings: Settings, programs: tuple[Program, ...]) -> str:
    """Content of supervisord.conf."""
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
    """Limit of open files for supervisord and all programs; at most the hard limit, above which supervisord exits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    max_files = 10_240 if sys.platform == "darwin" else OPEN_FILES  # the macOS kernel refuses more
    return max_files if hard == resource.RLIM_INFINITY else min(max_files, hard)


def _guardian(settings: Settings) -> str:
    values = {
        "command": shlex.join([str(settings.python("command")), "-m", "cli.local.guardian"]),
        "directory": ROOT,
        "environment": _pairs(environment(settings) | {MARK: GUARDIAN}),
        "autostart": "true",
        "autorestart": "true",
        "startsecs": "0",
        "redirect_stderr": "true",
        "stdout_logfile": log(settings, GUARDIAN),
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": "1",
    }
    return _section(f"program:{GUARDIAN}", values)


def _program(settings: Settings, program: Program) -> str:
    values = {
        "command": shlex.join(launcher.command(settings, program)),
        "directory": ROOT,
        "environment": _pairs(overridden(settings, program.environment) | {MARK: program.name}),
        "autostart": "false",  # `up` starts each program when its steps are done
        "autorestart": "true",
        "startsecs": "5",
        "startretries": "1000",  # the pause grows by one second per attempt
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
    """Format the variables as `KEY="value",…`, which has no escapes."""
    pairs = []
    for key, value in sorted(values.items()):
        quote = "'" if '"' in value else '"'
        if quote in value or "\n" in value:
            raise PlatformError(f"{key} contains both kinds of quotes or a line break", fix=f"Correct or unset {key}")
        pairs.append(f"{key}={quote}{value}{quote}")
    return ",".join(pairs)


def write(settings: Settings, programs: tuple[Program, ...]) -> None:
    """Write the configuration. Only the owner can access the home."""
    for path in (settings.home, folder(settings), settings.home / "logs"):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    write_atomic(folder(settings) / "supervisord.conf", configuration(settings, programs).encode(), mode=0o600)


@contextlib.contextmanager
def lock(settings: Settings) -> Iterator[None]:
    """Allow one `up` or `down` at a time. The system releases the lock if its holder dies."""
    folder(settings).mkdir(parents=True, exist_ok=True)
    with (folder(settings) / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def call(settings: Settings, method: str, *arguments: object) -> Any:
    """Call supervisord's XML-RPC API (http://supervisord.org/api.html); raises one of UNREACHABLE if it does not respond."""
    transport = SupervisorTransport(None, None, f"unix://{socket_path(settings)}")
    try:
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            return getattr(server, method)(*arguments)
    finally:
        transport.close()


def states(settings: Settings) -> dict[str, dict[str, Any]]:
    """Supervisord's state of each program, by name; empty if supervisord is not running or is shutting down."""
    try:
        return {info["name"]: info for info in call(settings, "supervisor.getAllProcessInfo")}
    except UNREACHABLE:
        return {}
    except xmlrpc.client.Fault as error:
        if _stopping(error):
            return {}
        raise


def running(settings: Settings) -> bool:
    """Whether supervisord responds."""
    try:
        call(settings, "supervisor.getPID")
    except UNREACHABLE:
        return False
    except xmlrpc.client.Fault as error:
        if not _stopping(error):
            raise
    return True


def _stopping(error: xmlrpc.client.Fault) -> bool:
    """Whether supervisord refused a call because it is shutting down."""
    return bool(error.faultCode == Faults.SHUTDOWN_STATE)


def launch(settings: Settings, seconds: float = 20) -> None:
    """Start supervisord without any program.

    Raises PlatformError if it does not respond in time.
    """
    log_path = log(settings, "supervisord")
    with log_path.open("ab") as output:
        process = subprocess.Popen(
            [settings.python("command"), "-m", "supervisor.supervisord", "-c", folder(settings) / "supervisord.conf"],
            cwd=ROOT,
            env=inherited() | environment(settings) | {MARK: SUPERVISORD},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + seconds
    while not running(settings):
        if process.poll() is not None or time.monotonic() > deadline:
            raise PlatformError(
                f"supervisord did not start:\n{tail(log_path)}", fix=f"Read {log_path}, then `phaseflow up`"
            )
        time.sleep(0.05)


def update(settings: Settings) -> None:
    """Make a running supervisord load its configuration. Changed programs are stopped, and `up` starts them again."""
    ((added, changed, removed),) = call(settings, "supervisor.reloadConfig")
    for name in [*changed, *removed]:
        call(settings, "supervisor.stopProcessGroup", name)
        call(settings, "supervisor.removeProcessGroup", name)
    for name in [*changed, *added]:
        call(settings, "supervisor.addProcessGroup", name)


def shutdown(settings: Settings, seconds: float = 60) -> None:
    """Shut down supervisord and all programs, and wait for the end, even if another caller has requested it."""
    try:
        call(settings, "supervisor.shutdown")
    except UNREACHABLE:
        return
    except xmlrpc.client.Fault as error:
        if not _stopping(error):
            raise
    deadline = time.monotonic() + seconds
    while running(settings) and time.monotonic() < deadline:
        time.sleep(0.05)
    psutil.wait_procs(list(processes.members(settings.home, {SUPERVISORD})), max(0.0, deadline - time.monotonic()))


def start(settings: Settings, name: str) -> None:
    """Start a program. It is no error if the guardian has already started it."""
    try:
        call(settings, "supervisor.startProcess", name, False)
    except xmlrpc.client.Fault as error:
        if error.faultCode != Faults.ALREADY_STARTED:
            raise


def start_all(settings: Settings) -> None:
    """Start every configured program that is not running."""
    call(settings, "supervisor.startAllProcesses", False)


def members(settings: Settings) -> list[psutil.Process]:
    """All processes of this home's platform, including those whose supervisord died."""
    return list(processes.members(settings.home))


def reap(settings: Settings, seconds: float = 5) -> int:
    """Terminate the remaining processes, then kill them; return their number.

    Raises PlatformError if one survives.
    """
    processes.end(settings.home, {GUARDIAN}, seconds=seconds)  # otherwise it would restart supervisord
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
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:])
