"""The DAGs that clean and forget, and Airflow's own database, cleaned by its own command."""

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

from dags.clean import cleaning, forgetting
from dags.modules import ModuleOperator
from phaseflow import registry
from phaseflow.embedded import airflow, passwords
from phaseflow.settings import ROOT, from_environment

PROJECTS = registry.all_projects()[:2]
SETTINGS = from_environment({"PHASEFLOW_HOME": "/nowhere"})


def test_of_each_project_mlflow_is_asked_before_the_store_is_cleaned() -> None:
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
    assert dag.get_task(f"{first}.objects").trigger_rule == "all_done"  # the rest goes also where MLflow is away
    assert dag.max_active_runs == dag.max_active_tasks == 1
    assert not dag.catchup


@pytest.mark.parametrize(
    ("answer", "versions"), [({"versions": [{"version": "1", "aliases": ["champion"]}]}, True), (None, False)]
)
def test_what_mlflow_said_reaches_the_store(answer: object, versions: bool) -> None:
    class Instance:
        def xcom_pull(self, task_ids: str) -> object:
            return answer if task_ids == f"{PROJECTS[0].name}.models" else None

    task = cleaning(PROJECTS, SETTINGS).get_task(f"{PROJECTS[0].name}.objects")
    assert isinstance(task, ModuleOperator)
    task.render_template_fields({"ti": Instance()})  # type: ignore[typeddict-item]  # no more of it is used
    given = json.loads(task.arguments[task.arguments.index("--versions") + 1])
    assert given == (answer["versions"] if versions else None)  # type: ignore[index]  # it is one then


def test_the_id_is_one_argument_whatever_it_holds() -> None:
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
    command = [settings.python("command"), "-m", "phaseflow.embedded.airflow", "clean", "--days", "30"]
    done = subprocess.run(
        [*command, "--result", result],
        cwd=ROOT,
        env=os.environ | {"PHASEFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(result.read_text())["days"] == 30
    with sqlite3.connect(airflow.folder(settings) / "airflow.db") as database:
        assert database.execute("select id from job").fetchall() == [(2,)]
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    assert not [name for name in tables if name.startswith("_airflow_deleted")]  # no archive holds them
