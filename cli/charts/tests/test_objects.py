"""Tests of the rendered objects of every installation: security, references, probes and names."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from cli.charts import charts
from cli.charts.tests.rendering import Helm, Object, containers, generated_secrets, name, of_kind, parts, pods
from phaseflow import __version__

# Restricted volumes of the Pod Security Standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
NO_LIVENESS = {
    # It listens on no port, and exits when it fails.
    "ml-pipeline-persistenceagent",
}
TOKENS = {
    # Start the pods of steps and tasks, and wait for them.
    "airflow/scheduler",
    "airflow/triggerer",
    # Read or write workflows.
    "kubeflow-pipelines/ml-pipeline",
    "kubeflow-pipelines/ml-pipeline-persistenceagent",
    "kubeflow-pipelines/ml-pipeline-scheduledworkflow",
    "kubeflow-pipelines/ml-pipeline-ui",
    "kubeflow-pipelines/workflow-controller",
}
SECRETS_IN_ENVIRONMENT = {
    # These programs read credentials only from environment variables.
    "ml-pipeline": {
        "DBCONFIG_MYSQLCONFIG_USER",
        "DBCONFIG_MYSQLCONFIG_PASSWORD",
        "OBJECTSTORECONFIG_ACCESSKEY",
        "OBJECTSTORECONFIG_SECRETACCESSKEY",
    },
    "metadata-grpc": {"MYSQL_USER", "MYSQL_PASSWORD"},
    "ml-pipeline-ui": {"MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
}
NEEDED = {
    # Secrets that a chart needs when it is installed alone, as its README says.
    "airflow": {"p-postgres-airflow", "p-s3-airflow", "p-s3-steps", "p-s3-maintenance", "p-monitoring"},
    "kubeflow-pipelines": {"p-s3-kfp"},
    "mlflow": {"p-postgres-mlflow", "p-s3-mlflow"},
    "monitoring": {"p-s3-monitor", "p-s3-portal", "p-airflow"},
    "portal": {"p-s3-portal"},
    "serving": {"p-s3-serving"},
    "storage": set(),
}

USERS = {
    # Secrets of the user that the values of an installation name.
    "production": {"phaseflow-postgres", "phaseflow-postgres-administrator"},
    "everything": {"login"},
}


def violations(pod: Object) -> list[str]:
    """Violations of the restricted Pod Security Standard by a pod."""
    spec = pod["spec"]
    problems = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    problems += [
        f"volume {volume['name']}" for volume in spec.get("volumes", []) if not set(volume) - {"name"} <= VOLUMES
    ]
    whole = spec.get("securityContext", {})
    for container in containers(pod):
        own = container.get("securityContext", {})
        both = {**whole, **own}
        wrong = {
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
            "capabilities.drop": "ALL" not in own.get("capabilities", {}).get("drop", []),
            "capabilities.add": bool(set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}),
            "privileged": bool(own.get("privileged")),
            "runAsNonRoot": both.get("runAsNonRoot") is not True,
            "runAsUser": both.get("runAsUser") == 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"},
            "hostPort": any("hostPort" in port for port in container.get("ports", [])),
        }
        problems += [f"{container['name']}: {key}" for key, bad in wrong.items() if bad]
    return problems


SAFE: Object = {
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "containers": [
            {"name": "c", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
        ],
    }
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"hostNetwork": True}, ["hostNetwork"]),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, ["volume v"]),
        ({"securityContext": {"runAsNonRoot": True}}, ["c: seccompProfile"]),
        ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, ["c: runAsNonRoot"]),
        ({"containers": [{"name": "c"}]}, ["c: allowPrivilegeEscalation", "c: capabilities.drop"]),
    ],
)
def test_violations_of_the_standard_are_detected(change: Object, expected: list[str]) -> None:
    assert violations({"spec": {**SAFE["spec"], **change}}) == expected


def test_every_pod_meets_the_restricted_standard(installed: tuple[Object, ...]) -> None:
    pod_by_owner = dict(pods(installed))
    assert pod_by_owner
    assert {owner: problems for owner, pod in pod_by_owner.items() if (problems := violations(pod))} == {}


def test_every_container_has_a_read_only_root_and_resource_requests(installed: tuple[Object, ...]) -> None:
    for owner, pod in pods(installed):
        for container in containers(pod):
            here = f"{owner}: {container['name']}"
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, here
            if "yaml" in owner:  # the operator adds image and resources; the executor sets its own
                continue
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), here
            assert "memory" in container["resources"]["limits"], here


def test_every_process_has_probes(installed: tuple[Object, ...]) -> None:
    selectors = [service["spec"]["selector"] for service in of_kind(installed, "Service")]
    for workload in of_kind(installed, "Deployment", "StatefulSet"):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        for container in workload["spec"]["template"]["spec"]["containers"]:
            assert "livenessProbe" in container or workload["metadata"]["name"] in NO_LIVENESS, name(workload)
            if any(selector.items() <= labels.items() for selector in selectors):
                assert "readinessProbe" in container, name(workload)


def test_only_who_asks_kubernetes_has_a_token(installed: tuple[Object, ...]) -> None:
    for owner, pod in pods(installed):
        labels = pod["metadata"]["labels"]
        who = f"{labels.get('app.kubernetes.io/name')}/{labels.get('app.kubernetes.io/component')}"
        may = who in TOKENS or owner.endswith("worker.yaml")
        assert pod["spec"]["automountServiceAccountToken"] is may, owner


def test_no_secret_is_outside_of_a_secret(installed: tuple[Object, ...]) -> None:
    secrets = generated_secrets(installed)
    rest = json.dumps([manifest for manifest in installed if manifest["kind"] != "Secret"])
    for secret in secrets:
        for key, value in secret["stringData"].items():
            words = [word for word in re.split(r"[^A-Za-z0-9+/=]+", value) if len(word) >= 20]
            words += re.findall(
                r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}", value
            )  # the dots of bcrypt hashes may split them into short words
            assert words or key == "username", f"{name(secret)} {key}"
            assert not [word for word in words if word in rest], f"{name(secret)} {key}"


def test_secrets_are_read_from_files(installed: tuple[Object, ...]) -> None:
    for owner, pod in pods(installed):
        for container in containers(pod):
            assert "envFrom" not in container, owner
            names = {
                variable["name"]
                for variable in container.get("env", [])
                if "secretKeyRef" in variable.get("valueFrom", {})
            }
            assert names <= SECRETS_IN_ENVIRONMENT.get(owner.partition(" ")[2], set()), owner


def test_database_clients_have_a_short_connection_timeout(installed: tuple[Object, ...]) -> None:
    for owner, pod in pods(installed):
        for container in containers(pod):
            variables = {variable["name"]: variable.get("value") for variable in container.get("env", [])}
            if "PGPASSFILE" in variables:
                assert 0 < int(variables["PGCONNECT_TIMEOUT"]) <= 10, owner


def test_every_third_party_image_is_in_the_lock(installed: tuple[Object, ...]) -> None:
    locked = {
        f"{image['name']}:{image['tag']}" + (f"@{image['digest']}" if image["digest"] else "")
        for image in yaml.safe_load((charts.FOLDER / "images.lock.yaml").read_text())["images"]
    }
    text = json.dumps(installed)
    for _, pod in pods(installed):
        for container in containers(pod):
            image = container.get("image", "phaseflow/of-the-operator:dev")
            image = image.removeprefix("registry.example/")
            assert image in locked or re.fullmatch(rf"phaseflow/[a-z-]+:(dev|{re.escape(__version__)})", image), image
    for image in re.findall(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", text):
        assert image.removeprefix("registry.example/") in locked


def test_every_service_selects_a_pod_with_its_port(installed: tuple[Object, ...]) -> None:
    all_pods = [pod for _, pod in pods(installed)]
    for service in of_kind(installed, "Service"):
        selector = service["spec"]["selector"]
        chosen = [pod for pod in all_pods if selector.items() <= pod["metadata"]["labels"].items()]
        assert chosen, name(service)
        for port in service["spec"]["ports"]:
            for pod in chosen:
                ports = [
                    port_entry for container in pod["spec"]["containers"] for port_entry in container.get("ports", [])
                ]
                target_ports = {port_entry.get("name") for port_entry in ports} | {
                    port_entry["containerPort"] for port_entry in ports
                }
                assert port["targetPort"] in target_ports, name(service)


def test_every_budget_and_autoscaler_has_a_target(installed: tuple[Object, ...]) -> None:
    all_pods = [pod for _, pod in pods(installed)]
    for budget in of_kind(installed, "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        assert [pod for pod in all_pods if selector.items() <= pod["metadata"]["labels"].items()], name(budget)
    scaled = {name(workload): workload for workload in of_kind(installed, "Deployment", "StatefulSet")}
    for autoscaler in of_kind(installed, "HorizontalPodAutoscaler"):
        target = autoscaler["spec"]["scaleTargetRef"]
        assert "replicas" not in scaled[f"{target['kind']} {target['name']}"]["spec"], name(autoscaler)


def test_every_replicated_deployment_has_a_disruption_budget(installed: tuple[Object, ...]) -> None:
    budgets = [budget["spec"]["selector"]["matchLabels"] for budget in of_kind(installed, "PodDisruptionBudget")]
    for deployment in of_kind(installed, "Deployment"):
        if deployment["spec"].get("replicas", 2) > 1:
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            assert any(selector.items() <= labels.items() for selector in budgets), name(deployment)


def references(spec: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    """(kind, name, keys) of each object that a pod mounts or reads."""
    result: list[tuple[str, str, tuple[str, ...]]] = []
    sources = [
        source
        for volume in spec.get("volumes", [])
        for source in [volume, *volume.get("projected", {}).get("sources", [])]
    ]
    for source in sources:
        for kind, field, key in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
            if field in source:
                reference = source[field]
                if reference.get("optional"):  # the pod starts without the object
                    continue
                items = tuple(entry["key"] for entry in reference.get("items", []))
                result.append((kind, reference.get(key) or reference["name"], items))
        if "persistentVolumeClaim" in source:
            result.append(("PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"], ()))
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for variable in container.get("env", []):
            for kind, field in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                if ref := variable.get("valueFrom", {}).get(field):
                    result.append((kind, ref["name"], (ref["key"],)))
    if "serviceAccountName" in spec:
        result.append(("ServiceAccount", spec["serviceAccountName"], ()))
    return result


def test_every_mounted_object_exists_or_is_a_documented_requirement(
    installed: tuple[Object, ...], request: pytest.FixtureRequest
) -> None:
    way = request.node.callspec.id
    manifests = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in installed}
    needed = NEEDED.get(way) or USERS.get(way, set())
    used = set()
    for owner, pod in pods(installed):
        for kind, reference, keys in references(pod["spec"]):
            if kind == "Secret" and reference in needed:
                used.add(reference)
                continue
            assert (kind, reference) in manifests, f"{owner}: {kind} {reference}"
            manifest = manifests[kind, reference]
            assert set(keys) <= (manifest.get("stringData") or manifest.get("data") or {}).keys(), (
                f"{owner}: {kind} {reference}: {keys}"
            )
    assert used == needed


@pytest.mark.parametrize(("chart", "needed"), NEEDED.items(), ids=NEEDED)
def test_the_readme_names_the_secrets_that_a_chart_alone_needs(chart: str, needed: set[str]) -> None:
    text = (charts.FOLDER / chart / "README.md").read_text()
    for secret in needed:
        kind = secret.removeprefix("p-")
        assert f"`<release>-{kind}`" in text or f"create secret generic kfp-{kind}" in text, secret


def test_objects_have_the_release_name_and_the_standard_labels(installed: tuple[Object, ...]) -> None:
    assert installed
    for manifest in installed:
        labels, own = manifest["metadata"]["labels"], manifest["metadata"]["name"]
        assert len(own) <= 63
        # Programs of KFP find each other by fixed names.
        assert own == "p" or own.startswith("p-") or labels["app.kubernetes.io/name"] == "kubeflow-pipelines", name(
            manifest
        )
        assert labels["app.kubernetes.io/instance"] == "p"
        assert labels["app.kubernetes.io/part-of"] == "phaseflow"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/version"]
        assert labels["helm.sh/chart"].startswith(labels["app.kubernetes.io/name"])
    for owner, pod in pods(installed):
        assert pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "p", owner


def test_object_names_are_unique(installed: tuple[Object, ...]) -> None:
    names = [name(manifest) for manifest in installed]
    assert len(set(names)) == len(names)


def test_pods_of_helm_test_are_deleted(installed: tuple[Object, ...]) -> None:
    hooks = [
        manifest for manifest in installed if manifest["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"
    ]
    assert hooks
    assert {manifest["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for manifest in hooks} == {
        "before-hook-creation,hook-succeeded"
    }


def missing_at_the_hook(objects: tuple[Object, ...]) -> list[str]:
    """Objects that a hook's pod mounts although Helm creates them only after the hook."""
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in objects if not hook(manifest)}
    return [
        f"{name(manifest)}: {kind} {reference}"
        for manifest in objects
        if hook(manifest) not in {"", "test"}  # tests run in a complete installation
        for _, pod in pods((manifest,))
        for kind, reference, _ in references(pod["spec"])
        if (kind, reference) in names
    ]


