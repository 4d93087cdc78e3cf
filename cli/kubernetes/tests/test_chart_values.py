"""Helm's errors about unknown values, as helm 4.1.4 prints them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kubernetes.chart_values import unknown_value
from phaseflow.settings import ROOT

HEAD = "helm failed: Error: UPGRADE FAILED: values don't meet the specifications of the schema(s) in the following chart(s): "


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "platform: - at '': additional properties 'servng' not allowed",
            "The chart has no value 'servng'. Did you mean \"serving\"?",
        ),
        (
            "platform: - at '/proxy/image': additional properties 'tagg', 'x' not allowed serving: - at '': got null",
            "The chart has no value 'proxy.image.tagg'. Did you mean \"proxy.image.tag\"?",
        ),
        (
            "serving: - at '': additional properties 'replica' not allowed",
            "The chart has no value 'serving.replica'. Did you mean \"serving.replicas\"?",
        ),
        (
            "serving: - at '/replicas': got string, want integer platform: - at '': additional properties 'xyz' not allowed",
            "The chart has no value 'xyz'. The values there are: airflow, backup, common, gateway, global, ingress, kubeflow-pipelines, "
            "login, mlflow, monitoring, networkPolicy, pipelines, portal, proxy, serving, storage; helm/platform/README.md describes them.",
        ),
    ],
)
def test_an_unknown_value_is_named_with_the_closest_one(lines: str, message: str) -> None:
    assert str(unknown_value(HEAD + lines, ROOT / "helm")) == message


def test_other_errors_and_unknown_charts_are_no_reason_to_fail(tmp_path: Path) -> None:
    assert unknown_value(HEAD + "serving: - at '/replicas': got string, want integer", ROOT / "helm") is None
    error = unknown_value(HEAD + "other: - at '': additional properties 'a' not allowed", tmp_path)
    assert str(error).startswith("The chart has no value 'other.a'. The values there are: none")
