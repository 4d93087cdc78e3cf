"""The script of the Job that makes the platform's roles and databases, on a real Postgres whose administrator is no superuser, as in a cloud."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from phaseflow.settings import ROOT
from tests import stores

SCRIPT = ROOT / "terraform" / "modules" / "manifests" / "postgres.sh"
ADMINISTRATOR = (
    "CREATE ROLE administrator LOGIN CREATEDB CREATEROLE PASSWORD 'admin';"
    "GRANT pg_read_all_data TO administrator WITH ADMIN OPTION"
)


@pytest.fixture(scope="module")
def server() -> Iterator[stores.Postgres]:
    with stores.postgres("super") as server:
        query(server, "postgres", "super", "postgres", ADMINISTRATOR)
        yield server


def query(server: stores.Postgres, role: str, password: str, database: str, statement: str) -> str:
    environment = server.environment() | {"PGPASSWORD": password, "PGHOST": "127.0.0.1"}
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--username", role, "--dbname", database]
    completed = subprocess.run([*command, "--command", statement], env=environment, capture_output=True, text=True)
    return completed.stdout.strip() if completed.returncode == 0 else completed.stderr


def run(server: stores.Postgres, folder: Path, **passwords: str) -> None:
    secrets = {"admin_username": "administrator", "admin_password": "admin"} | passwords
    for name, text in secrets.items():
        (folder / name).write_text(text)
    environment = server.environment() | {"PGHOST": "127.0.0.1", "PGSSLMODE": "prefer", "SECRETS": str(folder)}
    completed = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert completed.stdout == "airflow, mlflow and backup are ready\n"


def test_each_role_owns_its_database_and_the_backup_s_reads_both(server: stores.Postgres, tmp_path: Path) -> None:
    run(server, tmp_path, airflow="a1", mlflow="m1", backup="b1")
    assert query(server, "airflow", "a1", "airflow", "CREATE TABLE runs (id int); SELECT 1") == "CREATE TABLE\n1"
    assert query(server, "backup", "b1", "airflow", "SELECT count(*) FROM runs") == "0"
    assert "permission denied" in query(server, "backup", "b1", "airflow", "DELETE FROM runs")
    assert "permission denied" in query(server, "mlflow", "m1", "airflow", "SELECT 1")


def test_a_second_run_sets_new_passwords_and_changes_nothing_else(server: stores.Postgres, tmp_path: Path) -> None:
    run(server, tmp_path, airflow="a1", mlflow="m1", backup="b1")
    run(server, tmp_path, airflow="a2", mlflow="m1", backup="b1")
    assert query(server, "airflow", "a2", "airflow", "SELECT 1") == "1"
    assert "password authentication failed" in query(server, "airflow", "a1", "airflow", "SELECT 1")
