"""The four real processes of Airflow, with the real ETL, pipeline engine, MLflow, registry and service."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import stat
import time
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from cli.local import airflow
from phaseflow import events
from phaseflow.store import Store

if TYPE_CHECKING:
    from dags.tests.conftest import Machine

pytestmark = pytest.mark.timeout(600)  # the first test waits for the processes to start

ORDER = ["extract", "validate", "snapshot", "train", "promote", "verify"]


@pytest.fixture(scope="module")
def first(machine: Machine) -> str:
    """Id of the run that made the first champion."""
    machine.until(lambda: len(machine.call("GET", "/dags")["dags"]) >= 2, 150, "the DAGs are read")
    run = machine.trigger("titanic", reason="the first")
    assert machine.ended("titanic", run) == "success", machine.story("titanic", run)
    return run


def live_runs(machine: Machine) -> list[dict[str, Any]]:
    url = f"{machine.settings.pipelines_url}/apis/v2beta1/runs"
    runs = httpx.get(url, params={"page_size": 100}, trust_env=False).json()["runs"]
    return [run for run in runs if run["state"] in {"PENDING", "RUNNING"}]


def test_a_triggered_run_makes_a_champion_that_is_served(machine: Machine, first: str) -> None:
    tasks = machine.tasks("titanic", first)
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(ORDER, "success")
    assert all(task["try_number"] == 1 for task in tasks.values())
    starts = [tasks[name]["start_date"] for name in ORDER]
    assert starts == sorted(starts)
    verdict = machine.result("titanic", first, "train")
    assert verdict["passed"] is True
    assert machine.result("titanic", first, "promote")["version"] == verdict["version"]
    served = httpx.get(f"{machine.settings.serving_url}/titanic/model", trust_env=False).json()
    assert served["version"] == verdict["version"] == machine.result("titanic", first, "verify")["version"]


def test_logs_reasons_and_the_pipelines_run_are_shown(machine: Machine, first: str) -> None:
    assert "Reason: the first" in machine.task_log("titanic", first, "extract")
    recorded = [event["data"] for event in events.read(Store(machine.settings.store), "titanic")]
    assert {"run": re.sub(r"[^A-Za-z0-9._-]", "-", first), "state": "started", "reason": "the first"} in recorded
    log = machine.task_log("titanic", first, "train")
    why = "It is the first version, and within every bound."
    assert re.search(rf"passed the gate; champion: None\n{why}\ncheck +found +allowed", log), log[-2000:]
    links = machine.call("GET", f"/dags/titanic/dagRuns/{first}/taskInstances/train/links")
    assert links["extra_links"]["Pipeline run"].startswith(machine.settings.pipelines_url)


def test_secrets_are_in_files_of_their_owner_and_in_no_listing(machine: Machine) -> None:
    home = airflow.folder(machine.settings)
    assert stat.S_IMODE((home / "passwords.json").stat().st_mode) == 0o600
    secrets = [path.read_text() for path in machine.settings.secrets.iterdir()]
    listings = []
    for process in machine.members("airflow"):
        with contextlib.suppress(psutil.NoSuchProcess):  # a task's process may end at any time
            listings.append(" ".join([*process.cmdline(), *process.environ().values()]))
    assert listings
    assert not [secret for secret in secrets for listing in listings if secret in listing]
    assert "password" not in json.dumps(machine.call("GET", "/dags"))


def test_every_process_listens_on_the_loopback_alone(machine: Machine) -> None:
    listening = set()
    for process in machine.members():
        with contextlib.suppress(psutil.NoSuchProcess):  # a task's process may end at any time
            listening |= {c.laddr.ip for c in process.net_connections("inet") if c.status == "LISTEN"}
    assert listening == {"127.0.0.1"}


def test_preparing_again_changes_nothing(machine: Machine) -> None:
    before = (airflow.folder(machine.settings) / "passwords.json").stat().st_mtime_ns
    (step,) = airflow.steps(machine.settings)
    machine.spawn(step.name, step.argv, step.environment)
    assert machine.processes[step.name].wait(120) == 0, machine.log(step.name)
    assert (airflow.folder(machine.settings) / "passwords.json").stat().st_mtime_ns == before
    pool = machine.call("GET", "/pools/training")
    assert (pool["slots"], pool["include_deferred"]) == (1, True)


def test_a_database_that_another_process_writes_is_waited_for(machine: Machine) -> None:
    machine.until(lambda: machine.call("GET", "/pools/training"), 150, "Airflow answers")
    writer = sqlite3.connect(airflow.folder(machine.settings) / "airflow.db", isolation_level=None, timeout=60)
    with contextlib.closing(writer), ThreadPoolExecutor(1) as asking:
        writer.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        future = asking.submit(machine.call, "POST", "/variables", json={"key": "waited", "value": "yes"})
        futures.wait([future], timeout=8)  # longer than SQLite's default timeout of five seconds
        writer.execute("ROLLBACK")
        assert future.result()["value"] == "yes"
        assert time.monotonic() - start >= 8


def test_requests_at_the_same_time_do_not_lock_each_other_out(machine: Machine) -> None:
    def write(number: int) -> bool:
        return machine.request("POST", "/variables", json={"key": f"at once {number}", "value": "yes"}).is_success

    with ThreadPoolExecutor(4) as clients:
        assert all(clients.map(write, range(40)))


def test_scheduler_and_triggerer_may_be_killed_in_mid_dag(machine: Machine, first: str) -> None:
    champion = machine.result("titanic", first, "verify")["version"]
    run = machine.trigger("titanic", reason="killed")
    machine.until(lambda: machine.states("titanic", run).get("validate") == "running", 60, "validate runs")
    machine.kill("airflow-scheduler")
    workers = {process.pid for process in machine.members("airflow-scheduler")}
    assert workers  # the workers wait for a queue that nothing fills
    machine.start("airflow-scheduler")
    machine.until(lambda: machine.states("titanic", run).get("train") == "deferred", 90, "the run goes on")
    assert not workers & {process.pid for process in machine.members("airflow-scheduler")}
    machine.kill("airflow-triggerer")
    machine.start("airflow-triggerer")
    assert machine.ended("titanic", run) == "success", machine.story("titanic", run)
    # The same data gives the same models: the gate keeps the champion, which stays served.
    assert machine.states("titanic", run)["promote"] == "skipped"
    assert "The gate refused version" in machine.task_log("titanic", run, "promote")
    assert machine.result("titanic", run, "verify")["version"] == champion
    train = machine.call("GET", f"/dags/titanic/dagRuns/{run}/taskInstances/train")
    assert train["try_number"] == 1


def test_a_training_that_is_marked_failed_is_cancelled_in_the_engine(machine: Machine, first: str) -> None:
    run = machine.trigger("titanic", reason="cancelled")
    machine.until(lambda: machine.states("titanic", run).get("train") == "deferred", 60, "train is deferred")
    machine.until(lambda: live_runs(machine), 10, "the engine runs it")
    machine.until(lambda: " starting" in machine.task_log("titanic", run, "train"), 20, "the triggerer waits for it")
    url = machine.result("titanic", run, "train", "kfp_run_url")
    machine.call("PATCH", f"/dags/titanic/dagRuns/{run}/taskInstances/train", json={"new_state": "failed"})
    machine.until(lambda: not live_runs(machine), 30, "the engine's run is cancelled")
    assert httpx.get(url, trust_env=False).json()["state"] == "CANCELED"
    assert machine.ended("titanic", run) == "failed"
    assert machine.states("titanic", run)["verify"] == "upstream_failed"


def test_wrong_data_fails_at_once_with_the_fix_and_keeps_the_champion(machine: Machine, first: str) -> None:
    mirror = machine.home / "mirror" / "titanic.csv"
    mirror.write_text('PassengerId,Survived,Pclass,Name\n1,0,3,"Braund, Mr. Owen\n')
    run = machine.trigger("titanic")
    assert machine.ended("titanic", run) == "failed"
    mirror.unlink()
    wrong = next(task for task in machine.tasks("titanic", run).values() if task["state"] == "failed")
    assert wrong["task_id"] == "extract"
    assert wrong["try_number"] == 1
    assert "Put the file with that checksum there" in machine.task_log("titanic", run, "extract")
    assert httpx.get(f"{machine.settings.serving_url}/titanic/model", trust_env=False).status_code == 200


def test_a_store_that_is_away_for_a_moment_is_tried_again(machine: Machine, first: str) -> None:
    staging = Path(machine.settings.store) / "staging"
    away = staging.with_name("staging-away")
    staging.rename(away)
    staging.touch()  # a file in place of the folder: nothing can be written
    run = machine.trigger("titanic", reason="the store is away")
    try:
        machine.until(lambda: machine.states("titanic", run).get("extract") == "up_for_retry", 60, "extract waits")
        assert "can't be written: Not a directory" in machine.task_log("titanic", run, "extract")
    finally:
        staging.unlink()
        away.rename(staging)
    machine.until(lambda: machine.states("titanic", run).get("extract") == "success", 90, "extract is tried again")
    extract = machine.tasks("titanic", run)["extract"]
    assert extract["try_number"] == 2
    machine.call("PATCH", f"/dags/titanic/dagRuns/{run}", json={"state": "failed"})
    # The rest of the run is of no interest. A scheduler that looks at the run meanwhile may overwrite its state: the last tasks are
    # skipped then, which Airflow counts as success.
    assert machine.ended("titanic", run) in {"failed", "success"}


def test_the_events_of_the_assets_name_the_snapshot_and_the_version(machine: Machine, first: str) -> None:
    names = {asset["name"]: asset["id"] for asset in machine.call("GET", "/assets?limit=100")["assets"]}
    for task, asset in (("snapshot", "titanic_snapshot"), ("promote", "titanic_model")):
        events = machine.call("GET", f"/assets/events?asset_id={names[asset]}")["asset_events"]
        (event,) = [event for event in events if event["source_run_id"] == first]
        assert (event["source_task_id"], event["extra"]) == (task, machine.result("titanic", first, task))
    assert set(machine.result("titanic", first, "snapshot")) >= {"snapshot", "train_rows"}


def test_a_new_champion_triggers_a_report(machine: Machine, first: str) -> None:
    def triggered() -> list[dict[str, Any]]:
        runs = machine.call("GET", "/dags/titanic_monitor/dagRuns")["dag_runs"]
        return [run for run in runs if run["run_type"] == "asset_triggered"]

    (run, *_) = machine.until(triggered, 60, "a report of the new champion")
    events = machine.call("GET", f"/dags/titanic_monitor/dagRuns/{run['dag_run_id']}/upstreamAssetEvents")
    assert [event["source_run_id"] for event in events["asset_events"]] == [first]


def test_a_person_approves_or_rejects_the_promotion(machine: Machine, first: str) -> None:
    run = machine.trigger("approved")
    task = f"/dags/approved/dagRuns/{run}/taskInstances/approve"

    def respond(option: str, question: int) -> None:
        # The scheduler fails a task that is answered before it has seen the end of the process that asked.
        finished = re.compile(r"TaskInstance Finished: dag_id=approved, task_id=approve, .* state=awaiting_input")
        machine.until(lambda: len(finished.findall(machine.log("airflow-scheduler"))) == question, 300, "the question")
        assert machine.states("approved", run)["promote"] is None
        machine.call("PATCH", f"{task}/-1/hitlDetails", json={"chosen_options": [option], "params_input": {}})
        assert machine.ended("approved", run) == "success", machine.story("approved", run)

    respond("Approve", 1)
    question = machine.call("GET", f"{task}/-1/hitlDetails")
    version = machine.result("approved", run, "train")["version"]
    assert question["subject"] == f"Promote version {version} of Titanic survival?"
    assert "It is the first version, and within every bound." in question["body"]
    assert "| accuracy |" in question["body"]
    assert machine.result("approved", run, "promote")["version"] == version
    again = {
        "dry_run": False,
        "dag_run_id": run,
        "task_ids": ["approve"],
        "include_downstream": True,
        "only_failed": False,
    }
    machine.call("POST", "/dags/approved/clearTaskInstances", json=again)
    respond("Reject", 2)
    states = machine.states("approved", run)
    assert (states["approve"], states["promote"], states["verify"]) == ("success", "skipped", "success")


def test_a_wrong_param_is_refused_before_anything_runs(machine: Machine, first: str) -> None:
    response = machine.request(
        "POST", "/dags/titanic/dagRuns", json={"logical_date": None, "conf": {"promote": "perhaps"}}
    )
    assert response.status_code == 400
    assert "promote" in response.text


def test_the_monitors_runs_do_not_pile_up(machine: Machine, first: str) -> None:
    runs = machine.call("GET", "/dags/titanic_monitor/dagRuns")["dag_runs"]
    assert sum(run["state"] in {"queued", "running"} for run in runs) <= 1
