"""Installation, upgrade, the loop, pages and dashboards."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

from cli.kubernetes import kube
from monitoring import queries
from phaseflow.clients import airflow
from tests.cluster.conftest import Cluster, wait_for


def test_an_upgrade_changes_no_secret_and_the_users_own_is_the_one_in_use(
    cluster: Cluster, upgraded: dict[str, str]
) -> None:
    assert len(upgraded) >= 10
    # Files that are generated from the passwords may change, and there may be additional secrets.
    unchanged = {key: value for key, value in upgraded.items() if key.rsplit("/", 1)[1] not in {"s3.json", "pgpass"}}
    assert cluster.secrets().items() >= unchanged.items()
    assert f"{cluster.release.name}-airflow" not in {key.split("/")[0] for key in upgraded}
    assert airflow.client(cluster.settings).send(airflow.dag("titanic"))["dag_id"] == "titanic"


def test_every_pod_is_admitted_under_the_restricted_standard(cluster: Cluster, upgraded: dict[str, str]) -> None:
    space = json.loads(cluster.kubectl("get", "namespace", cluster.release.namespace, "--output", "json"))
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    warnings = [
        event["message"]
        for event in kube.items(cluster.release, "events", "--field-selector", "type=Warning")
        if "violates PodSecurity" in event["message"]
    ]
    assert warnings == []


def test_the_charts_own_test_asks_every_part(cluster: Cluster, upgraded: dict[str, str]) -> None:
    assert "Phase:          Succeeded" in kube.helm(cluster.release, "test", cluster.release.name)


def test_one_turn_of_the_loop(cluster: Cluster, story: dict[str, Any]) -> None:
    assert story["ok"], story
    assert len(story["steps"]) >= 10
    assert story["traffic"]["failed"] == 0
    assert {"1", str(story["second"]["version"])} <= set(story["traffic"]["versions"])
    # Another retraining may have followed the first, and not all replicas may serve its model yet.
    wait_for(
        "the new champion on every replica", lambda: int(cluster.served()["version"]) >= int(story["last"]["version"])
    )
    print(f"all pods together: {story['memory_mb']} MiB at most; the story took {story['seconds']} s")


def test_every_page_is_behind_one_proxy_and_asks_for_its_password(cluster: Cluster, story: dict[str, Any]) -> None:
    pages = cluster.json("urls", "--show-passwords")
    assert {page["name"] for page in pages} >= {"portal", "Airflow", "MLflow", "Prometheus", "Alertmanager", "service"}
    for page in pages:
        if page["name"] in {"Airflow", "service"}:  # Airflow has its own login; the service is public
            assert httpx.get(page["url"], follow_redirects=True, timeout=30).status_code == 200, page["url"]
            continue
        assert httpx.get(page["url"], timeout=30).status_code == 401, page["url"]
        response = httpx.get(page["url"], auth=("admin", page["password"]), follow_redirects=True, timeout=30)
        assert response.status_code == 200, page["url"]
    portal = httpx.get(pages[0]["url"], auth=("admin", pages[0]["password"]), timeout=30).text
    assert "Titanic" in portal
    assert "8 of 8 parts respond" in portal


def test_no_panel_of_the_projects_dashboards_is_empty(cluster: Cluster, story: dict[str, Any]) -> None:
    settings = cluster.settings
    with cluster.traffic(rate=15):
        boards = ["phaseflow-titanic", "phaseflow-platform"]
        end = time.monotonic() + 150
        while empty := queries.empty(settings, boards):
            assert time.monotonic() < end, (empty, queries.unreached(settings))
            time.sleep(2)


def test_an_image_that_does_not_exist_is_reported_within_a_minute(cluster: Cluster, story: dict[str, Any]) -> None:
    start = time.monotonic()
    completed = cluster.up("--set", "proxy.image.tag=no-such-tag", check=False, timeout=120)
    assert completed.returncode == 2
    assert time.monotonic() - start < 60
    assert "nginxinc/nginx-unprivileged:no-such-tag' can't be had" in completed.stderr
    assert "fix:" in completed.stderr
    # The old proxy keeps running, and a correct value fixes the release.
    assert httpx.get(f"{cluster.settings.serving_url}/titanic/model", timeout=10).status_code == 200
    cluster.up()


def test_a_wrong_value_is_an_error_that_names_it(cluster: Cluster, story: dict[str, Any]) -> None:
    for value, text in (
        ("airflow.executor=Celery", "executor"),
        ("serving.replicas=two", "replicas"),
        ("serving.replica=2", "The chart has no value 'serving.replica'.\nfix: Did you mean \"serving.replicas\"?"),
        ("servng.replicas=2", "The chart has no value 'servng'.\nfix: Did you mean \"serving\"?"),
        ("pipelines.engine=argo", "engine"),
    ):
        completed = cluster.up("--set", value, check=False)
        assert completed.returncode == 2
        assert text in completed.stderr, completed.stderr
