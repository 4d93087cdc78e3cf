"""Tests of what an installation adds to every pod, to the pods of one part, and to the pods of pipeline runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.charts import charts, schema
from cli.charts.tests.conftest import EVERYTHING
from cli.charts.tests.rendering import Helm, Object, containers, name, of_kind, pods
from phaseflow.settings import ROOT

PODS: dict[str, Any] = {
    "labels": {"team": "ml"},
    "annotations": {"example.com/a": "1"},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://egress:3128"}],
    "envFrom": [{"configMapRef": {"name": "site"}}],
    "volumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "volumeMounts": [{"name": "ca", "mountPath": "/etc/site-ca", "readOnly": True}],
    "initContainers": [{"name": "fetch", "image": "example.com/fetch:1"}],
    "nodeSelector": {"pool": "services"},
    "tolerations": [{"key": "services", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "important",
    "securityContext": {"supplementalGroups": [3000]},
}


def render(helm: Helm, tmp_path: Path, values: Any, *arguments: str) -> tuple[Object, ...]:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    return helm.objects("platform", "--set", EVERYTHING, *arguments, "--values", str(path))


def run_patch(objects: tuple[Object, ...]) -> tuple[Object, Object]:
    """The defaults of every run's workflow, and its patch of every pod."""
    (config,) = [manifest for manifest in objects if name(manifest) == "ConfigMap workflow-controller-configmap"]
    spec = yaml.safe_load(config["data"]["workflowDefaults"])["spec"]
    return spec, json.loads(spec["podSpecPatch"])


def test_every_key_is_used(helm: Helm, tmp_path: Path) -> None:
    assert PODS.keys() == schema._POD["properties"].keys()
    objects = render(helm, tmp_path, {"global": {"pod": PODS}})
    all_pods = dict(pods(objects))
    assert len(all_pods) > 25
    for owner, pod in all_pods.items():
        assert pod["metadata"]["labels"]["team"] == "ml", owner
        assert pod["metadata"]["annotations"]["example.com/a"] == "1", owner
        spec = pod["spec"]
        for key in ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName"):
            assert spec[key] == PODS[key], (owner, key)
        assert spec["securityContext"]["supplementalGroups"] == [3000], owner
        assert spec["securityContext"]["runAsNonRoot"] is True, owner
        assert PODS["volumes"][0] in spec["volumes"], owner
        first, *own = containers(pod)
        assert first["name"] == "fetch", owner
        assert first["securityContext"]["readOnlyRootFilesystem"] is True, owner
        for container in own:
            assert PODS["extraEnv"][0] in container["env"], owner
            assert container["envFrom"] == PODS["envFrom"], owner
            assert PODS["volumeMounts"][0] in container["volumeMounts"], owner


def test_a_part_has_more_and_its_entries_win(helm: Helm, tmp_path: Path) -> None:
    own = {
        "nodeSelector": {"pool": "web"},
        "tolerations": [{"key": "web"}],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "other"}, {"name": "PHASEFLOW_LOG_FORMAT", "value": "text"}],
    }
    all_pods = dict(pods(render(helm, tmp_path, {"global": {"pod": PODS}, "mlflow": {"pod": own}})))
    spec, other = all_pods["Deployment p-mlflow"]["spec"], all_pods["Deployment p-portal"]["spec"]
    assert spec["nodeSelector"] == {"pool": "web"}
    assert spec["tolerations"] == [*PODS["tolerations"], {"key": "web"}]
    variables = [(variable["name"], variable.get("value")) for variable in spec["containers"][0]["env"]]
    assert ("HTTPS_PROXY", "other") in variables
    assert ("PHASEFLOW_LOG_FORMAT", "text") in variables
    assert len(dict(variables)) == len(variables)
    assert other["nodeSelector"] == {"pool": "services"}
    assert ("PHASEFLOW_LOG_FORMAT", "json") in [(v["name"], v.get("value")) for v in other["containers"][0]["env"]]


