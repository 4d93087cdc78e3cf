"""What the pods of Kubeflow Pipelines' runs get beside what a pipeline says of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from helm.tests.rendering import Helm, Object, containers, of_kind

CHART = "kubeflow-pipelines"


def patch(objects: tuple[Object, ...]) -> dict[str, Any]:
    """The patch of every pod of a run."""
    config = next(
        it for it in of_kind(objects, "ConfigMap") if it["metadata"]["name"] == "workflow-controller-configmap"
    )
    found: dict[str, Any] = json.loads(yaml.safe_load(config["data"]["workflowDefaults"])["spec"]["podSpecPatch"])
    return found


def test_a_step_that_mounts_the_stores_secret_finds_every_key_of_it(helm: Helm) -> None:
    # Argo's volume of that name holds the two keys that archiving needs; a step's volume of that name is merged into it.
    assert {"name": "p-s3-kfp", "secret": {"secretName": "p-s3-kfp", "items": None}} in patch(helm.objects(CHART))[
        "volumes"
    ]


@pytest.mark.parametrize("values", ["runs.archiveLogs=false", "global.store.ambientCredentials=true"])
def test_no_volume_of_a_key_that_is_not_mounted(helm: Helm, values: str) -> None:
    assert not [volume for volume in patch(helm.objects(CHART, "--set", values))["volumes"] if "secret" in volume]


def test_a_step_with_a_limit_alone_asks_for_less_than_that(helm: Helm) -> None:
    (main,) = patch(helm.objects(CHART))["containers"]
    assert main["resources"] == {"requests": {"cpu": "100m"}}
    (main,) = patch(helm.objects(CHART, "--set", "runs.requests.memory=64Mi,runs.readOnlyRootFilesystem=false"))[
        "containers"
    ]
    assert main == {"name": "main", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}


def test_the_agent_leaves_finished_workflows_to_argo(helm: Helm) -> None:
    objects = helm.objects(CHART, "--set", "runs.keepSucceededSeconds=60,runs.keepFailedSeconds=7200")
    agent = next(
        it for it in of_kind(objects, "Deployment") if it["metadata"]["name"] == "ml-pipeline-persistenceagent"
    )
    assert "--ttlSecondsAfterWorkflowFinish=10800 " in containers(agent["spec"]["template"])[-1]["command"][-1]
