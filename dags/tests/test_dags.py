from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import AssetOrTimeSchedule, DeltaTriggerTimetable
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

from dags import assets
from dags.clean import cleaning
from dags.factory import POOL, monitoring, training
from dags.maintenance import maintaining
from dags.modules import ModuleOperator
from dags.runs import run_key
from phaseflow import discovery
from phaseflow.contract import Project
from phaseflow.settings import ROOT, from_environment

PROJECTS = discovery.all_projects()
SETTINGS = from_environment({"PHASEFLOW_HOME": "/nowhere"})
TASKS = ["extract", "validate", "snapshot", "train", "promote", "verify"]


@pytest.fixture(params=PROJECTS, ids=lambda project: project.name)
def project(request: pytest.FixtureRequest) -> Project:
    param: Project = request.param
    return param


def test_a_project_is_trained_by_six_tasks_one_after_the_other(project: Project) -> None:
    dag = training(project, SETTINGS)
    assert dag.dag_id == project.name
    assert [task.task_id for task in dag.tasks] == TASKS
    for before, after in pairwise(TASKS):
        assert dag.get_task(before).downstream_task_ids == {after}


def test_runs_are_one_at_a_time_retried_with_backoff_and_not_caught_up_on(project: Project) -> None:
    for dag in (training(project, SETTINGS), monitoring(project, SETTINGS)):
        assert dag.max_active_runs == 1
        assert dag.catchup is False
        assert dag.dagrun_timeout is not None
        for task in dag.tasks:
            assert task.owner == project.owner
            assert task.retries == (5 if isinstance(task, ModuleOperator) else 2)
            assert task.retry_exponential_backoff > 1
            assert task.retry_delay.total_seconds() >= 5
            assert task.max_retry_delay.total_seconds() == 300  # type: ignore[union-attr]  # a timedelta


def test_a_person_approves_if_the_gate_asks_for_it(project: Project) -> None:
    assert "approve" not in training(project, SETTINGS).task_ids
    asking = replace(project, gate=replace(project.gate, approval_hours=2))
    dag = training(asking, SETTINGS)
    assert [task.task_id for task in dag.tasks] == [*TASKS[:4], "approve", *TASKS[4:]]
    approve = dag.get_task("approve")
    assert approve.upstream_task_ids == {"train"}
    assert approve.downstream_task_ids == {"promote"}
    assert approve.response_timeout == timedelta(hours=2)
    assert approve.defaults == ["Reject"]
    assert dag.dagrun_timeout == timedelta(hours=6)
    assert "a person approves the promotion within 2 h" in (dag.doc_md or "")
    plain = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    assert DagSerialization.from_dict(plain).task_ids == dag.task_ids


def test_only_training_holds_the_pool(project: Project) -> None:
    pools = {task.task_id: task.pool for task in training(project, SETTINGS).tasks}
    assert pools.pop("train") == POOL
    assert set(pools.values()) == {"default_pool"}


def test_verify_runs_where_promote_was_skipped(project: Project) -> None:
    assert training(project, SETTINGS).get_task("verify").trigger_rule == "none_failed"


def test_the_form_asks_for_a_reason_and_whether_to_promote(project: Project) -> None:
    params = training(project, SETTINGS).params
    assert set(params) == {"reason", "promote"}
    assert params.dump() == {"reason": None, "promote": True}
    for name, wrong in (("reason", 3), ("reason", "x" * 2001), ("promote", "perhaps")):
        with pytest.raises(ParamValidationError):
            params[name] = wrong


def test_the_scheduler_can_read_both_dags_back(project: Project) -> None:
    for dag in (training(project, SETTINGS), monitoring(project, SETTINGS)):
        plain = json.loads(json.dumps(DagSerialization.to_dict(dag)))
        assert DagSerialization.from_dict(plain).task_ids == [task.task_id for task in dag.tasks]


def test_the_schedules_are_the_declared_ones(project: Project) -> None:
    timetable = training(project, SETTINGS).timetable
    assert getattr(timetable, "expression", None) == project.schedule
    quick = from_environment({"PHASEFLOW_HOME": "/nowhere", "PHASEFLOW_MONITOR_SECONDS": "20"})
    for settings, seconds in ((SETTINGS, project.monitor_seconds), (quick, 20)):
        schedule = monitoring(project, settings).schedule
        assert isinstance(schedule, AssetOrTimeSchedule)
        assert schedule.timetable == DeltaTriggerTimetable(timedelta(seconds=seconds))
        assert schedule.asset_condition == assets.model(project.name)