def test_every_part_has_its_own_pod_values(helm: Helm, tmp_path: Path) -> None:
    values: dict[str, Any] = {}
    expected = set()
    for chart in map(charts.read, charts.names()):
        for value in chart.documented:
            if value.path[-1] == "pod" and value.key != "global.pod":
                path = value.path if chart.parts else (chart.name, *value.path)
                node = values
                for key in path[:-1]:
                    node = node.setdefault(key, {})
                node["pod"] = {"labels": {"part": ".".join(path[:-1])}}
                expected.add(".".join(path[:-1]))
    objects = render(helm, tmp_path, values)
    local = render(helm, tmp_path, values, "--set", "pipelines.engine=local,kubeflow-pipelines.enabled=false")
    database = "global.postgres.host=db,global.postgres.existingSecret=p,storage.postgres.enabled=false"
    bootstrap = "global.postgres.bootstrap.enabled=true,global.postgres.bootstrap.existingSecret=a"
    external = render(helm, tmp_path, values, "--set", f"{database},{bootstrap}")
    labels = {
        pod["metadata"]["labels"].get("part")
        for owner, pod in pods(objects + local + external)
        if not owner.startswith("Pod ")  # a pod of `helm test`
    }
    spec, _ = run_patch(objects)
    assert None not in labels
    assert labels | {spec["podMetadata"]["labels"]["part"]} == expected


def test_a_misspelt_key_is_an_error(helm: Helm) -> None:
    error = helm.template_error("platform", "--set", "mlflow.pod.nodeSelectors.a=b")
    assert "at '/pod': additional properties 'nodeSelectors' not allowed" in error


def test_no_user_is_fixed_on_openshift(helm: Helm, tmp_path: Path) -> None:
    text = json.dumps(render(helm, tmp_path, {"global": {"fixedUserIds": False}}))
    assert "runAsNonRoot" in text
    for field in ("runAsUser", "runAsGroup", "fsGroup", "RUN_AS_USER", "RUN_AS_GROUP"):
        assert field not in text


def test_one_storage_class_for_every_volume(helm: Helm, tmp_path: Path) -> None:
    def classes(*arguments: str) -> dict[str, str | None]:
        objects = render(helm, tmp_path, {"global": {"storageClass": "gp3"}}, *arguments)
        claims = [(manifest["metadata"]["name"], manifest) for manifest in of_kind(objects, "PersistentVolumeClaim")]
        for owner in of_kind(objects, "StatefulSet"):
            claims += [(owner["metadata"]["name"], claim) for claim in owner["spec"].get("volumeClaimTemplates", [])]
        return {claim_name: claim["spec"].get("storageClassName") for claim_name, claim in claims}

    everything = classes("--set", "kubeflow-pipelines.mysql.storageClass=fast")
    assert everything.pop("mysql") == "fast"
    assert len(everything) > 5
    assert set(everything.values()) == {"gp3"}


def test_runs_are_scheduled_apart_from_services(helm: Helm, tmp_path: Path) -> None:
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    runs = {"pod": {"nodeSelector": {"pool": "gpu"}, "tolerations": [gpu]}, "sharedMemory": "2Gi"}
    objects = render(helm, tmp_path, {"global": {"pod": PODS}, "kubeflow-pipelines": {"runs": runs}})
    spec, patch = run_patch(objects)
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"] == [*PODS["tolerations"], gpu]
    assert spec["podPriorityClassName"] == "important"
    assert spec["podMetadata"]["labels"] == {
        "app.kubernetes.io/name": "kubeflow-pipelines",
        "app.kubernetes.io/instance": "p",
        "app.kubernetes.io/component": "run",
        "app.kubernetes.io/part-of": "phaseflow",
        "team": "ml",
    }
    assert spec["podMetadata"]["annotations"] == {"example.com/a": "1"}
    (main,) = patch["containers"]
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in main["volumeMounts"]
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}} in patch["volumes"]
    assert main["env"] == PODS["extraEnv"]
    assert PODS["volumes"][0] in patch["volumes"]
    assert patch["securityContext"] == {"supplementalGroups": [3000], "runAsUser": 1000, "runAsGroup": 1000}
    assert dict(pods(objects))["Deployment workflow-controller"]["spec"]["nodeSelector"] == {"pool": "services"}


