"""Tests of a Postgres of the user's: TLS, and the Job that creates databases and users, on a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.charts.tests.rendering import Helm, Object, containers, mounted_secrets, of_kind, pods
from tests import stores

HOST = "storage.postgres.enabled=false,global.postgres.host=localhost,global.postgres.existingSecret=mine"
TLS = f"{HOST},global.postgres.sslMode=verify-full,global.postgres.caSecret=authority"
JOB = f"{TLS},global.postgres.bootstrap.enabled=true,global.postgres.bootstrap.existingSecret=administrator"
# What a cloud's database gives its administrator, who is no superuser.
ADMINISTRATOR = (
    "CREATE ROLE administrator LOGIN CREATEROLE CREATEDB PASSWORD 'admin-password'",
    "GRANT pg_read_all_data TO administrator WITH ADMIN OPTION",
)
PASSWORDS = {"airflow": r"air:f\low 'x' $HOME", "mlflow": "ml-password", "backup": "backup-password"}


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def certificates(folder: Path) -> None:
    """Write an authority (`ca.crt`), a certificate for localhost that it signed, and an authority that signed nothing."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, f"{folder}/{name}.key", "-out", f"{folder}/{name}.crt", "-subj", f"/CN={name}")
    openssl("req", *key, f"{folder}/server.key", "-out", f"{folder}/server.csr", "-subj", "/CN=localhost")
    authority = ("-CA", f"{folder}/ca.crt", "-CAkey", f"{folder}/ca.key", "-CAcreateserial")
    openssl("x509", "-req", "-in", f"{folder}/server.csr", *authority, "-out", f"{folder}/server.crt")


@dataclass(frozen=True)
class Managed:
    """A Postgres as a cloud runs it: with TLS alone, and with an administrator who is no superuser."""

    server: stores.Postgres
    certificates: Path

    def query(self, role: str, password: str, database: str, statement: str, authority: str = "ca") -> str:
        """Return the output of a statement over TCP, or the error."""
        environment = self.server.environment() | {
            "PGHOST": "localhost",
            "PGPASSWORD": password,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.certificates / f"{authority}.crt"),
        }
        command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--username", role, "--dbname", database]
        completed = subprocess.run(
            [*command, "--command", statement], env=environment, capture_output=True, text=True, check=False
        )
        return completed.stdout if completed.returncode == 0 else completed.stderr


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[Managed]:
    certificates(tmp_path)
    with stores.postgres("super", {"log_statement": "none"}) as server:
        data = server.folder / "data"
        for name in ("server.crt", "server.key"):
            shutil.copy(tmp_path / name, data / name)
            (data / name).chmod(0o600)
            if os.getuid() == 0:
                shutil.chown(data / name, "nobody")
        access = data / "pg_hba.conf"
        access.write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        command = ["psql", "--no-psqlrc", "--username", "postgres", "--set", "ON_ERROR_STOP=1"]
        for statement in (*ADMINISTRATOR, "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"):
            command += ["--command", statement]
        completed = subprocess.run(command, env=server.environment(), capture_output=True, text=True, check=False)
        assert completed.returncode == 0, (
            f"{completed.stderr}: a Postgres with TLS is needed; Debian's package postgresql has it."
        )
        yield Managed(server, tmp_path)


def job(helm: Helm, *settings: str) -> Object:
    """Return the container of the Job that creates the databases."""
    objects = helm.objects("platform", "--set", ",".join((JOB, *settings)))
    (pod,) = (pod for owner, pod in pods(objects) if owner.startswith("Job p-databases-"))
    (container,) = containers(pod)
    return container


def run(managed: Managed, container: Object, folder: Path, pgpass: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the container's command with Secrets in a folder."""
    mounts = {"postgres": pgpass, "admin": {"username": "administrator", "password": "admin-password"}}
    for mount, files in mounts.items():
        (folder / mount).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / mount / name).write_text(content)
    shutil.copy(managed.certificates / "ca.crt", folder / "postgres" / "ca.crt")

    def local(text: str) -> str:
        """Replace the pod's paths; the folder itself may be below /tmp."""
        return text.replace("/tmp", "@").replace("/etc/phaseflow", "@").replace("@", str(folder))

    variables = {variable["name"]: local(variable["value"]) for variable in container["env"]}
    environment = managed.server.environment() | variables | {"PORT": str(managed.server.port)}
    command = [*container["command"], local(container["args"][0])]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def lines(passwords: dict[str, str]) -> dict[str, str]:
    """Return the Secrets of the roles, in the format of libpq's password file."""
    escaped = {role: text.replace("\\", "\\\\").replace(":", "\\:") for role, text in passwords.items()}
    return {role: f"# our database\nlocal\\:host:5432:*:{role}:{text}\n" for role, text in escaped.items()}