def test_a_platform_that_starts_for_the_first_time_waits_for_the_schedules() -> None:
    scheduled = [replace(project, schedule="30 4 * * *") for project in PROJECTS[:2]]
    now = datetime.now(UTC)
    for dag in (
        *(training(project, SETTINGS) for project in scheduled),
        cleaning(scheduled, SETTINGS),
        maintaining(SETTINGS),
    ):
        timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
        restriction = TimeRestriction(earliest=dag.start_date, latest=None, catchup=dag.catchup)
        first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
        assert first is not None, dag.dag_id
        assert first.run_after > now, dag.dag_id


def test_snapshot_champion_and_report_are_assets(project: Project) -> None:
    tasks = {
        task.task_id: task for dag in (training(project, SETTINGS), monitoring(project, SETTINGS)) for task in dag.tasks
    }
    outlets = {name: [asset.name for asset in task.outlets] for name, task in tasks.items() if task.outlets}
    inlets = {name: [asset.name for asset in task.inlets] for name, task in tasks.items() if task.inlets}
    model, snapshot = f"{project.name}_model", f"{project.name}_snapshot"
    assert outlets == {"snapshot": [snapshot], "promote": [model], "report": [f"{project.name}_report"]}
    assert inlets == {"train": [snapshot], "report": [model]}


def test_the_dag_of_the_documentation_runs_for_each_new_champion() -> None:
    page = (ROOT / "docs" / "how-to" / "use-from-airflow.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "@dag" in block]
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    announce = namespace["announce"]()
    assert announce.timetable.asset_condition.name == "titanic_model"
    assert announce.task_ids == ["say"]


def test_the_documentation_lists_columns_candidates_and_gate(project: Project) -> None:
    page = training(project, SETTINGS).doc_md or ""
    assert page.startswith(f"# {project.title}")
    for column in project.schema.columns:
        assert f"| `{column.name}` | {column.kind} |" in page
    for candidate in project.candidates:
        assert f"- `{candidate.name}`" in page
    assert f"{project.gate.latency_ms:g} ms a row" in page
    for url in (SETTINGS.mlflow_url, SETTINGS.serving_url, SETTINGS.portal_url):
        assert url in page
    assert page.count("| **the target**") == (project.schema.target is not None)


def test_tags_say_phase_task_and_family(project: Project) -> None:
    assert {f"phase {project.phase}", project.task, project.environment} <= training(project, SETTINGS).tags
    assert {f"phase {project.phase}", "monitor"} <= monitoring(project, SETTINGS).tags


def test_a_run_id_becomes_a_valid_file_name() -> None:
    assert run_key("manual__2026-11-24T10:00:00+00:00") == "manual__2026-11-24T10-00-00-00-00"
    assert run_key("retrain__drift/../x") == "retrain__drift-..-x"


def in_fresh_interpreter(code: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_parsing_imports_nothing_but_airflow_the_contract_and_the_standard_library(tmp_path: Path) -> None:
    code = """
import sys, airflow.sdk, airflow.sdk.execution_time.xcom, airflow.triggers.base, httpx
before = set(sys.modules)
import runpy; runpy.run_path("dags/phaseflow_dags.py"); runpy.run_path("dags/project_errors.py")
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
heavy = {"kfp", "mlflow", "sklearn", "polars", "pandas", "numpy", "onnx", "onnxruntime", "bentoml", "evidently"}
print(*sorted(heavy & set(sys.modules)))
"""
    completed = in_fresh_interpreter(code, tmp_path)
    assert completed.returncode == 0, completed.stderr
    new, heavy = completed.stdout.splitlines()[-2:]
    assert set(new.split()) <= {"dags", "phaseflow", "projects", "airflow", "croniter"}
    assert heavy == ""


def test_an_invalid_declaration_is_reported_without_affecting_other_dags(tmp_path: Path) -> None:
    more = tmp_path / "more"
    for name, text in (
        ("broken_one", "from phaseflow import Candidate\ncandidate = Candidate(name='No Good')\n"),
        ("broken_two", "import no_such_library\n"),
    ):
        (more / name).mkdir(parents=True)
        (more / name / "project.py").write_text(text)
    expected = {name for project in PROJECTS for name in (project.name, f"{project.name}_monitor")}
    code = f"""
import runpy
namespace = runpy.run_path("dags/phaseflow_dags.py")
assert {expected!r} <= set(namespace), namespace.keys()
assert not any("broken" in name for name in namespace)
runpy.run_path("dags/project_errors.py")
"""
    completed = in_fresh_interpreter(code, tmp_path, PHASEFLOW_PROJECTS=str(more))
    assert completed.returncode == 1
    assert (
        "projects/broken_one/project.py: Candidate.name is 'No Good'; allowed: lower-case letters, digits and _, "
        'a letter first, at most 48. Rename it, for example "no_good"' in completed.stderr
    )
    assert "projects/broken_two/project.py: ModuleNotFoundError: No module named 'no_such_library'" in completed.stderr
    assert completed.stderr.rstrip().endswith("Until they are fixed, there are no DAGs for broken_one, broken_two.")
