"""A real MLflow with two real versions of each project, and services over it, each a process with a home of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from phaseflow import registry
from phaseflow.settings import ROOT, from_environment

VENVS = from_environment().venvs
PUBLISHED = ("titanic", "house_prices", "from_scratch", "customer_segments")


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The condition's first true value; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = condition()
        except httpx.TransportError:
            found = None
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


@dataclass(slots=True)
class Mlflow:
    """The server, which can go away and come back."""

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
        until(lambda: httpx.get(f"{self.url}/health").status_code == 200, 90)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def champion(self, project: str, version: str) -> None:
        """Set the alias."""
        body = {"name": project, "alias": "champion", "version": version}
        httpx.post(f"{self.url}/api/2.0/mlflow/registered-models/alias", json=body).raise_for_status()

    def artifact(self, project: str, version: str) -> Path:
        """The file of a version's model."""
        asked = {"name": project, "version": version}
        said = httpx.get(f"{self.url}/api/2.0/mlflow/model-versions/get-download-uri", params=asked).json()
        return self.home / "artifacts" / str(said["artifact_uri"]).removeprefix("mlflow-artifacts:/") / "model.onnx"


@dataclass(frozen=True, slots=True)
class World:
    """What was published: rows as clients send them, and the training side's answers by version."""

    mlflow: Mlflow
    rows: dict[str, list[dict[str, Any]]]
    truths: dict[str, list[Any]]
    answers: dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("mlflow")
    server = Mlflow(home, free_port())
    server.start()
    try:
        environment = os.environ | {
            "PHASEFLOW_HOME": str(home / "home"),
            "PHASEFLOW_MLFLOW_URL": server.url,
            "PHASEFLOW_OFFLINE": "1",
            "PHASEFLOW_DATA_MIRROR": "",  # the samples, whatever files this machine has
            "PYTHONPATH": str(ROOT),
        }
        script = Path(__file__).parent / "publish.py"
        done = subprocess.run(
            [VENVS / "tabular" / "bin" / "python", script, home],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = {name: json.loads((home / f"{name}.json").read_text()) for name in PUBLISHED}
        yield World(
            server,
            {name: said["rows"] for name, said in told.items()},
            {name: said["truths"] for name, said in told.items()},
            {
                name: {version["version"]: version["answers"] for version in said["versions"].values()}
                for name, said in told.items()
            },
        )
    finally:
        server.stop()


@dataclass(slots=True)
class Serving:
    """A service, its home, and how it is asked."""

    home: Path
    mlflow_url: str
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=lambda: ["python", "-m", "services.serving"])
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
        program = VENVS / "serving" / "bin" / self.command[0]
        command = [*self.prefix, program, *self.command[1:], "--port", str(self.port)]
        with (self.home / "serving.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment | self.environment, cwd=ROOT, stdout=log, stderr=log
            )
        until(lambda: self.get("/readyz" if ready else "/healthz").status_code == 200)
        return self

    def stop(self) -> None:
        """As the supervisor does."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def kill(self) -> None:
        """As nobody should."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=10)

    def post(self, path: str, **body: Any) -> httpx.Response:
        if "content" in body:
            body.setdefault("headers", {"content-type": "application/json"})
        return httpx.post(f"{self.url}{path}", timeout=30, **body)

    def predict(self, project: str = "titanic", **changes: Any) -> httpx.Response:
        return self.post(f"/{project}/predict", json=dict(registry.get(project).example) | changes)

    def version(self, project: str = "titanic") -> str:
        return str(self.get(f"/{project}/model").json().get("version"))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series with these labels."""
        found = 0.0
        for line in self.get("/metrics").text.splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{key}="{label}"' in series for key, label in labels.items()):
                found += float(value)
        return found

    def logged(self, kind: str = "predictions", project: str = "titanic") -> pl.DataFrame:
        """What readers of the store see."""
        files = sorted((self.home / "store" / kind / project).rglob("*.parquet"))
        return pl.concat([pl.read_parquet(file) for file in files]) if files else pl.DataFrame({"id": []})


@contextmanager
def cached(paths: pytest.TempPathFactory, script: str, projects: Sequence[str]) -> Iterator[Serving]:
    """A service that has the models of `projects`, which `script` makes, in its cache; MLflow is away."""
    home, folder = paths.mktemp("home"), paths.mktemp("projects")
    done = subprocess.run(
        [VENVS / "tabular" / "bin" / "python", Path(__file__).parent / script, folder, home],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    environment = {"PHASEFLOW_PROJECTS": str(folder), "PHASEFLOW_ONLY": ",".join(projects)}
    found = Serving(home, f"http://127.0.0.1:{free_port()}", environment=environment)
    yield found.start()
    found.kill()


@pytest.fixture
def serve(world: World, tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Makes services that end with the test; version 1 of every project is champion when it begins."""
    for project in PUBLISHED:
        world.mlflow.champion(project, "1")
    with ExitStack() as stack:

        def make(name: str = "home", **changes: Any) -> Serving:
            found = Serving(tmp_path / name, changes.pop("mlflow_url", world.mlflow.url), **changes)
            stack.callback(found.kill)
            return found

        yield make


@pytest.fixture(scope="session")
def serving(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One service for all tests that only ask."""
    for project in PUBLISHED:
        world.mlflow.champion(project, "1")
    found = Serving(tmp_path_factory.mktemp("serving"), world.mlflow.url).start()
    until(lambda: len([p for p in found.get("/projects").json() if p["version"]]) == len(PUBLISHED))
    yield found
    found.kill()