def test_the_job_creates_databases_and_users_that_are_no_superuser_s(
    managed: Managed, helm: Helm, tmp_path: Path
) -> None:
    container = job(helm, "global.postgres.existingSecrets.backup=reader")
    for _ in range(2):  # a retry, or a run after a change of the values
        completed = run(managed, container, tmp_path / "job", lines(PASSWORDS))
        assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
    for role in ("airflow", "mlflow"):
        password, other = PASSWORDS[role], {"airflow": "mlflow", "mlflow": "airflow"}[role]
        created = managed.query(role, password, role, "CREATE TABLE runs AS SELECT 1 AS a; SELECT a FROM runs")
        assert created.splitlines()[-1] == "1", created
        assert "permission denied for database" in managed.query(role, password, other, "SELECT 1")
        assert managed.query("backup", PASSWORDS["backup"], role, "SELECT a FROM runs") == "1\n"
        assert "permission denied" in managed.query("backup", PASSWORDS["backup"], role, "DELETE FROM runs")
    other = managed.query("airflow", PASSWORDS["airflow"], "airflow", "SELECT 1", authority="other")
    assert "certificate verify failed" in other


def test_a_password_file_without_the_user_is_an_error_with_the_fix(
    managed: Managed, helm: Helm, tmp_path: Path
) -> None:
    files = lines(PASSWORDS) | {"mlflow": "*:*:*:airflow:x\n"}
    completed = run(managed, job(helm), tmp_path / "job", files)
    assert completed.returncode == 1
    assert completed.stderr == (
        "error: the Secret of the user mlflow has no line for it: its key pgpass needs host:port:database:mlflow:password\n"
    )


def test_every_client_of_postgres_verifies_its_certificate(helm: Helm) -> None:
    settings = ",".join((TLS, "backup.enabled=true", "airflow.executor=KubernetesExecutor"))
    names = set()
    for owner, pod in pods(helm.objects("platform", "--set", settings)):
        clients = [container for container in containers(pod) if "PGPASSFILE" in str(container.get("env"))]
        for container in clients:
            variables = {variable["name"]: variable.get("value") for variable in container["env"]}
            assert variables["PGSSLMODE"] == "verify-full"
            path = variables["PGSSLROOTCERT"]
            assert {"name": "postgres", "mountPath": "/etc/phaseflow/postgres", "readOnly": True} in container[
                "volumeMounts"
            ]
            (volume,) = (volume for volume in pod["spec"]["volumes"] if volume["name"] == "postgres")
            files = {item["path"] for source in volume["projected"]["sources"] for item in source["secret"]["items"]}
            assert path.removeprefix("/etc/phaseflow/postgres/") in files
            names.add(owner.partition(" ")[2].rpartition("-")[0] if "migrate" in owner else owner.partition(" ")[2])
    assert names == {
        "p-airflow-api-server", "p-airflow-clean", "p-airflow-dag-processor", "p-airflow-migrate", "p-airflow-scheduler",
        "p-airflow-triggerer", "p-airflow worker.yaml", "p-mlflow", "p-backup", "p-restore",
    }  # fmt: skip


def test_another_value_makes_another_job(helm: Helm) -> None:
    names = set()
    for database in ("postgres", "defaultdb"):
        objects = helm.objects("platform", "--set", f"{JOB},global.postgres.bootstrap.database={database}")
        names |= {job["metadata"]["name"] for job in of_kind(objects, "Job") if "databases" in job["metadata"]["name"]}
    assert len(names) == 2


def test_the_administrator_s_password_is_in_one_pod(helm: Helm) -> None:
    owners = [owner for owner, pod in pods(helm.objects("platform", "--set", JOB)) if "administrator" in str(pod)]
    assert [owner.rpartition("-")[0] for owner in owners] == ["Job p-databases"]


def test_each_user_can_have_a_secret_of_its_own(helm: Helm) -> None:
    values = ",".join(f"global.postgres.existingSecrets.{role}={role}-role" for role in ("airflow", "mlflow", "backup"))
    host = "storage.postgres.enabled=false,global.postgres.host=db,backup.enabled=true"
    pod_by_owner = dict(pods(helm.objects("platform", "--set", f"{host},{values}")))
    for owner, role in (
        ("Deployment p-mlflow", "mlflow"),
        ("Deployment p-airflow-scheduler", "airflow"),
        ("CronJob p-backup", "backup"),
    ):
        assert {name for name in mounted_secrets(pod_by_owner[owner]) if name.endswith("-role")} == {f"{role}-role"}
