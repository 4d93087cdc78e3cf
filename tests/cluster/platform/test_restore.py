"""Data survives: a restore into a fresh installation, and down and up."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import httpx
import pytest

from cli.kubernetes import kube
from phaseflow.clients import airflow, login
from tests.cluster.conftest import Cluster, wait_for


@pytest.mark.nightly
def test_restore_gives_a_fresh_installation_the_same_runs_models_and_champions(
    cluster: Cluster, story: dict[str, Any]
) -> None:
    def state() -> dict[str, Any]:
        settings = cluster.settings
        runs = airflow.client(settings).send(airflow.runs("titanic"))
        mlflow = httpx.Client(base_url=settings.mlflow_url, auth=login.of_proxy(settings), timeout=30)
        models = mlflow.get("/api/2.0/mlflow/registered-models/search").json()["registered_models"]
        return {
            "runs": sorted((run["dag_run_id"], run["state"]) for run in runs),
            "aliases": {
                model["name"]: {alias["alias"]: alias["version"] for alias in model.get("aliases", ())}
                for model in models
            },
            "served": cluster.served(),
        }

    wait_for("the end of every run", lambda: {run for _, run in state()["runs"]} <= {"success", "failed"})
    before = state()
    cluster.phaseflow("backup")
    old = cluster.secrets()
    cluster.phaseflow("down", "--data")
    claims = cluster.kubectl("get", "pvc", "--output", "name")
    assert "backup" in claims
    assert "postgres" not in claims
    cluster.up()
    assert cluster.secrets()["phaseflow-postgres/airflow_password"] != old["phaseflow-postgres/airflow_password"]
    response = httpx.post(f"{cluster.settings.serving_url}/titanic/predict", json={}, timeout=10)
    assert response.status_code in {422, 503}
    assert airflow.client(cluster.settings).send(airflow.runs("titanic")) == []
    output = cluster.phaseflow("restore").stdout
    assert '"dumps": 2' in output
    wait_for("the same champion on every replica", lambda: cluster.served() == before["served"])
    assert state() == before


@pytest.mark.nightly
def test_the_data_survives_down_and_up(cluster: Cluster, story: dict[str, Any]) -> None:
    stored, version = cluster.secrets(), cluster.served()["version"]
    cluster.phaseflow("down")
    cluster.up()
    wait_for("the champion", lambda: cluster.served()["version"] == version)
    assert cluster.secrets().items() >= stored.items()


def test_no_secret_is_in_a_log_or_a_command_line(cluster: Cluster, story: dict[str, Any]) -> None:
    values = {
        base64.b64decode(value).decode()
        for key, value in cluster.secrets().items()
        if key.rsplit("/", 1)[1] not in {"username", "s3.json", "credentials", "pgpass", "htpasswd"}
    }
    values |= {word for value in values for word in value.split() if len(word) >= 20}  # one line per client
    assert len(values) >= 12
    pods = kube.items(cluster.release, "pods", *kube.selector(cluster.release))
    texts = {pod["metadata"]["name"]: json.dumps(pod["spec"]) for pod in pods}
    lock = threading.Lock()

    def read(name: str) -> None:
        text = cluster.kubectl("logs", name, "--all-containers", "--tail=-1")
        with lock:
            texts[name] += text

    readers = [threading.Thread(target=read, args=(name,)) for name in list(texts)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    leaks = {name for name, text in texts.items() for value in values if value in text}
    assert leaks == set()
