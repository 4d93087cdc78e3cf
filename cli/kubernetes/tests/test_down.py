"""What `down` deletes, from the calls of helm and kubectl."""

from __future__ import annotations

import contextlib

import pytest

from cli.kubernetes import install, kube
from cli.kubernetes.kube import Release
from phaseflow.errors import PlatformError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of kubectl and helm."""
    recorded: list[str] = []

    def run(_: Release, *arguments: str, stdin: str | None = None) -> str:
        recorded.append(" ".join(arguments))
        return ""

    monkeypatch.setattr(kube, "kubectl", run)
    monkeypatch.setattr(kube, "helm", run)
    return recorded


def test_down_keeps_runs_and_volumes(calls: list[str]) -> None:
    install.down(Release(), data=False)
    assert [call.split()[0] for call in calls] == ["uninstall"]


def test_down_with_data_leaves_no_run_behind(calls: list[str]) -> None:
    install.down(Release(), data=True)
    assert calls[2:] == [
        "delete scheduledworkflows.kubeflow.org --all",
        "delete workflows.argoproj.io --selector pipeline/runid",
        "delete pods --selector pipeline/runid",
        "delete lease workflow-controller --ignore-not-found",
    ]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ('kubectl failed: error: the server doesn\'t have a resource type "workflows"', False),
        ("kubectl failed: Error from server (Forbidden): workflows.argoproj.io is forbidden", True),
    ],
)
def test_down_with_data_works_without_kubeflow_pipelines(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, error: str, raised: bool
) -> None:
    def kubectl(_: Release, *arguments: str, stdin: str | None = None) -> str:
        if "." in arguments[1]:
            raise PlatformError(error, fix="Correct it")
        calls.append(" ".join(arguments))
        return ""

    monkeypatch.setattr(kube, "kubectl", kubectl)
    with pytest.raises(PlatformError) if raised else contextlib.nullcontext():
        install.down(Release(), data=True)
    assert ("delete lease workflow-controller --ignore-not-found" in calls) is not raised
