"""Killed pods, a drained node and a restarted database lose no row, no run and no request."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import Any

import httpx
import pytest

from phaseflow.clients import airflow
from tests.cluster.conftest import Cluster, wait_for

COUNT = """
import json
from phaseflow import logs
from phaseflow.settings import from_environment
from phaseflow.store import Store
store = Store(from_environment().store)
log = "feedback", "house_prices"
batches = (batch for hour in logs.all_hours(store, *log) for batch in logs.batches(store, *log, hour, {"id"}))
print(json.dumps(sorted({row for batch in batches for row in batch["id"]})))
"""


def test_a_pod_deleted_by_force_loses_no_row_if_its_spool_is_on_a_volume(
    cluster: Cluster, story: dict[str, Any]
) -> None:
    settings = cluster.settings
    token = cluster.feedback_token()
    pod = "phaseflow-serving-house-prices-0"
    uid = cluster.kubectl("get", "pod", pod, "--output", "jsonpath={.metadata.uid}")
    accepted: set[str] = set()
    with httpx.Client(timeout=30, headers={"authorization": f"Bearer {token}"}) as client:
        killer = threading.Thread(target=cluster.kubectl, args=("delete", "pod", pod, "--grace-period=0", "--force"))
        for number in range(400):
            body = {"labels": [{"id": f"kept-{number}", "label": 100_000.0}]}
            if number == 200:
                killer.start()
            try:
                response = client.post(f"{settings.serving_url}/house_prices/feedback", json=body)
            except httpx.HTTPError:
                continue
            if response.status_code == 200:
                accepted.add(f"kept-{number}")
            elif number > 200:  # the pod is gone
                break
        killer.join()
    assert len(accepted) > 150

    def shipped() -> bool:
        assert cluster.kubectl("get", "pod", pod, "--output", "jsonpath={.metadata.uid}") != uid
        return accepted <= set(json.loads(cluster.kubectl("exec", pod, "--", "python", "-c", COUNT)))

    wait_for("every accepted row in the store", shipped)
    print(f"rows accepted by a pod deleted by force: {len(accepted)}; lost: 0")


def _task(cluster: Cluster, run: str, task: str) -> None:
    """Wait until the task is running. Each poll uses a new client, since the API may have been unavailable."""

    def look() -> bool:
        states = {
            t["task_id"]: t["state"] for t in airflow.client(cluster.settings).send(airflow.tasks("titanic", run))
        }
        return states.get(task) in {"running", "deferred"}

    wait_for(f"{task} of {run}", look)


def _ended(cluster: Cluster, run: str) -> dict[str, Any]:
    """Wait for the end of the run, and return it."""

    def look() -> dict[str, Any]:
        result = airflow.client(cluster.settings).send(airflow.run("titanic", run))
        return result if result["state"] in {"success", "failed"} else {}

    return wait_for(f"the end of {run}", look, seconds=400)


@pytest.mark.nightly  # CI kills the scheduler of one machine in mid-DAG
def test_a_run_outlives_its_scheduler_and_a_restart_of_the_database(cluster: Cluster, story: dict[str, Any]) -> None:
    run = airflow.client(cluster.settings).send(
        airflow.trigger("titanic", "the scheduler is killed, then the database restarts")
    )
    _task(cluster, run, "extract")
    (pod,) = cluster.pods("scheduler")
    cluster.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    _task(cluster, run, "train")
    cluster.kubectl("delete", "pod", f"{cluster.release.name}-postgres-0", "--grace-period=1")
    assert _ended(cluster, run)["state"] == "success"


def test_no_request_fails_when_a_pod_of_the_service_is_killed(cluster: Cluster, story: dict[str, Any]) -> None:
    with cluster.traffic(rate=30) as summary:
        for _ in range(2):
            names = cluster.pods("titanic")
            assert len(names) == 2
            cluster.kubectl("delete", "pod", names[0], "--grace-period=0", "--force")
            _full_strength(cluster)
    assert summary["sent"] > 100
    assert summary["failed"] == 0, summary["errors"]


def test_no_request_fails_while_a_node_is_drained(cluster: Cluster, story: dict[str, Any]) -> None:
    """Evict the pods as `kubectl drain` does; the disruption budget allows one at a time."""
    refused = 0
    with cluster.traffic(rate=30) as summary:
        drained = set(cluster.pods("titanic"))
        while remaining := drained & set(cluster.pods("titanic")):
            refused += not _evict(cluster, min(remaining))
            time.sleep(0.5)  # `kubectl drain` also retries after a pause
        _full_strength(cluster)
    assert summary["failed"] == 0, summary["errors"]
    assert refused > 0, "the disruption budget never refused an eviction"


def _evict(cluster: Cluster, pod: str) -> bool:
    space = cluster.release.namespace
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": space}}
    path = f"/api/v1/namespaces/{space}/pods/{pod}/eviction"
    completed = subprocess.run(
        ["kubectl", "create", "--raw", path, "--filename", "-"],
        input=json.dumps(eviction),
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0 or "disruption budget" in completed.stderr or "not found" in completed.stderr, (
        completed.stderr
    )
    return completed.returncode == 0


def _full_strength(cluster: Cluster) -> None:
    def ready() -> bool:
        deployment = json.loads(cluster.kubectl("get", "deployment", "phaseflow-serving-titanic", "--output", "json"))
        return bool(deployment["status"].get("readyReplicas") == 2 and len(cluster.pods("titanic")) == 2)

    wait_for("two pods of the service", ready)
