"""A real MLflow server and a small snapshot, for tests of steps, engine and registration."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.local import mlflow, passwords
from phaseflow import discovery
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import Store
from phaseflow.testing import free_port, wait_for
from pipelines.etl.extract import extract
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import validate


def is_up(url: str) -> bool:
    """Whether the URL responds without an error."""
    try:
        return httpx.get(url, timeout=2).status_code < 400
    except httpx.HTTPError:
        return False


class Process:
    """A child process in its own session, so that its whole process group can be killed."""

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
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with a temporary home and free ports, also set in the environment."""
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
def mlflow_server(settings: Settings) -> Iterator[Process]:
    """A running MLflow. A test that kills it must start it again."""
    (settings.home / "mlflow").mkdir()
    argv = mlflow.command(settings)
    argv[argv.index("--port") + 1] = settings.mlflow_url.rsplit(":", 1)[1]
    process = Process(argv, settings.home / "mlflow.log", **mlflow.environment())
    process.start()
    wait_for("MLflow's start", lambda: is_up(f"{settings.mlflow_url}/health"))
    yield process
    process.kill()


@pytest.fixture(scope="session")
def titanic_snapshot(settings: Settings) -> str:
    """A snapshot of titanic's sample."""
    project, store = discovery.get("titanic"), Store(settings.store)
    extracted = extract(project, "base", settings, store)
    validate(project, "base", store)
    return str(snapshot(project, "base", store, extracted)["snapshot"])
