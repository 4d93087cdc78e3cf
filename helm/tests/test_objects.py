"""Every way to install a chart: what it makes is safe, whole and named as it should be."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from helm import charts, images
from helm.tests.rendering import Helm, Object, containers, name, of_kind, parts, pods

# Restricted volumes of the Pod Security Standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
NO_LIVENESS = {
    # It listens on no port and ends when it fails.
    "ml-pipeline-persistenceagent",
}
TOKENS = {
    # Starts a project's steps, and tasks where each is a pod; the triggerer waits for them.
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
    # These read them from nowhere else.
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
    # Secrets that a chart alone expects, as its README says.
    "airflow": {"p-postgres-airflow", "p-s3-airflow", "p-s3-steps", "p-s3-maintenance", "p-monitoring"},
    "kubeflow-pipelines": {"p-s3-kfp"},
    "mlflow": {"p-postgres-mlflow", "p-s3-mlflow"},
    "monitoring": {"p-s3-monitor", "p-airflow"},
    "portal": {"p-s3-portal"},
    "serving": {"p-s3-serving"},
    "storage": set(),
}


def violations(pod: Object) -> list[str]:
    """What the restricted Pod Security Standard refuses of a pod."""
    spec = pod["spec"]
    found = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += [f"volume {volume['name']}" for volume in spec.get("volumes", []) if not set(volume) - {"name"} <= VOLUMES]
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
        found += [f"{container['name']}: {key}" for key, bad in wrong.items() if bad]
    return found


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
    ("change", "said"),
    [
        ({}, []),
        ({"hostNetwork": True}, ["hostNetwork"]),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, ["volume v"]),
        ({"securityContext": {"runAsNonRoot": True}}, ["c: seccompProfile"]),
        ({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}, ["c: runAsNonRoot"]),
        ({"containers": [{"name": "c"}]}, ["c: allowPrivilegeEscalation", "c: capabilities.drop"]),
    ],
)
def test_the_checker_sees_what_the_standard_refuses(change: Object, said: list[str]) -> None:
    assert violations({"spec": {**SAFE["spec"], **change}}) == said


def test_every_pod_meets_the_restricted_standard(installed: tuple[Object, ...]) -> None:
    found = dict(pods(installed))
    assert found
    assert {owner: wrong for owner, pod in found.items() if (wrong := violations(pod))} == {}


def test_every_container_has_a_read_only_root_and_says_what_it_needs(installed: tuple[Object, ...]) -> None:
    for owner, pod in pods(installed):
        for container in containers(pod):
            here = f"{owner}: {container['name']}"
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, here
            if "yaml" in owner:  # the operator adds image and resources; the executor has its own
                continue
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), here
            assert "memory" in container["resources"]["limits"], here


def test_every_process_is_probed(installed: tuple[Object, ...]) -> None:
    asked = [it["spec"]["selector"] for it in of_kind(installed, "Service")]
    for it in of_kind(installed, "Deployment", "StatefulSet"):
        labels = it["spec"]["template"]["metadata"]["labels"]
        for container in it["spec"]["template"]["spec"]["containers"]:
            assert "livenessProbe" in container or it["metadata"]["name"] in NO_LIVENESS, name(it)
            if any(selector.items() <= labels.items() for selector in asked):
                assert "readinessProbe" in container, name(it)


def test_only_who_asks_kubernetes_has_a_token(installed: tuple[Object, ...]) -> None:
    for owner, pod in pods(installed):
        labels = pod["metadata"]["labels"]
        who = f"{labels.get('app.kubernetes.io/name')}/{labels.get('app.kubernetes.io/component')}"
        may = who in TOKENS or owner.endswith("worker.yaml")
        assert pod["spec"]["automountServiceAccountToken"] is may, owner


def test_no_secret_is_outside_of_a_secret(installed: tuple[Object, ...]) -> None:
    secrets = of_kind(installed, "Secret")
    rest = json.dumps([it for it in installed if it["kind"] != "Secret"])
    for it in secrets:
        for key, value in it["stringData"].items():
            words = [word for word in re.split(r"[^A-Za-z0-9+/=]+", value) if len(word) >= 20]
            words += re.findall(
                r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}", value
            )  # bcrypt's dots may leave short words alone
            assert words or key == "username", f"{name(it)} {key}"
            assert not [word for word in words if word in rest], f"{name(it)} {key}"


def test_secrets_are_read_from_files(installed: tuple[Object, ...]) -> None:
    for owner, pod in pods(installed):
        for container in containers(pod):
            assert "envFrom" not in container, owner
            found = {it["name"] for it in container.get("env", []) if "secretKeyRef" in it.get("valueFrom", {})}
            assert found <= SECRETS_IN_ENVIRONMENT.get(owner.partition(" ")[2], set()), owner


def test_no_client_of_the_database_waits_long_for_a_connection(installed: tuple[Object, ...]) -> None:
    for owner, pod in pods(installed):
        for container in containers(pod):
            told = {it["name"]: it.get("value") for it in container.get("env", [])}
            if "PGPASSFILE" in told:
                assert 0 < int(told["PGCONNECT_TIMEOUT"]) <= 10, owner


def test_every_image_is_ours_or_in_the_lock(installed: tuple[Object, ...]) -> None:
    locked = {
        f"{it['name']}:{it['tag']}" + (f"@{it['digest']}" if it["digest"] else "")
        for it in yaml.safe_load((charts.FOLDER / "images.lock.yaml").read_text())["images"]
    }
    text = json.dumps(installed)
    for _, pod in pods(installed):
        for container in containers(pod):
            image = container.get("image", "phaseflow/of-the-operator:dev")
            image = image.removeprefix("registry.example/")
            assert image in locked or re.fullmatch(r"phaseflow/[a-z-]+:(dev|version\.example)", image), image
    for image in re.findall(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", text):
        assert image.removeprefix("registry.example/") in locked


def test_every_service_reaches_a_port_of_a_pod(installed: tuple[Object, ...]) -> None:
    found = [pod for _, pod in pods(installed)]
    for it in of_kind(installed, "Service"):
        selector = it["spec"]["selector"]
        chosen = [pod for pod in found if selector.items() <= pod["metadata"]["labels"].items()]
        assert chosen, name(it)
        for port in it["spec"]["ports"]:
            for pod in chosen:
                ports = [each for container in pod["spec"]["containers"] for each in container.get("ports", [])]
                known = {each.get("name") for each in ports} | {each["containerPort"] for each in ports}
                assert port["targetPort"] in known, name(it)


def test_every_budget_and_autoscaler_is_of_something(installed: tuple[Object, ...]) -> None:
    found = [pod for _, pod in pods(installed)]
    for it in of_kind(installed, "PodDisruptionBudget"):
        selector = it["spec"]["selector"]["matchLabels"]
        assert [pod for pod in found if selector.items() <= pod["metadata"]["labels"].items()], name(it)
    scaled = {name(it): it for it in of_kind(installed, "Deployment", "StatefulSet")}
    for it in of_kind(installed, "HorizontalPodAutoscaler"):
        target = it["spec"]["scaleTargetRef"]
        assert "replicas" not in scaled[f"{target['kind']} {target['name']}"]["spec"], name(it)


def test_what_several_replicas_serve_outlives_a_drained_node(installed: tuple[Object, ...]) -> None:
    budgets = [it["spec"]["selector"]["matchLabels"] for it in of_kind(installed, "PodDisruptionBudget")]
    for it in of_kind(installed, "Deployment"):
        if it["spec"].get("replicas", 2) > 1:
            labels = it["spec"]["template"]["metadata"]["labels"]
            assert any(selector.items() <= labels.items() for selector in budgets), name(it)


def references(spec: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    """(kind, name, keys) of what a pod mounts or reads."""
    found: list[tuple[str, str, tuple[str, ...]]] = []
    sources = [each for it in spec.get("volumes", []) for each in [it, *it.get("projected", {}).get("sources", [])]]
    for source in sources:
        for kind, field, key in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
            if field in source:
                it = source[field]
                if it.get("optional"):  # the pod starts without it
                    continue
                items = tuple(each["key"] for each in it.get("items", []))
                found.append((kind, it.get(key) or it["name"], items))
        if "persistentVolumeClaim" in source:
            found.append(("PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"], ()))
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for it in container.get("env", []):
            for kind, field in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                if ref := it.get("valueFrom", {}).get(field):
                    found.append((kind, ref["name"], (ref["key"],)))
    if "serviceAccountName" in spec:
        found.append(("ServiceAccount", spec["serviceAccountName"], ()))
    return found


def test_whatever_a_pod_mounts_exists_or_is_asked_for(
    installed: tuple[Object, ...], request: pytest.FixtureRequest
) -> None:
    way = request.node.callspec.id
    known = {(it["kind"], it["metadata"]["name"]): it for it in installed}
    # A user's own, which production's values name.
    needed = NEEDED.get(way, {"phaseflow-postgres"} if way == "production" else set())
    asked = set()
    for owner, pod in pods(installed):
        for kind, wanted, keys in references(pod["spec"]):
            if kind == "Secret" and wanted in needed:
                asked.add(wanted)
                continue
            assert (kind, wanted) in known, f"{owner}: {kind} {wanted}"
            it = known[kind, wanted]
            assert set(keys) <= (it.get("stringData") or it.get("data") or {}).keys(), (
                f"{owner}: {kind} {wanted}: {keys}"
            )
    assert asked == needed


@pytest.mark.parametrize(("chart", "needed"), NEEDED.items(), ids=NEEDED)
def test_the_readme_says_which_secrets_a_chart_alone_needs(chart: str, needed: set[str]) -> None:
    text = (charts.FOLDER / chart / "README.md").read_text()
    for secret in needed:
        kind = secret.removeprefix("p-")
        assert f"`<release>-{kind}`" in text or f"create secret generic kfp-{kind}" in text, secret


def test_objects_are_named_by_the_release_and_labelled(installed: tuple[Object, ...]) -> None:
    assert installed
    for it in installed:
        labels, own = it["metadata"]["labels"], it["metadata"]["name"]
        assert len(own) <= 63
        # KFP's programs look for each other under fixed names.
        assert own == "p" or own.startswith("p-") or labels["app.kubernetes.io/name"] == "kubeflow-pipelines", name(it)
        assert labels["app.kubernetes.io/instance"] == "p"
        assert labels["app.kubernetes.io/part-of"] == "phaseflow"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["app.kubernetes.io/version"]
        assert labels["helm.sh/chart"].startswith(labels["app.kubernetes.io/name"])
    for owner, pod in pods(installed):
        assert pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "p", owner


def test_no_two_objects_have_one_name(installed: tuple[Object, ...]) -> None:
    found = [name(it) for it in installed]
    assert len(set(found)) == len(found)


def test_what_helm_test_runs_cleans_up_after_itself(installed: tuple[Object, ...]) -> None:
    found = [it for it in installed if it["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]
    assert found
    assert {it["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for it in found} == {
        "before-hook-creation,hook-succeeded"
    }


def test_each_part_is_in_the_umbrella(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true")
    assert parts(objects) == set(charts.names())


def test_stand_ins_are_asked_for_without_a_digest(helm: Helm) -> None:
    standins = charts.FOLDER.parent / "tests" / "cluster" / "values-standins.yaml"
    values = ("--values", str(charts.FOLDER / "platform" / "values-kind.yaml"))
    assert "@sha256:" in json.dumps(helm.objects("platform", *values))
    assert "@sha256:" not in json.dumps(helm.objects("platform", *values, "--values", str(standins)))


def test_a_mirror_stands_before_every_image(helm: Helm) -> None:
    mirror = "registry.example.com/ml"
    objects = helm.objects(
        "platform", "--set", f"global.images.registry={mirror},pipelines.engine=kfp,kubeflow-pipelines.enabled=true"
    )
    named = [container["image"] for _, pod in pods(objects) for container in containers(pod) if "image" in container]
    assert len(named) > 20
    assert [image for image in named if not image.startswith(f"{mirror}/")] == []
    # And those that others start: steps, drivers, launchers, Argo's executor.
    text = json.dumps(objects)
    for image in images.gather(charts.read(chart) for chart in charts.names()):
        assert not re.search(rf"(?<!{re.escape(mirror)}/){re.escape(image.reference)}", text), image.reference
