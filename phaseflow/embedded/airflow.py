"""Airflow 3 on one machine: SQLite, LocalExecutor, four small processes on the loopback.

`python -m phaseflow.embedded.airflow`, in the environment `dags`, prepares the database, the user and the pool; again changes nothing.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from phaseflow.embedded.program import Health, Program, Step
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import write_atomic

INIT: Final = "airflow-init"
POOL: Final = "training"


def environment(settings: Settings) -> dict[str, str]:
    """Airflow's settings; secrets are read from their files by Airflow itself (`_CMD`)."""
    home = settings.home / "airflow"

    def secret(name: str) -> str:
        return f"cat {shlex.quote(str(settings.secrets / name))}"

    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.airflow_url}/execution/",
        "AIRFLOW__CORE__FERNET_KEY_CMD": secret("airflow_fernet"),
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(settings.secrets / "airflow_users.json"),
        "AIRFLOW__API_AUTH__JWT_SECRET_CMD": secret("airflow_jwt"),
        "AIRFLOW__API__SECRET_KEY_CMD": secret("airflow_jwt"),
        "AIRFLOW__API__BASE_URL": settings.airflow_url,
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(settings.port("airflow")),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__INSTANCE_NAME": "phaseflow",
        "AIRFLOW__API__EXPOSE_CONFIG": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        # A dead scheduler's tasks are found in seconds, not minutes.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        # Nothing is sent to anyone.
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "SCARF_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
        "PHASEFLOW_AIRFLOW_POOL": POOL,
    }


def steps(settings: Settings) -> tuple[Step, ...]:
    """What comes before the processes."""
    argv = (str(settings.python("dags")), "-m", "phaseflow.embedded.airflow")
    return (Step(name=INIT, argv=argv, environment=environment(settings)),)


def programs(settings: Settings) -> tuple[Program, ...]:
    """The four processes. Their log servers are off: on one machine the UI reads the files."""
    airflow = str(settings.python("dags").with_name("airflow"))
    health = f"{settings.airflow_url}/api/v2/monitor/health"

    def program(name: str, what: str, *argv: str, part: str = "", ports: tuple[str, ...] = ()) -> Program:
        return Program(
            name=f"airflow-{name}",
            what=what,
            argv=(airflow, *argv),
            environment=environment(settings),
            health=Health(url=health, path=(part, "status"), value="healthy") if part else Health(url=health),
            after=(INIT,),
            ports=ports,
            stop_signal="INT",
        )

    return (
        program("api-server", "Airflow's UI and API", "api-server", "--workers", "1", ports=("airflow",)),
        program("scheduler", "starts tasks", "scheduler", "--skip-serve-logs", part="scheduler"),
        program("dag-processor", "reads the DAGs", "dag-processor", part="dag_processor"),
        program("triggerer", "waits for pipelines", "triggerer", "--skip-serve-logs", part="triggerer"),
    )


def prepare(settings: Settings) -> None:
    """The user's password file, the database's schema and the pool."""
    (settings.home / "airflow").mkdir(parents=True, exist_ok=True)
    users = json.dumps({"admin": settings.secret("airflow_admin_password")})
    write_atomic(settings.secrets / "airflow_users.json", users.encode(), mode=0o600)
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True)
    subprocess.run([airflow, "pools", "set", POOL, "1", "One training at a time"], check=True)


if __name__ == "__main__":
    found = from_environment()
    os.environ.update(environment(found))
    prepare(found)
