"""What the charts hand over to Kubeflow Pipelines, and what Airflow knows of it."""

from __future__ import annotations

import pytest

from cli.charts.tests.rendering import Helm, pods

KFP = "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,global.kfp.namespace=phaseflow"


def environment(helm: Helm, values: str, owner: str) -> dict[str, object]:
    """Environment variables of the first container of a pod, by name."""
    pod = dict(pods(helm.objects("platform", "--set", values)))[owner]
    return {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}


def test_the_link_to_a_run_leads_to_the_user_interface_only_where_there_is_one(helm: Helm) -> None:
    def page(values: str) -> object:
        return environment(helm, values, "Deployment p-airflow-scheduler").get("PHASEFLOW_KFP_PAGE")

    assert page(KFP) == "1"
    assert page(f"{KFP},kubeflow-pipelines.ui.enabled=false,global.kfp.ui=false") is None


@pytest.mark.parametrize("values", ["kubeflow-pipelines.ui.enabled=false", "global.kfp.ui=false"])
def test_one_answer_to_whether_there_is_a_user_interface(helm: Helm, values: str) -> None:
    error = helm.template_error("platform", "--set", f"{KFP},{values}")
    assert "kubeflow-pipelines.ui.enabled and global.kfp.ui differ: set both to true or both to false" in error


def test_both_programs_that_start_runs_refuse_pipelines_of_version_1(helm: Helm) -> None:
    for owner in ("Deployment ml-pipeline", "Deployment ml-pipeline-scheduledworkflow"):
        assert environment(helm, KFP, owner)["BLOCK_V1_PIPELINES"] == "true", owner
