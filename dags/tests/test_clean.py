"""The DAGs `clean` and `forget`, and the cleaning of Airflow's own database by its own command."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from cli.local import airflow, passwords
from dags.clean import cleaning, forgetting
from dags.modules import ModuleOperator
from phaseflow import discovery
from phaseflow.settings import ROOT, from_environment

PROJECTS = discovery.all_projects()[:2]
SETTINGS = from_environment({"PHASEFLOW_HOME": "/nowhere"})


def test_mlflow_is_cleaned_before_the_store_for_each_project() -> None:
    dag = cleaning(PROJECTS, SETTINGS)
    first, second = (project.name for project in PROJECTS)
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        f"{first}.models": {f"{first}.objects"},
        f"{first}.objects": set(),
        f"{first}.runs": set(),
        f"{second}.models": {f"{second}.objects"},
        f"{second}.objects": set(),
        f"{second}.runs": set(),
        "airflow": set(),
    }
    assert (
        dag.get_task(f"{first}.objects").trigger_rule == "all_done"
    )  # the rest is cleaned even if MLflow is unavailable
    assert dag.max_active_runs == dag.max_active_tasks == 1
    assert not dag.catchup


@pytest.mark.parametrize(
    ("mlflow_result", "versions"), [({"versions": [{"version": "1", "aliases": ["champion"]}]}, True), (None, False)]
)
def test_the_versions_from_mlflow_reach_the_store_task(mlflow_result: object, versions: bool) -> None:
    class Instance:
        def xcom_pull(self, task_ids: str) -> object:
            return mlflow_result if task_ids == f"{PROJECTS[0].name}.models" else None

    task = cleaning(PROJECTS, SETTINGS).get_task(f"{PROJECTS[0].name}.objects")
    assert isinstance(task, ModuleOperator)
    task.render_template_fields({"ti": Instance()})  # type: ignore[typeddict-item]  # nothing else of the context is used
    argument = json.loads(task.arguments[task.arguments.index("--versions") + 1])
    assert argument == (mlflow_result["versions"] if versions else None)  # type: ignore[index]  # it is a dict then


def test_the_id_is_one_argument_whatever_it_contains() -> None:
    dag = forgetting(PROJECTS, SETTINGS)
    assert dag.schedule is None
    assert dag.get_task("erase").downstream_task_ids == {"versions"}
    task = dag.get_task("erase")
    task.render_template_fields({"params": {"project": "titanic", "id": "--x y;{{ 1 }}"}})  # type: ignore[typeddict-item]
    assert task.arguments == ["forget", "--project", "titanic", "--id=--x y;{{ 1 }}"]
    with pytest.raises(ParamValidationError):
        dag.params["project"] = "nobody"


def test_the_scheduler_can_read_both_back() -> None:
    for dag in (cleaning(PROJECTS, SETTINGS), forgetting(PROJECTS, SETTINGS)):
        assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).dag_id == dag.dag_id


def test_old_rows_leave_airflows_database(tmp_path: Path) -> None:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    passwords.ensure(settings)
    airflow.folder(settings).mkdir()
    environment = (
        os.environ | airflow.environment(settings) | {"PHASEFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    )
    subprocess.run(
        [settings.python("dags").parent / "airflow", "db", "migrate"], env=environment, check=True, capture_output=True
    )
    now = datetime.now(UTC)
    with sqlite3.connect(airflow.folder(settings) / "airflow.db") as database:
        database.executemany(
            "insert into job (id, job_type, state, latest_heartbeat) values (?, 'SchedulerJob', 'success', ?)",
            [(number, (now - timedelta(days=days)).isoformat(sep=" ")) for number, days in ((1, 31), (2, 29))],
        )
    result = tmp_path / "result.json"
    command = [settings.python("command"), "-m", "cli.local.airflow", "clean", "--days", "30"]
    completed = subprocess.run(
        [*command, "--result", result],
        cwd=ROOT,
        env=os.environ | {"PHASEFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    assert json.loads(result.read_text())["days"] == 30
    with sqlite3.connect(airflow.folder(settings) / "airflow.db") as database:
        assert database.execute("select id from job").fetchall() == [(2,)]
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    assert not [name for name in tables if name.startswith("_airflow_deleted")]  # no archive table contains the rows
