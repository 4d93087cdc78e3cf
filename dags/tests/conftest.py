"""A real Airflow and the real parts that its tasks call, in a home directory of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from cli.local import airflow, bentoml, launcher, mlflow, passwords
from cli.local.program import Program
from phaseflow.settings import ROOT, Settings, from_environment

MARK = "PHASEFLOW_PROGRAM"
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")  # importing Airflow writes files there


def wait(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition`; fails the test if there is none in time. Connection errors are retried."""
    end = time.monotonic() + seconds
    result, last = None, ""
    while not result:
        if time.monotonic() > end:
            pytest.fail(f"not in {seconds:.0f} s: {what}{last}")
        try:
            result = condition()
        except httpx.TransportError as error:
            last = f"; the last error: {error!r}"
        if not result:
            time.sleep(0.1)
    return result


def answers(url: str, path: tuple[str, ...] = (), value: str = "") -> bool:
    try:
        response = httpx.get(url, timeout=5, trust_env=False)
        content: Any = response.json() if path else None
    except (httpx.HTTPError, ValueError):
        return False
    for key in path:
        content = content[key]
    return response.is_success and (not path or content == value)


class Machine:
    """Airflow's four processes, the pipeline engine, MLflow and the service."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PHASEFLOW"))
        } | {
            "PHASEFLOW_HOME": str(home),
            "PHASEFLOW_PORT_OFFSET": os.environ.get("PHASEFLOW_TEST_PORT_OFFSET", "14000"),
            "PHASEFLOW_OFFLINE": "1",
            "PHASEFLOW_DATA_MIRROR": str(home / "mirror"),
            "PHASEFLOW_PROJECTS": str(Path(__file__).parent / "projects"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        self.settings: Settings = from_environment(self.environment)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.programs: dict[str, Program] = {program.name: program for program in airflow.programs(self.settings)}
        self._token = ""

    until = staticmethod(wait)

    def up(self) -> None:
        (self.home / "logs").mkdir(parents=True)
        (self.home / "mirror").mkdir()
        passwords.ensure(self.settings)
        group = self.settings.python
        self.spawn("mlflow", mlflow.command(self.settings), mlflow.environment())
        self.spawn("pipelines", [str(group("pipelines")), "-m", "pipelines.engine"])
        self.spawn("serving", bentoml.command(self.settings))
        for step in airflow.steps(self.settings):
            self.spawn(step.name, step.argv, step.environment)
            assert self.processes[step.name].wait(120) == 0, self.log(step.name)
        for name in self.programs:
            self.start(name)
        for program in self.programs.values():
            health = program.health
            wait(partial(answers, health.url, health.path, health.value), 120, f"{program.name} is up")
        for url in (
            f"{self.settings.mlflow_url}/health",
            f"{self.settings.pipelines_url}/apis/v2beta1/healthz",
            f"{self.settings.serving_url}/healthz",
        ):
            wait(partial(answers, url), 60, f"{url} answers")

    def spawn(self, name: str, argv: Any, environment: Mapping[str, str] | None = None) -> None:
        with (self.home / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv,
                cwd=ROOT,
                env=self.environment | dict(environment or {}) | {MARK: name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self, name: str) -> None:
        self.spawn(name, launcher.command(self.settings, self.programs[name]), self.programs[name].environment)

    def kill(self, name: str) -> None:
        """Kill only this process with SIGKILL, as the system does when it is out of memory."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(10)

    def down(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT if name.startswith("airflow") else signal.SIGTERM)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
        for process in self.members():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def members(self, name: str = "") -> list[psutil.Process]:
        """Every running process of this machine, including those whose parent died."""
        processes = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                variables = process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
                if (
                    variables.get("PHASEFLOW_HOME") == str(self.home)
                    and variables.get(MARK, "").startswith(name or "")
                    and MARK in variables
                ):
                    processes.append(process)
        return processes

    def log(self, name: str) -> str:
        return (self.home / "logs" / f"{name}.log").read_text(errors="replace")

    # Airflow's REST API

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        url = self.settings.airflow_url
        if not self._token:
            password = self.settings.secret("airflow_admin_password")
            response = httpx.post(
                f"{url}/auth/token", json={"username": "admin", "password": password}, trust_env=False
            )
            self._token = response.raise_for_status().json()["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.request(method, f"{url}/api/v2{path}", headers=headers, timeout=30, trust_env=False, **arguments)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        response = self.request(method, path, **arguments)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def story(self, dag: str, run: str) -> str:
        """The states of the tasks, and the logs of the failed ones."""
        failed = [name for name, state in self.states(dag, run).items() if state == "failed"]
        return f"{self.states(dag, run)}\n" + "\n".join(self.task_log(dag, run, name) for name in failed)

    def trigger(self, dag: str, **conf: Any) -> str:
        run: str = self.call("POST", f"/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})["dag_run_id"]
        return run

    def state(self, dag: str, run: str) -> str:
        return str(self.call("GET", f"/dags/{dag}/dagRuns/{run}")["state"])

    def ended(self, dag: str, run: str, seconds: float = 400) -> str:
        wait(lambda: self.state(dag, run) in {"success", "failed"}, seconds, f"{dag} {run} ends")
        return self.state(dag, run)

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        instances = self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in instances}

    def states(self, dag: str, run: str) -> dict[str, str]:
        return {name: task["state"] for name, task in self.tasks(dag, run).items()}

    def task_log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        content = self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}")["content"]
        return "\n".join(line.get("event", "") if isinstance(line, dict) else str(line) for line in content)

    def result(self, dag: str, run: str, task: str, key: str = "return_value") -> Any:
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}"
        return self.call("GET", path, params={"deserialize": True})["value"]


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    try:
        machine.up()
        yield machine
    finally:
        machine.down()
