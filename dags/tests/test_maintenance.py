"""The DAG that merges the logs."""

from __future__ import annotations

import json

from airflow.serialization.serialized_objects import DagSerialization

from dags import phaseflow_dags
from dags.maintenance import maintaining
from dags.modules import ModuleOperator
from phaseflow.settings import from_environment

SETTINGS = from_environment({"PHASEFLOW_HOME": "/nowhere"})


def test_it_runs_hourly_unpaused_and_never_twice_at_once() -> None:
    dag = maintaining(SETTINGS)
    assert dag.dag_id == "maintenance"
    assert dag.timetable.expression == "25 * * * *"  # type: ignore[attr-defined]  # a cron timetable has it
    assert dag.max_active_runs == 1
    assert not dag.catchup
    assert dag.is_paused_upon_creation is False


def test_its_task_compacts_in_the_environment_that_reads_parquet() -> None:
    (task,) = maintaining(SETTINGS).tasks
    assert isinstance(task, ModuleOperator)
    assert (task.task_id, task.group, task.module) == ("compact", "tabular", "pipelines.etl.compact")
    assert task.retries == 5


def test_the_scheduler_reads_it_back_from_the_dag_file() -> None:
    plain = json.loads(json.dumps(DagSerialization.to_dict(phaseflow_dags.maintenance)))  # type: ignore[attr-defined]
    assert DagSerialization.from_dict(plain).task_ids == ["compact"]
