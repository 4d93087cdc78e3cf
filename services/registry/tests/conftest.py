"""A real MLflow server, for all tests of the session."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from cli.local import mlflow
from phaseflow.settings import Settings, from_environment
from phaseflow.testing import free_port


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    home = tmp_path_factory.mktemp("home")
    (home / "mlflow").mkdir()
    port = free_port()
    settings = from_environment({"PHASEFLOW_HOME": str(home), "PHASEFLOW_MLFLOW_URL": f"http://127.0.0.1:{port}"})
    argv = mlflow.command(settings)
    argv[argv.index("--port") + 1] = str(port)
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            argv, env=os.environ | mlflow.environment(), stdout=log, stderr=log, start_new_session=True
        )
    end = time.monotonic() + 90
    while True:
        try:
            with urlopen(f"{settings.mlflow_url}/health"):
                break
        except OSError:
            if time.monotonic() > end:
                pytest.fail((home / "log").read_text())
            time.sleep(0.1)
    yield settings
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
