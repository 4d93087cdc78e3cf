"""Custom resource definitions before an installation and in a check, with objects as Kubernetes returns them."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.kubernetes import crds, install, kube
from cli.kubernetes.kube import Release
from cli.local.machine import Finding
from phaseflow.errors import PermanentError

RELEASE = Release(context="kind-test")
NAME = "workflows.argoproj.io"


class Server:
    """The definitions and Deployments of a cluster, and the calls of kubectl."""

    def __init__(self) -> None:
        self.definitions = {item["metadata"]["name"]: served(item) for item in crds.of_charts()}
        self.deployments: list[dict[str, Any]] = []
        self.configuration: dict[str, str] = {}
        self.calls: list[tuple[tuple[str, ...], str | None]] = []

    def kubectl(self, _: Release, *arguments: str, stdin: str | None = None) -> str:
        """Respond as kubectl does."""
        self.calls.append((arguments, stdin))
        if arguments[:2] == ("get", "customresourcedefinitions"):
            items = [self.definitions[name] for name in arguments[2:] if name in self.definitions]
            return json.dumps({"kind": "List", "items": items}) if items else ""
        if arguments[:2] == ("get", "deployments"):
            return json.dumps({"items": self.deployments})
        return json.dumps({"data": self.configuration}) if arguments[:2] == ("get", "configmap") else ""

    def applied(self) -> list[str]:
        """Names of the definitions that were applied."""
        return [
            item["metadata"]["name"]
            for arguments, stdin in self.calls
            if arguments[0] == "apply"
            for item in json.loads(stdin or "")["items"]
        ]


def served(manifest: dict[str, Any], manager: str = "helm") -> dict[str, Any]:
    """The definition as the API server returns it: with defaults and managers."""
    item = copy.deepcopy(manifest)
    item["spec"]["conversion"] = {"strategy": "None"}
    managers = [{"manager": manager, "operation": "Update"}]
    managers.append({"manager": "kube-apiserver", "operation": "Update", "subresource": "status"})
    item["metadata"] |= {"uid": "u", "managedFields": managers}
    return item


def controller(namespace: str, *arguments: str, instance: str = "") -> dict[str, Any]:
    container = {"image": "quay.io/argoproj/workflow-controller:v3.6.0", "command": ["workflow-controller"]}
    return {
        "metadata": {
            "name": "workflow-controller",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/instance": instance},
        },
        "spec": {"template": {"spec": {"containers": [container | {"args": list(arguments)}]}}},
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    state = Server()
    monkeypatch.setattr(kube, "kubectl", state.kubectl)
    return state


def subjects() -> dict[str, Finding]:
    return {finding.subject: finding for finding in crds.findings(RELEASE)}


def test_definitions_of_the_chart_are_in_order(server: Server) -> None:
    assert [(finding.subject, finding.ok) for finding in crds.findings(RELEASE)] == [("custom resources", True)]
    crds.apply(RELEASE, crds.of_charts())
    assert len(server.applied()) == 9
    arguments = next(arguments for arguments, _ in server.calls if arguments[0] == "apply")
    assert {"--server-side", "--field-manager=phaseflow"} <= set(arguments)
    assert server.calls[-1][0][0] == "wait"


def test_a_missing_definition_is_a_fault_only_if_something_needs_it(server: Server) -> None:
    del server.definitions[NAME]
    assert subjects()["custom resources"].ok
    assert "`phaseflow --context kind-test up`" in subjects()["custom resources"].observed
    server.deployments = [controller("phaseflow", "--namespaced", instance="phaseflow")]
    assert subjects().keys() == {NAME}
    assert subjects()[NAME].observed == "missing"
    assert "`phaseflow --context kind-test up`" in subjects()[NAME].fix
    crds.apply(RELEASE, crds.of_charts())
    assert NAME in server.applied()


def test_an_older_definition_is_named_and_replaced(server: Server) -> None:
    spec = server.definitions[NAME]["spec"]
    spec["versions"][0]["schema"]["openAPIV3Schema"]["required"] = ["metadata"]
    server.definitions[NAME]["metadata"]["managedFields"][0]["manager"] = "phaseflow"
    assert not subjects()[NAME].ok
    assert subjects()[NAME].observed == "another version than the chart's"
    crds.apply(RELEASE, crds.of_charts())
    assert NAME in server.applied()


def test_a_definition_of_another_installation_is_named_and_left_alone(server: Server) -> None:
    foreign = server.definitions[NAME]
    foreign["metadata"]["annotations"] = {"meta.helm.sh/release-name": "argo", "meta.helm.sh/release-namespace": "ci"}
    foreign["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}}
    server.definitions["workflowtemplates.argoproj.io"]["metadata"]["managedFields"][0]["manager"] = "kubectl-create"
    findings = subjects()
    assert findings.keys() == {NAME, "workflowtemplates.argoproj.io"}
    assert (findings[NAME].ok, findings[NAME].required) == (False, False)
    assert findings[NAME].observed == "belongs to the Helm release argo in ci"
    assert findings["workflowtemplates.argoproj.io"].observed == "belongs to another installation (kubectl-create)"
    crds.apply(RELEASE, crds.of_charts())
    assert len(server.applied()) == 7


def test_a_definition_of_another_installation_without_our_version_is_an_error(server: Server) -> None:
    foreign = server.definitions[NAME]
    foreign["metadata"]["managedFields"][0]["manager"] = "kubectl-client-side-apply"
    foreign["spec"]["versions"][0]["name"] = "v1beta1"
    assert subjects()[NAME].required
    with pytest.raises(
        PermanentError, match=rf"{NAME} belongs to another installation .*, and has no v1alpha1\. Update"
    ):
        crds.apply(RELEASE, crds.of_charts())
    assert server.applied() == []


@pytest.mark.parametrize(
    ("arguments", "conflict"),
    [
        ((), True),
        (("--namespaced",), False),
        (("--namespaced", "--managed-namespace=phaseflow"), True),
        (("--namespaced", "--managed-namespace", "phaseflow"), True),
        (("--namespaced", "--managed-namespace", "ci"), False),
    ],
)
def test_another_controller_that_would_run_our_workflows_is_named(
    server: Server, arguments: tuple[str, ...], conflict: bool
) -> None:
    server.deployments = [
        controller("ci", *arguments),
        controller("phaseflow", "--namespaced", instance="phaseflow"),
    ]
    findings = subjects()
    assert ("argo workflows" in findings) is conflict
    if conflict:
        assert findings["argo workflows"].observed == "ci/workflow-controller would also run this release's workflows"
        assert "--namespaced" in findings["argo workflows"].fix


def test_a_controller_with_an_instance_id_runs_its_own_workflows_alone(server: Server) -> None:
    server.deployments = [controller("ci")]
    server.configuration = {"config": "instanceID: mine\n"}
    assert subjects().keys() == {"custom resources"}


@pytest.mark.skipif(not shutil.which("helm"), reason="needs helm")
@pytest.mark.parametrize(("profile", "count"), [("small", 0), ("kind", 9)])
def test_the_values_decide_which_definitions_are_applied(
    profile: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "CHARTS", tmp_path / "charts")
    chart = install.chart()
    values = ["--values", str(chart / f"values-{profile}.yaml")]
    rendered = crds.of_release(Release(), chart, values, "client")
    assert len(rendered) == count
    assert rendered in ([], crds.of_charts())