def hook(manifest: Object) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get("helm.sh/hook", ""))


def test_a_hook_waits_for_no_object_of_the_release(installed: tuple[Object, ...]) -> None:
    assert missing_at_the_hook(installed) == []


@pytest.mark.parametrize(("event", "problems"), [("pre-install", ["Pod x: Secret p"]), ("test", [])])
def test_an_object_that_a_hook_can_not_mount_is_detected(event: str, problems: list[str]) -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"name": "x", "annotations": {"helm.sh/hook": event}},
        "spec": {
            "containers": [{"name": "c"}],
            "volumes": [{"name": name, "secret": {"secretName": name}} for name in ("p", "given")],
        },
    }
    assert missing_at_the_hook((pod, {"kind": "Secret", "metadata": {"name": "p"}})) == problems


def test_the_umbrella_chart_has_every_part(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true")
    assert parts(objects) == set(charts.names())


def test_the_values_of_stand_ins_clear_every_digest(helm: Helm) -> None:
    standins = charts.FOLDER.parent / "tests" / "cluster" / "values-standins.yaml"
    values = ("--values", str(charts.FOLDER / "platform" / "values-kind.yaml"))
    assert "@sha256:" in json.dumps(helm.objects("platform", *values))
    assert "@sha256:" not in json.dumps(helm.objects("platform", *values, "--values", str(standins)))
