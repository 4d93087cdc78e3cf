"""Tests of the pod settings that the chart adds to runs of Kubeflow Pipelines."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from cli.charts.tests.rendering import Helm, Object, containers, of_kind

CHART = "kubeflow-pipelines"


def patch(objects: tuple[Object, ...]) -> dict[str, Any]:
    """The patch for every pod of a run."""
    config = next(
        manifest
        for manifest in of_kind(objects, "ConfigMap")
        if manifest["metadata"]["name"] == "workflow-controller-configmap"
    )
    pod_patch: dict[str, Any] = json.loads(yaml.safe_load(config["data"]["workflowDefaults"])["spec"]["podSpecPatch"])
    return pod_patch


def test_a_step_can_mount_every_key_of_the_store_secret(helm: Helm) -> None:
    # Argo's volume has only the two keys for archiving. A step's volume of the same name is merged into it.
    assert {"name": "p-s3-kfp", "secret": {"secretName": "p-s3-kfp", "items": None}} in patch(helm.objects(CHART))[
        "volumes"
    ]


@pytest.mark.parametrize("values", ["runs.archiveLogs=false", "global.store.ambientCredentials=true"])
def test_an_unused_key_has_no_volume(helm: Helm, values: str) -> None:
    assert not [volume for volume in patch(helm.objects(CHART, "--set", values))["volumes"] if "secret" in volume]


def test_a_step_without_requests_gets_the_default_requests(helm: Helm) -> None:
    (main,) = patch(helm.objects(CHART))["containers"]
    assert main["resources"] == {"requests": {"cpu": "100m"}}
    (main,) = patch(helm.objects(CHART, "--set", "runs.requests.memory=64Mi,runs.readOnlyRootFilesystem=false"))[
        "containers"
    ]
    assert main == {"name": "main", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}


def test_the_agent_leaves_finished_workflows_to_argo(helm: Helm) -> None:
    objects = helm.objects(CHART, "--set", "runs.keepSucceededSeconds=60,runs.keepFailedSeconds=7200")
    agent = next(
        manifest
        for manifest in of_kind(objects, "Deployment")
        if manifest["metadata"]["name"] == "ml-pipeline-persistenceagent"
    )
    assert "--ttlSecondsAfterWorkflowFinish=10800 " in containers(agent["spec"]["template"])[-1]["command"][-1]
