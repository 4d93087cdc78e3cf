"""Fixtures: an MLflow server with real versions of each project, and services as processes with their own homes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
import pytest

from cli.local import bentoml
from phaseflow import discovery, testing
from phaseflow.settings import ROOT, from_environment
from phaseflow.testing import free_port

VENVS = from_environment().venvs
PROJECTS = ("titanic", "house_prices", "from_scratch", "customer_segments")


until = functools.partial(testing.until, ignore=httpx.TransportError, interval=0.02)
"""Wait for the first true value of a condition, although the service may be down meanwhile."""


@dataclass(slots=True)
class Mlflow:
    """An MLflow server that can be stopped and started again."""

    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [VENVS / "registry" / "bin" / "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.home}/mlflow.db"]
        command += ["--artifacts-destination", str(self.home / "artifacts"), "--serve-artifacts"]
        off = {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | off, stdout=log, stderr=log, start_new_session=True, cwd=self.home
            )
        until(lambda: httpx.get(f"{self.url}/health").status_code == 200, 300)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def champion(self, project: str, version: str) -> None:
        """Set the alias `champion`."""
        body = {"name": project, "alias": "champion", "version": version}
        httpx.post(f"{self.url}/api/2.0/mlflow/registered-models/alias", json=body).raise_for_status()

    def artifact(self, project: str, version: str) -> Path:
        """The model file of a version."""
        params = {"name": project, "version": version}
        response = httpx.get(f"{self.url}/api/2.0/mlflow/model-versions/get-download-uri", params=params).json()
        return self.home / "artifacts" / str(response["artifact_uri"]).removeprefix("mlflow-artifacts:/") / "model.onnx"


@dataclass(frozen=True, slots=True)
class Registry:
    """The MLflow server, and per project: rows and labels as clients send them, and the outputs of each version."""

    mlflow: Mlflow
    rows: dict[str, list[dict[str, Any]]]
    labels: dict[str, list[Any]]
    outputs: dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    home = tmp_path_factory.mktemp("mlflow")
    server = Mlflow(home, free_port())
    server.start()
    try:
        environment = os.environ | {
            "PHASEFLOW_HOME": str(home / "home"),
            "PHASEFLOW_MLFLOW_URL": server.url,
            "PHASEFLOW_OFFLINE": "1",
            "PHASEFLOW_DATA_MIRROR": "",  # use the samples, even if this machine has the data
            "PYTHONPATH": str(ROOT),
        }
        script = Path(__file__).parent / "publish.py"
        completed = subprocess.run(
            [VENVS / "tabular" / "bin" / "python", script, home],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, completed.stderr
        published = {name: json.loads((home / f"{name}.json").read_text()) for name in PROJECTS}
        yield Registry(
            server,
            {name: content["rows"] for name, content in published.items()},
            {name: content["labels"] for name, content in published.items()},
            {
                name: {version["version"]: version["answers"] for version in content["versions"].values()}
                for name, content in published.items()
            },
        )
    finally:
        server.stop()


@dataclass(slots=True)
class Serving:
    """A service process, its home, and a client for it."""

    home: Path
    mlflow_url: str
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=lambda: bentoml.command(from_environment()))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.home / "serving.log").read_text()

    def start(self, *, ready: bool = True) -> Serving:
        self.home.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PHASEFLOW_")} | {
            "PHASEFLOW_HOME": str(self.home),
            "PHASEFLOW_MLFLOW_URL": self.mlflow_url,
            "PYTHONPATH": str(ROOT),
        }
        command = [*self.prefix, *self.command, "--port", str(self.port)]
        with (self.home / "serving.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment | self.environment, cwd=ROOT, stdout=log, stderr=log
            )
        until(lambda: self.get("/readyz" if ready else "/healthz").status_code == 200)
        return self

    def stop(self) -> None:
        """Stop the process with SIGTERM, as the supervisor does."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    @property
    def worker(self) -> psutil.Process:
        """The process that serves. Its parent is BentoML's process manager."""
        assert self.process is not None
        (worker,) = psutil.Process(self.process.pid).children()
        return worker

    def kill(self) -> None:
        """Stop the process manager and the worker with SIGKILL."""
        if self.process is not None:
            processes = [psutil.Process(self.process.pid)]
            processes += processes[0].children()
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self.process.wait(30)
            psutil.wait_procs(processes, 30)
            self.process = None

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=10)

    def post(self, path: str, **body: Any) -> httpx.Response:
        if "content" in body:
            body.setdefault("headers", {"content-type": "application/json"})
        return httpx.post(f"{self.url}{path}", timeout=30, **body)

    def predict(self, project: str = "titanic", **changes: Any) -> httpx.Response:
        return self.post(f"/{project}/predict", json=dict(discovery.get(project).example) | changes)

    def version(self, project: str = "titanic") -> str:
        return str(self.get(f"/{project}/model").json().get("version"))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series with these labels."""
        total = 0.0
        for line in self.get("/metrics").text.splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{label}"' in series for key, label in labels.items()):
                total += float(value)
        return total

    def logged(self, kind: str = "predictions", project: str = "titanic") -> pl.DataFrame:
        """The rows of the log in the store."""
        files = sorted((self.home / "store" / kind / project).rglob("*.parquet"))
        return pl.concat([pl.read_parquet(file) for file in files]) if files else pl.DataFrame({"id": []})


@contextmanager
def cached(paths: pytest.TempPathFactory, script: str, projects: Sequence[str]) -> Iterator[Serving]:
    """A service with the models of `projects` in its cache, created by `script`; MLflow is unreachable."""
    home, folder = paths.mktemp("home"), paths.mktemp("projects")
    completed = subprocess.run(
        [VENVS / "tabular" / "bin" / "python", Path(__file__).parent / script, folder, home],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    environment = {"PHASEFLOW_PROJECTS": str(folder), "PHASEFLOW_ONLY": ",".join(projects)}
    service = Serving(home, f"http://127.0.0.1:{free_port()}", environment=environment)
    yield service.start()
    service.kill()


@pytest.fixture
def serve(registry: Registry, tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """A factory of services that end with the test; version 1 of every project is champion at the start."""
    for project in PROJECTS:
        registry.mlflow.champion(project, "1")
    with ExitStack() as stack:

        def make(name: str = "home", **changes: Any) -> Serving:
            service = Serving(tmp_path / name, changes.pop("mlflow_url", registry.mlflow.url), **changes)
            stack.callback(service.kill)
            return service

        yield make


@pytest.fixture(scope="session")
def serving(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A shared service for tests that only send requests."""
    for project in PROJECTS:
        registry.mlflow.champion(project, "1")
    service = Serving(tmp_path_factory.mktemp("serving"), registry.mlflow.url).start()
    until(lambda: len([p for p in service.get("/projects").json() if p["version"]]) == len(PROJECTS))
    yield service
    service.kill()
