"""A platform of small real servers: Airflow's REST API and the service, on this machine or behind a cluster's proxy."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.app import app

CHAMPION = {"project": "titanic", "version": "3", "previous": "2", "changed": True}
PROGRAM = """#!{python}
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "calls.jsonl"), "a") as file:
    file.write(json.dumps([os.path.basename(__file__), *sys.argv[1:]]) + "\\n")
line = " ".join(sys.argv[1:])
for words, code, output, error in json.load(open(os.path.join(folder, "responses.json"))):
    if words in line:
        sys.stdout.write(output)
        sys.stderr.write(error)
        sys.exit(code)
sys.exit("unexpected call: " + line)
"""
"""kubectl and helm: a recorded response per call that contains certain words."""


@dataclass
class Server:
    """What the servers received, and the state of the DAG's run."""

    url: str = ""
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    state: str = "success"

    def respond(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and body of a response."""
        self.calls.append((method, path, body))
        task = {"task_id": "train", "state": self.state, "duration": 1.5, "start_date": "a", "end_date": "b"}
        responses = {
            "/airflow/auth/token": {"access_token": "t"},
            "/airflow/api/v2/dags/titanic": {"dag_id": "titanic"},
            "/airflow/api/v2/dags/titanic/dagRuns": {"dag_run_id": "manual__1"},
            "/airflow/api/v2/dags/titanic/dagRuns/manual__1": {"state": self.state, "start_date": "a"},
            "/airflow/api/v2/dags/titanic/dagRuns/manual__1/taskInstances": {"task_instances": [task]},
            "/serving/titanic/predict": {"version": "3", "predictions": [{"id": f"r-{len(self.calls)}", "label": "0"}]},
        }
        return (200, responses[path]) if path in responses else (404, {"error": path})


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, body = state.respond(self.command, self.path, json.loads(content) if content else None)
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{http_server.server_address[1]}"
    yield state
    http_server.shutdown()
    http_server.server_close()


@dataclass(frozen=True)
class Command:
    """Runs `phaseflow` in this process."""

    options: tuple[str, ...] = ()
    programs: Path | None = None

    def __call__(self, line: str) -> Result:
        """Run the command line, after the options that select the platform."""
        return CliRunner().invoke(app, [*self.options, *shlex.split(line)])

    def calls(self) -> list[list[str]]:
        """Calls of kubectl and helm, without the context and the namespace."""
        assert self.programs is not None
        lines = (self.programs / "calls.jsonl").read_text().splitlines()
        return [[program, *arguments[4:]] for program, *arguments in map(json.loads, lines)]

    def responses(self) -> list[tuple[str, int, str, str]]:
        """Words, exit status, output and error of the calls that kubectl and helm respond to."""
        assert self.programs is not None
        return [
            (words, code, output, error)
            for words, code, output, error in json.loads((self.programs / "responses.json").read_text())
        ]

    def respond(self, words: str, output: str = "", *, code: int = 0, error: str = "") -> None:
        """Make calls of kubectl and helm that contain `words` respond so."""
        assert self.programs is not None
        path = self.programs / "responses.json"
        path.write_text(json.dumps([[words, code, output, error], *json.loads(path.read_text())]))


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without a platform. The commands may change the environment, but only during the test."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PHASEFLOW_")}
    monkeypatch.setattr(os, "environ", clean | {"PHASEFLOW_HOME": str(tmp_path / "home"), "PHASEFLOW_OFFLINE": "1"})


@pytest.fixture
def local(tmp_path: Path, server: Server) -> Command:
    """The platform on this machine."""
    os.environ |= {"PHASEFLOW_AIRFLOW_URL": f"{server.url}/airflow", "PHASEFLOW_SERVING_URL": f"{server.url}/serving"}
    secret = tmp_path / "home" / "secrets" / "airflow_admin_password"
    secret.parent.mkdir(parents=True)
    secret.write_text("local-password")
    return Command()


@pytest.fixture
def cluster(tmp_path: Path, server: Server) -> Command:
    """A release whose reverse proxy is the server."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("kubectl", "helm"):
        (programs / name).write_text(PROGRAM.format(python=sys.executable))
        (programs / name).chmod(0o755)
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    parts = {name: {"enabled": True} for name in ("proxy", "portal", "airflow", "mlflow", "serving")}
    monitoring = {"enabled": True} | {name: {"enabled": True} for name in ("grafana", "prometheus", "alertmanager")}
    values = parts | {"global": {"publicUrl": server.url}, "monitoring": monitoring}
    values |= {"pipelines": {"engine": "local"}, "kubeflow-pipelines": {}}
    secrets = {
        "phaseflow-airflow": {"airflow_admin_password": "Y2x1c3Rlci1wYXNzd29yZA=="},
        "phaseflow-proxy": {"proxy_password": "cHJveHk="},
    }
    responses = [
        ["get values phaseflow", 0, json.dumps(values), ""],
        *(["get secret " + name, 0, json.dumps({"data": data}), ""] for name, data in secrets.items()),
        ["get secret", 1, "", "Error from server (NotFound): not found"],
        ["services.registry", 0, json.dumps(CHAMPION), ""],
    ]
    (programs / "responses.json").write_text(json.dumps(responses))
    return Command(options=("--context", "kind-test"), programs=programs)


@pytest.fixture(params=["local", "cluster"])
def phaseflow(request: pytest.FixtureRequest) -> Command:
    """The command on each of the two platforms."""
    command: Command = request.getfixturevalue(request.param)
    return command
