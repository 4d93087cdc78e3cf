"""A real MLflow server and a small snapshot, for tests of steps, engine and registration."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from phaseflow import registry
from phaseflow.embedded import mlflow, passwords
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import Store
from pipelines.etl.extract import extract
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import validate


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(what: str, look: Callable[[], bool], seconds: float = 90) -> None:
    """Poll until it is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if look():
            return
        time.sleep(0.1)
    pytest.fail(f"{what} did not happen within {seconds:.0f} s")


def answers(url: str) -> bool:
    """Whether a page is there."""
    try:
        return httpx.get(url, timeout=2).status_code < 400
    except httpx.HTTPError:
        return False


class Process:
    """A program of its own session, whose whole group can be killed."""

    def __init__(self, argv: list[str], log: Path, **environment: str) -> None:
        self.argv, self.log, self.environment = argv, log, os.environ | environment
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                self.argv, cwd=ROOT, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )

    def kill(self) -> None:
        if self.child is not None and self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of this session's home and ports, also in the environment."""
    home = tmp_path_factory.mktemp("home")
    values = {
        "PHASEFLOW_HOME": str(home),
        "PHASEFLOW_OFFLINE": "1",
        "PHASEFLOW_DATA_MIRROR": "",
        "PHASEFLOW_MLFLOW_URL": f"http://127.0.0.1:{free_port()}",
        "PHASEFLOW_PIPELINES_URL": f"http://127.0.0.1:{free_port()}",
        "PYTHONPATH": str(ROOT),
    }
    before = dict(os.environ)
    os.environ.update(values)
    passwords.ensure(from_environment())
    yield from_environment()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def mlflow_server(place: Settings) -> Iterator[Process]:
    """A running MLflow; a test that kills it starts it again."""
    (place.home / "mlflow").mkdir()
    argv = mlflow.command(place)
    argv[argv.index("--port") + 1] = place.mlflow_url.rsplit(":", 1)[1]
    process = Process(argv, place.home / "mlflow.log", **mlflow.environment())
    process.start()
    wait_for("MLflow's start", lambda: answers(f"{place.mlflow_url}/health"))
    yield process
    process.kill()


@pytest.fixture(scope="session")
def titanic_snapshot(place: Settings) -> str:
    """A snapshot of the sample."""
    project, store = registry.get("titanic"), Store(place.store)
    found = extract(project, "base", place, store)
    validate(project, "base", store)
    return str(snapshot(project, "base", store, found)["snapshot"])
