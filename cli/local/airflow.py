"""Airflow on one machine: its settings, the step that prepares it, and its four processes.

`python -m cli.local.airflow prepare` runs that step. `… clean --days N [--result FILE]` removes old rows from Airflow's
database while the processes run.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cli.local.program import Health, Program, Step
from phaseflow.contract import Keep
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import write_atomic, write_result

USER: Final = "admin"
POOL: Final = ("training", "1", "One training at a time")
PREPARE: Final = "airflow-prepare"


def folder(settings: Settings) -> Path:
    """AIRFLOW_HOME."""
    return settings.home / "airflow"


def environment(settings: Settings) -> dict[str, str]:
    """Airflow's environment variables. They contain commands that read the secrets, so no listing shows the secrets."""
    home = folder(settings)

    def secret(name: str) -> str:
        return f"cat {shlex.quote(str(settings.secrets / name))}"

    values = {
        "core__dags_folder": ROOT / "dags",
        "core__plugins_folder": ROOT / "dags" / "plugins",
        "core__executor": "LocalExecutor",
        "core__parallelism": 3,
        "core__load_examples": False,
        "core__dags_are_paused_at_creation": False,
        "core__fernet_key_cmd": secret("airflow_fernet"),
        "core__simple_auth_manager_users": f"{USER}:admin",
        "core__simple_auth_manager_passwords_file": _passwords(settings),
        "core__execution_api_server_url": f"{settings.airflow_url}/execution/",
        # The default looks up the machine's full name in DNS.
        "core__hostname_callable": "socket.gethostname",
        "core__min_serialized_dag_update_interval": 5,
        # A write waits up to a minute for the lock. With the driver's default of five seconds, requests fail on a busy
        # machine.
        "database__sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}?timeout=60",
        "logging__base_log_folder": home / "logs",
        "logging__colored_console_log": False,
        "logging__dag_processor_child_process_log_directory": home / "logs" / "dag_processor",
        "api__host": "127.0.0.1",
        "api__port": settings.port("airflow"),
        "api__base_url": settings.airflow_url,
        "api__workers": 1,
        "api__secret_key_cmd": secret("airflow_jwt"),
        "api__expose_config": False,
        "api__instance_name": "phaseflow",
        "api_auth__jwt_secret_cmd": secret("airflow_jwt"),
        "api_auth__jwt_issuer": "phaseflow",
        **_intervals(),
    }
    return {
        "AIRFLOW_HOME": str(home),
        **{f"AIRFLOW__{key.upper()}": str(value) for key, value in values.items()},
        "MALLOC_ARENA_MAX": "2",
        # A process that sets its title must not overwrite its environment, which identifies the platform's processes.
        "SPT_NOENV": "1",
    }


def _intervals() -> dict[str, object]:
    """How often the scheduler, the tasks and the DAG processor act."""
    return {
        "scheduler__catchup_by_default": False,
        # For a small machine: the loop runs twice per second, and a dead scheduler's tasks restart in half a minute.
        "scheduler__scheduler_idle_sleep_time": 0.5,
        "scheduler__job_heartbeat_sec": 2,
        "scheduler__scheduler_heartbeat_sec": 2,
        "scheduler__scheduler_health_check_threshold": 20,
        "scheduler__orphaned_tasks_check_interval": 10,
        "scheduler__task_instance_heartbeat_timeout": 60,
        "scheduler__task_instance_heartbeat_timeout_detection_interval": 10,
        "scheduler__task_queued_timeout": 120,
        # A task's supervisor may notice the task's end only at the next heartbeat. It survives an API server restart.
        "workers__min_heartbeat_interval": 1,
        "workers__max_failed_heartbeats": 30,
        "triggerer__job_heartbeat_sec": 2,
        "dag_processor__refresh_interval": 15,
        "dag_processor__min_file_process_interval": 15,
        "dag_processor__parsing_processes": 1,
    }


