"""Tests of the Postgres roles that the chart's pod creates at each start, on a real server."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.charts.tests.rendering import Helm, containers, of_kind, pods
from phaseflow.testing import free_ports
from tests import stores

# State of the previous release: two roles and their databases, with connections allowed to everybody.
BEFORE = """
CREATE ROLE airflow LOGIN PASSWORD 'old-airflow'; CREATE DATABASE airflow OWNER airflow;
CREATE ROLE mlflow LOGIN PASSWORD 'old-mlflow'; CREATE DATABASE mlflow OWNER mlflow;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[stores.Postgres]:
    with stores.postgres("super", {"log_statement": "none"}) as server:
        yield server


def start(server: stores.Postgres, helm: Helm, folder: Path) -> dict[str, str]:
    """Run the start script of the pod. Returns the password of each role."""
    rendered = helm.objects("storage")
    secrets = {manifest["metadata"]["name"]: manifest["stringData"] for manifest in of_kind(rendered, "Secret")}
    secret_folder = folder / "held"
    secret_folder.mkdir(exist_ok=True)
    for key, value in secrets["p-postgres"].items():
        (secret_folder / key).write_text(value)
    config = next(
        manifest for manifest in of_kind(rendered, "ConfigMap") if manifest["metadata"]["name"] == "p-postgres"
    )
    script = config["data"]["roles.sh"].replace("/etc/phaseflow/postgres", str(secret_folder))
    completed = subprocess.run(
        ["bash"], input=script, env=server.environment(), capture_output=True, text=True, check=False
    )
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
    return {
        role: secrets[f"p-postgres-{role}"]["pgpass"].strip().rpartition(":")[2]
        for role in ("airflow", "mlflow", "backup")
    }


def run_statement(
    server: stores.Postgres, role: str, password: str, database: str, statement: str
) -> subprocess.CompletedProcess[str]:
    environment = server.environment() | {"PGPASSWORD": password, "PGHOST": "127.0.0.1"}
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--username", role, "--dbname", database]
    return subprocess.run(
        [*command, "--command", statement], env=environment, capture_output=True, text=True, check=False
    )


def test_a_role_reaches_its_own_database_and_the_backup_s_only_reads(
    server: stores.Postgres, helm: Helm, tmp_path: Path
) -> None:
    for statement in BEFORE.split(";")[:-1]:
        assert run_statement(server, "postgres", "super", "postgres", statement).returncode == 0
    for _ in range(2):  # the script runs at every start
        passwords = start(server, helm, tmp_path)
    for role in ("airflow", "mlflow"):
        other = {"airflow": "mlflow", "mlflow": "airflow"}[role]
        own = run_statement(
            server, role, passwords[role], role, "CREATE TABLE runs (name text); INSERT INTO runs VALUES ('a')"
        )
        assert own.returncode == 0, own.stderr
        refused = run_statement(server, role, passwords[role], other, "SELECT 1")
        assert "permission denied for database" in refused.stderr
        refused = run_statement(server, role, passwords[other], role, "SELECT 1")
        assert "password authentication failed" in refused.stderr
        assert run_statement(server, role, passwords[role], role, "CREATE ROLE mine SUPERUSER").returncode
    for database in ("airflow", "mlflow"):
        assert run_statement(server, "backup", passwords["backup"], database, "SELECT name FROM runs").stdout == "a\n"
        for change in ("DELETE FROM runs", "DROP TABLE runs", "CREATE TABLE mine (name text)"):
            refused = run_statement(server, "backup", passwords["backup"], database, change)
            assert "permission denied" in refused.stderr or "must be owner" in refused.stderr, change
    log = (server.folder / "postgres.log").read_text()
    assert not [password for password in passwords.values() if password in log]


@contextmanager
def late(port: int, seconds: float) -> Iterator[int]:
    """Yield a port that refuses connections for some seconds, and then leads to `port`."""
    (entrance,) = free_ports(1)
    relay = socketserver.ThreadingTCPServer(("127.0.0.1", entrance), Relay, bind_and_activate=False)
    relay.allow_reuse_address = relay.daemon_threads = True
    relay.target = port  # type: ignore[attr-defined]  # read by `Relay`

    def listen() -> None:
        relay.server_bind()
        relay.server_activate()
        relay.serve_forever()

    timer = threading.Timer(seconds, listen)
    timer.start()
    yield entrance
    relay.shutdown()
    timer.join()
    relay.server_close()


class Relay(socketserver.BaseRequestHandler):
    """Copies bytes between a client and the server's target in both directions."""

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.target)) as target:  # type: ignore[attr-defined]
            back = threading.Thread(target=copy, args=(target, self.request))
            back.start()
            copy(self.request, target)
            back.join()


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until the source ends."""
    with contextlib.suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)


def test_the_owner_restores_what_the_backup_role_dumped(server: stores.Postgres, helm: Helm, tmp_path: Path) -> None:
    """Run the commands of the chart's two jobs."""
    passwords = start(server, helm, tmp_path)
    for role in ("airflow", "mlflow"):
        run_statement(
            server, role, passwords[role], role, "CREATE TABLE kept (name text); INSERT INTO kept VALUES ('b')"
        )
    jobs = dict(pods(helm.objects("platform", "--set", "backup.enabled=true")))
    for action, roles in (("backup", ("backup",)), ("restore", ("airflow", "mlflow"))):
        (container,) = (
            candidate for candidate in containers(jobs[f"CronJob p-{action}"]) if candidate["name"] == "databases"
        )
        folder = tmp_path / action
        (folder / "postgres").mkdir(parents=True)
        for role in roles:  # a user's Secret may have no line break at its end
            (folder / "postgres" / role).write_text(f"*:*:*:{role}:{passwords[role]}")
        script = container["args"][0].replace("/tmp", str(tmp_path)).replace("/etc/phaseflow", str(folder))
        with late(server.port, 1.5) as port:  # network policies refuse a new pod at first
            environment = server.environment() | {"HOST": "127.0.0.1", "PORT": str(port)}
            environment |= {"PGPASSFILE": str(tmp_path / "pgpass")}
            completed = subprocess.run(
                ["bash", "-euc", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
            )
        assert completed.returncode == 0, completed.stderr
        assert (tmp_path / "pgpass").stat().st_mode & 0o77 == 0
        if action == "backup":
            for role in ("airflow", "mlflow"):
                run_statement(server, role, passwords[role], role, "DELETE FROM kept")
    for role in ("airflow", "mlflow"):
        assert run_statement(server, role, passwords[role], role, "SELECT name FROM kept").stdout == "b\n"
