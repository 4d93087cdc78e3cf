"""Upgrades from the profile small to kind, and from kind to production. The data of the first installation is kept.

Production's Postgres and object store belong to another release in another namespace, as in a cloud.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from cli.kubernetes import install, kube
from cli.kubernetes.kube import Release
from phaseflow.clients import airflow
from phaseflow.settings import ROOT
from tests.cluster import conftest
from tests.cluster.conftest import Cluster, wait_for

pytestmark = pytest.mark.nightly

OWN: Final = conftest.OWN if os.environ.get("STANDINS") else conftest.OWN[:1]
CLOCK: Final = "helm/platform/values-rehearsal.yaml"
HERE: Final = "tests/cluster/production"
KIND: Final = ("helm/platform/values-kind.yaml", CLOCK, *OWN, f"{HERE}/values-kind.yaml")
PRODUCTION: Final = ("helm/platform/values-production.yaml", CLOCK, *OWN, f"{HERE}/values-production.yaml")
NAMESPACE: Final = "phaseflow-test"
ADMINISTRATOR: Final = "phaseflow-postgres-administrator"
TURN_SECONDS: Final = 900.0
"""Seconds for an alert and a retraining, each task of which is a pod."""


def values(*names: str) -> list[str]:
    """Return Helm's arguments for files of values, of which the last win."""
    return [word for name in names for word in ("--values", str(ROOT / name))]


@pytest.fixture(scope="module")
def stores() -> Iterator[Release]:
    """Postgres and an S3 store in a namespace of their own, and Secrets with their passwords in the platform's."""
    release = Release(name="stores", namespace="phaseflow-stores", context=conftest.current_context())
    platform = Release(name="phaseflow", namespace=NAMESPACE, context=release.context)
    kube.namespace(release)
    kube.namespace(platform)
    install.chart()
    standins = ("--set", "postgres.image.digest=,s3.image.digest=") if os.environ.get("STANDINS") else ()
    kube.helm(release, "upgrade", "--install", release.name, str(install.CHARTS / "storage"), *standins)
    install.wait(release, lambda *_: None, time.monotonic())
    for secret in kube.items(release, "secrets", *kube.selector(release)):
        name, data = secret["metadata"]["name"], secret["data"]
        content = {key: base64.b64decode(value).decode() for key, value in data.items()}
        if name == "stores-postgres":
            login = {"username": "postgres", "password": content["postgres_password"]}
            conftest.apply_secret(platform, ADMINISTRATOR, login)
        else:
            conftest.apply_secret(platform, name, content)
    yield release
    if not os.environ.get("KEEP"):
        kube.kubectl(release, "delete", "namespace", release.namespace, "--wait=false")


@pytest.fixture(scope="module")
def cluster(stores: Release) -> Iterator[Cluster]:
    """The profile small after one turn of the loop."""
    cluster = Cluster(release=Release(name="phaseflow", namespace=NAMESPACE, context=stores.context))
    cluster.phaseflow("down", "--data")
    conftest.apply_user_secret(cluster.release)
    cluster.up()
    assert cluster.json("demo", timeout=1500)["ok"]
    yield cluster
    if not os.environ.get("KEEP"):
        cluster.phaseflow("down", "--data")


def generations(cluster: Cluster) -> dict[str, int]:
    """Return the generation of each workload; a change of its specification raises it."""
    objects = kube.items(cluster.release, "deployments,statefulsets", *kube.selector(cluster.release))
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in objects}


def state(cluster: Cluster) -> dict[str, Any]:
    """Return what must survive: the runs of the DAG, and the model that every replica serves."""
    runs = airflow.client(cluster.settings).send(airflow.runs("titanic"))
    return {"runs": sorted(run["dag_run_id"] for run in runs), "served": cluster.served()}


def test_each_profile_is_installed_over_the_one_before(cluster: Cluster) -> None:
    wait_for(
        "the end of every run",
        lambda: (
            not [
                run
                for run in airflow.client(cluster.settings).send(airflow.runs("titanic"))
                if run["state"] not in {"success", "failed"}
            ]
        ),
        seconds=600,
    )
    before = state(cluster)
    cluster.phaseflow("up", *values(*KIND))
    wait_for("the champion under the profile kind", lambda: state(cluster) == before)
    cluster.phaseflow("backup")
    # Production has other stores, which are empty.
    cluster.phaseflow("up", *values(*PRODUCTION))
    assert "phaseflow-postgres" not in cluster.kubectl("get", "statefulsets", "--output", "name")
    assert airflow.client(cluster.settings).send(airflow.runs("titanic")) == []
    cluster.phaseflow("restore")
    wait_for("the champion under the profile production", lambda: state(cluster) == before)


def test_a_second_installation_changes_nothing(cluster: Cluster) -> None:
    before = generations(cluster)
    cluster.phaseflow("up", *values(*PRODUCTION))
    assert generations(cluster) == before


def test_one_turn_of_the_loop_in_production(cluster: Cluster) -> None:
    version = int(cluster.served()["version"])
    with cluster.traffic(drift=True) as traffic:
        wait_for("the next champion", lambda: int(cluster.served()["version"]) > version, seconds=TURN_SECONDS)
    assert traffic["failed"] == 0
    names = {event["involvedObject"]["name"] for event in kube.items(cluster.release, "events")}
    # KubernetesExecutor starts a pod for each task, named by DAG and task.
    assert [name for name in names if name.startswith("titanic-extract-")]