def steps(settings: Settings) -> tuple[Step, ...]:
    """The step before the processes: it writes the user's password, migrates the database and creates the pool."""
    return (Step(name=PREPARE, argv=_this(settings, "prepare"), environment=environment(settings)),)


def programs(settings: Settings) -> tuple[Program, ...]:
    """Airflow's four processes."""
    api = f"{settings.airflow_url}/api/v2"

    def program(name: str, what: str, argv: tuple[str, ...], health: Health, ports: tuple[str, ...] = ()) -> Program:
        return Program(
            name=name,
            what=what,
            argv=argv,
            health=health,
            environment=environment(settings),
            after=(PREPARE,),
            ports=ports,
            stop_signal="INT",  # on TERM it leaves its children running
        )

    def part(name: str) -> Health:
        return Health(
            url=f"{api}/monitor/health",
            path=(name, "status"),
            value="healthy",
            heartbeat=(name, f"latest_{name}_heartbeat"),
        )

    airflow = _airflow(settings)
    return (
        program(
            "airflow-api-server",
            "Airflow's UI and REST API",
            (airflow, "api-server"),
            Health(url=f"{api}/version"),
            ports=("airflow",),
        ),
        program(
            "airflow-scheduler",
            "starts DAG runs and their tasks",
            (airflow, "scheduler", "--skip-serve-logs"),
            part("scheduler"),
        ),
        program("airflow-dag-processor", "reads the DAGs", (airflow, "dag-processor"), part("dag_processor")),
        program(
            "airflow-triggerer",
            "waits for events on behalf of tasks",
            # The API server reads the log files itself.
            (airflow, "triggerer", "--skip-serve-logs"),
            part("triggerer"),
        ),
    )


def prepare(settings: Settings) -> None:
    """Write the password file, migrate the database and create the pool. Another call changes nothing.

    Raises subprocess.CalledProcessError if an Airflow command fails.
    """
    content = json.dumps({USER: settings.secret("airflow_admin_password")}).encode()
    if not _passwords(settings).exists() or _passwords(settings).read_bytes() != content:
        write_atomic(_passwords(settings), content, mode=0o600)
    for arguments in (["db", "migrate"], ["pools", "set", *POOL, "--include-deferred"]):
        subprocess.run([_airflow(settings), *arguments], check=True)


def clean(settings: Settings, days: int, now: datetime) -> dict[str, int | str]:
    """Remove rows of DAG runs, tasks and jobs that ended more than `days` ago. The newest run of each DAG stays.

    It runs as a process with Airflow's own settings, because Airflow's tasks may not open the database. Raises
    subprocess.CalledProcessError if the Airflow command fails.
    """
    before = (now - timedelta(days=days)).isoformat(timespec="seconds")
    arguments = ["db", "clean", "--clean-before-timestamp", before, "--yes", "--skip-archive", "--batch-size", "1000"]
    subprocess.run([_airflow(settings), *arguments], check=True, env=os.environ | environment(settings))
    return {"days": days, "before": before}


def _airflow(settings: Settings) -> str:
    return str(settings.python("dags").parent / "airflow")


def _passwords(settings: Settings) -> Path:
    return folder(settings) / "passwords.json"


def _this(settings: Settings, command: str) -> tuple[str, ...]:
    return (str(settings.python("command")), "-m", "cli.local.airflow", command)


def main(arguments: list[str] | None = None) -> None:
    """Run the action."""
    parser = argparse.ArgumentParser(prog="cli.local.airflow")
    parser.add_argument("action", choices=("prepare", "clean"))
    parser.add_argument("--days", type=int, default=Keep().airflow_days)
    parser.add_argument("--result", type=Path)
    options = parser.parse_args(arguments)
    if options.action == "prepare":
        return prepare(from_environment())
    result = json.dumps(clean(from_environment(), options.days, datetime.now(UTC)))
    print(result)
    if options.result:
        write_result(options.result, result.encode())
    return None


if __name__ == "__main__":
    main()
