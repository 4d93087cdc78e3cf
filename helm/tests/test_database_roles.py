"""The roles of Postgres, as the chart's pod makes them at each start, on a real server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helm.tests.rendering import Helm, containers, of_kind, pods
from tests import stores

# The volume of the release before: two roles and their databases, of which anybody may connect to either.
BEFORE = """
CREATE ROLE airflow LOGIN PASSWORD 'old-airflow'; CREATE DATABASE airflow OWNER airflow;
CREATE ROLE mlflow LOGIN PASSWORD 'old-mlflow'; CREATE DATABASE mlflow OWNER mlflow;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[stores.Postgres]:
    with stores.postgres("super", {"log_statement": "none"}) as server:
        yield server


def start(server: stores.Postgres, helm: Helm, folder: Path) -> dict[str, str]:
    """Run the pod's script as a start does; gives the password of each role."""
    rendered = helm.objects("storage")
    secrets = {it["metadata"]["name"]: it["stringData"] for it in of_kind(rendered, "Secret")}
    held = folder / "held"
    held.mkdir(exist_ok=True)
    for key, value in secrets["p-postgres"].items():
        (held / key).write_text(value)
    config = next(it for it in of_kind(rendered, "ConfigMap") if it["metadata"]["name"] == "p-postgres")
    script = config["data"]["roles.sh"].replace("/etc/phaseflow/postgres", str(held))
    done = subprocess.run(["bash"], input=script, env=server.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {
        role: secrets[f"p-postgres-{role}"]["pgpass"].strip().rpartition(":")[2]
        for role in ("airflow", "mlflow", "backup")
    }


def ask(
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
        assert ask(server, "postgres", "super", "postgres", statement).returncode == 0
    for _ in range(2):  # every start runs it
        passwords = start(server, helm, tmp_path)
    for role in ("airflow", "mlflow"):
        other = {"airflow": "mlflow", "mlflow": "airflow"}[role]
        own = ask(server, role, passwords[role], role, "CREATE TABLE runs (name text); INSERT INTO runs VALUES ('a')")
        assert own.returncode == 0, own.stderr
        refused = ask(server, role, passwords[role], other, "SELECT 1")
        assert "permission denied for database" in refused.stderr
        refused = ask(server, role, passwords[other], role, "SELECT 1")
        assert "password authentication failed" in refused.stderr
        assert ask(server, role, passwords[role], role, "CREATE ROLE mine SUPERUSER").returncode
    for database in ("airflow", "mlflow"):
        assert ask(server, "backup", passwords["backup"], database, "SELECT name FROM runs").stdout == "a\n"
        for change in ("DELETE FROM runs", "DROP TABLE runs", "CREATE TABLE mine (name text)"):
            refused = ask(server, "backup", passwords["backup"], database, change)
            assert "permission denied" in refused.stderr or "must be owner" in refused.stderr, change
    log = (server.folder / "postgres.log").read_text()
    assert not [password for password in passwords.values() if password in log]


def test_what_the_backup_s_role_dumped_the_owner_restores(server: stores.Postgres, helm: Helm, tmp_path: Path) -> None:
    """By the commands of the chart's two jobs."""
    passwords = start(server, helm, tmp_path)
    for role in ("airflow", "mlflow"):
        ask(server, role, passwords[role], role, "CREATE TABLE kept (name text); INSERT INTO kept VALUES ('b')")
    jobs = dict(pods(helm.objects("platform", "--set", "backup.enabled=true")))
    for action, roles in (("backup", ("backup",)), ("restore", ("airflow", "mlflow"))):
        (container,) = (it for it in containers(jobs[f"CronJob p-{action}"]) if it["name"] == "databases")
        folder = tmp_path / action
        (folder / "postgres").mkdir(parents=True)
        for role in roles:  # a user's own Secret may have no line break at its end
            (folder / "postgres" / role).write_text(f"*:*:*:{role}:{passwords[role]}")
        script = container["args"][0].replace("/tmp", str(tmp_path)).replace("/etc/phaseflow", str(folder))
        environment = server.environment() | {"HOST": "127.0.0.1", "PORT": str(server.port)}
        environment |= {"PGPASSFILE": str(tmp_path / "pgpass")}
        done = subprocess.run(
            ["bash", "-euc", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "pgpass").stat().st_mode & 0o77 == 0
        if action == "backup":
            for role in ("airflow", "mlflow"):
                ask(server, role, passwords[role], role, "DELETE FROM kept")
    for role in ("airflow", "mlflow"):
        assert ask(server, role, passwords[role], role, "SELECT name FROM kept").stdout == "b\n"
