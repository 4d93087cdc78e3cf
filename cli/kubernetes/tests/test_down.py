"""What `down` deletes, from the calls of helm and kubectl."""

from __future__ import annotations

import pytest

from cli.kubernetes import install, kube
from cli.kubernetes.kube import Release

RESOURCES = {
    "argoproj.io": "cronworkflows.argoproj.io\nworkflows.argoproj.io\nworkflowtaskresults.argoproj.io\n",
    "kubeflow.org": "notebooks.kubeflow.org\nscheduledworkflows.kubeflow.org\n",
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of kubectl and helm; kubectl responds with the custom resources of `RESOURCES`."""
    recorded: list[str] = []

    def kubectl(_: Release, *arguments: str, stdin: str | None = None) -> str:
        recorded.append(" ".join(arguments))
        return RESOURCES[arguments[1].partition("=")[2]] if arguments[0] == "api-resources" else ""

    def helm(_: Release, *arguments: str) -> str:
        recorded.append(" ".join(arguments))
        return ""

    monkeypatch.setattr(kube, "kubectl", kubectl)
    monkeypatch.setattr(kube, "helm", helm)
    return recorded


def test_down_keeps_runs_and_volumes(calls: list[str]) -> None:
    install.down(Release(), data=False)
    assert [call.split()[0] for call in calls] == ["uninstall"]


def test_down_with_data_leaves_no_run_behind(calls: list[str]) -> None:
    install.down(Release(), data=True)
    deletions = [call for call in calls if call.startswith("delete")]
    assert deletions[1:] == [
        "delete scheduledworkflows.kubeflow.org --all",
        "delete workflows.argoproj.io,pods --selector pipeline/runid --ignore-not-found",
        "delete lease workflow-controller --ignore-not-found",
    ]


def test_down_with_data_works_without_kubeflow_pipelines(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.kubernetes.tests.test_down.RESOURCES", dict.fromkeys(RESOURCES, ""))
    install.down(Release(), data=True)
    assert [call for call in calls if call.startswith("delete")][1:] == []