def test_pods_that_airflow_starts_are_scheduled_apart(helm: Helm, tmp_path: Path) -> None:
    values = {"airflow": {"pod": {"nodeSelector": {"pool": "a"}}, "tasks": {"pod": {"nodeSelector": {"pool": "b"}}}}}
    pools: dict[str, set[str]] = {"a": set(), "b": set()}
    for owner, pod in pods(render(helm, tmp_path, values)):
        if pool := pod["spec"].get("nodeSelector", {}).get("pool"):
            pools[pool].add(owner.rpartition("-migrate-")[0] or owner)
    assert pools["b"] == {f"ConfigMap p-airflow {file}.yaml" for file in ("pod", "maintenance", "worker")}
    processes = {f"Deployment p-airflow-{part}" for part in ("api-server", "scheduler", "dag-processor", "triggerer")}
    assert pools["a"] == {*processes, "Job p-airflow", "CronJob p-airflow-clean"}


def test_every_part_has_its_own_service_account(installed: tuple[Object, ...]) -> None:
    """No pod shares the account of another part, so that a cloud's role may be given to one part alone."""
    accounts: dict[str, set[str]] = {}
    for owner, pod in pods(installed):
        labels = pod["metadata"]["labels"]
        part = f"{labels['app.kubernetes.io/name']}/{labels['app.kubernetes.io/component']}"
        if part.endswith("/test"):
            assert "serviceAccountName" not in pod["spec"], owner
            continue
        accounts.setdefault(pod["spec"]["serviceAccountName"], set()).add(part)
    airflow = {"api-server", "scheduler", "dag-processor", "triggerer", "migrate", "clean", "worker"}
    for account, used_by in accounts.items():
        shared = {part for part in used_by if not part.startswith("serving/")}
        assert len(shared) <= 1 or {part.removeprefix("airflow/") for part in shared} <= airflow, account
    created = {manifest["metadata"]["name"] for manifest in of_kind(installed, "ServiceAccount")}
    # The pods of runs are not in the render.
    assert created - accounts.keys() <= {"pipeline-runner"}
    assert accounts.keys() <= created
    for manifest in of_kind(installed, "ServiceAccount"):
        runs = manifest["metadata"]["name"] == "pipeline-runner"
        assert manifest["automountServiceAccountToken"] is runs


def test_a_service_account_has_the_annotations_of_all_and_its_own(helm: Helm, tmp_path: Path) -> None:
    role = "eks.amazonaws.com/role-arn"
    values: dict[str, Any] = {"global": {"serviceAccount": {"annotations": {role: "all", "team": "ml"}}}}
    paths = [
        (*(() if chart.parts else (chart.name,)), *value.path)
        for chart in map(charts.read, charts.names())
        for value in chart.documented
        if value.path[-2:] == ("serviceAccount", "annotations") and value.path[0] != "global"
    ]
    for path in paths:
        node = values
        for key in path:
            node = node.setdefault(key, {})
        node[role] = ".".join(path[:-2])
    objects = render(helm, tmp_path, values)
    local = render(helm, tmp_path, values, "--set", "pipelines.engine=local,kubeflow-pipelines.enabled=false")
    annotations = [manifest["metadata"]["annotations"] for manifest in of_kind(objects + local, "ServiceAccount")]
    assert {annotation["team"] for annotation in annotations} == {"ml"}
    assert {annotation[role] for annotation in annotations} == {".".join(path[:-2]) for path in paths}


@pytest.mark.parametrize(
    "account", ["p-airflow-task", "p-serving", "p-mlflow", "p-monitor", "p-evidently", "p-portal", "p-backup"]
)
def test_the_readme_names_the_accounts_that_use_the_store(account: str) -> None:
    text = (charts.FOLDER / "platform" / "README.md").read_text()
    assert f"`{account.replace('p-', '<release>-', 1)}`" in text


def test_the_documented_variables_of_the_tools_are_set(helm: Helm, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "configure-the-tools.md").read_text()
    (values,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "values.yaml"
    path.write_text(values)
    owners = dict(pods(helm.objects("platform", "--values", str(path))))
    for owner, variable, value in (
        ("Deployment p-airflow-api-server", "AIRFLOW__API__INSTANCE_NAME", "Forecasts"),
        ("Deployment p-mlflow", "MLFLOW_HTTP_REQUEST_TIMEOUT", "30"),
        ("Deployment p-grafana", "GF_USERS_DEFAULT_THEME", "light"),
    ):
        entries = [entry for entry in containers(owners[owner])[-1]["env"] if entry["name"] == variable]
        assert [entry["value"] for entry in entries] == [value], owner
