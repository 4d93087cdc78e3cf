"""Tests of replicas, autoscaling, memory and volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.charts.tests.rendering import Helm, Object, name, of_kind, pods

MEMORY = {"Mi": 2**20, "Gi": 2**30}
# What upstream's own manifests request, or its documentation asks for.
NEEDED = {
    "Deployment ml-pipeline": 500,
    "Deployment ml-pipeline-persistenceagent": 500,
    "StatefulSet mysql": 800,
    "Deployment p-grafana": 512,
}


def by_name(objects: tuple[Object, ...]) -> dict[str, Object]:
    return {name(manifest): manifest for manifest in objects}


def test_an_idle_service_is_not_scaled(helm: Helm, filled_in: Path) -> None:
    objects = helm.objects("platform", "--values", str(filled_in))
    all_pods = dict(pods(objects))
    scalers = of_kind(objects, "HorizontalPodAutoscaler")
    assert scalers
    for scaler in scalers:
        target = scaler["spec"]["scaleTargetRef"]
        (container,) = all_pods[f"{target['kind']} {target['name']}"]["spec"]["containers"]
        request = int(container["resources"]["requests"]["cpu"].removesuffix("m"))
        share = scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]
        assert request * share / 100 >= 150
        assert scaler["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"] >= 15


def test_the_proxy_has_replicas_on_different_nodes(helm: Helm, filled_in: Path) -> None:
    manifests = by_name(helm.objects("platform", "--values", str(filled_in)))
    proxy = manifests["Deployment p-proxy"]["spec"]
    assert proxy["replicas"] == 2
    assert proxy["template"]["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    assert manifests["PodDisruptionBudget p-proxy"]["spec"]["minAvailable"] == 1
    assert "PodDisruptionBudget p-proxy" not in by_name(helm.objects("platform"))


@pytest.mark.parametrize("owner", NEEDED)
def test_memory_limits_are_not_below_what_upstream_requests(helm: Helm, owner: str) -> None:
    objects = helm.objects("platform", "--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true")
    limit = dict(pods(objects))[owner]["spec"]["containers"][-1]["resources"]["limits"]["memory"]
    assert int(limit[:-2]) * MEMORY[limit[-2:]] >= NEEDED[owner] * 2**20


def test_prometheus_stops_before_its_volume_is_full(helm: Helm) -> None:
    objects = helm.objects("monitoring")
    prometheus = by_name(objects)["StatefulSet p-prometheus"]["spec"]
    (claim,) = prometheus["volumeClaimTemplates"]
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) * 2**30
    prefix = "--storage.tsdb.retention.size="
    (retention,) = [arg for arg in prometheus["template"]["spec"]["containers"][0]["args"] if arg.startswith(prefix)]
    assert int(retention.removeprefix(prefix).removesuffix("GB")) * 2**30 <= 0.8 * size


def test_every_volume_stays_after_an_uninstallation(installed: tuple[Object, ...]) -> None:
    for claim in of_kind(installed, "PersistentVolumeClaim"):
        assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", name(claim)


def alertmanager(helm: Helm, tmp_path: Path, values: Any) -> tuple[dict[str, Object], Any]:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"  # renders are cached by their arguments
    path.write_text(yaml.safe_dump({"alertmanager": values}))
    objects = helm.objects("monitoring", "--values", str(path))
    return by_name(objects), dict(pods(objects))["Deployment p-alertmanager"]["spec"]


def test_alerts_go_to_any_receiver_from_a_secret(helm: Helm, tmp_path: Path) -> None:
    slack = {"name": "slack", "slack_configs": [{"api_url_file": "/etc/slack/url", "channel": "#ml"}]}
    mail = {"name": "mail", "email_configs": [{"to": "ml@example.com"}]}
    manifests, _ = alertmanager(helm, tmp_path, {"receivers": [slack, mail]})
    config = yaml.safe_load(manifests["Secret p-alertmanager"]["stringData"]["alertmanager.yml"])
    assert config["route"]["receiver"] == "slack"
    assert config["receivers"][1:] == [slack, mail]
    assert "alertmanager.yml" not in manifests["ConfigMap p-alertmanager"]["data"]
    files = {
        "receivers": [slack, mail],
        "receiver": "mail",
        "pod": {
            "volumes": [{"name": "slack", "secret": {"secretName": "slack"}}],
            "volumeMounts": [{"name": "slack", "mountPath": "/etc/slack"}],
        },
    }
    manifests, pod = alertmanager(helm, tmp_path, files)
    config = yaml.safe_load(manifests["Secret p-alertmanager"]["stringData"]["alertmanager.yml"])
    assert config["route"]["receiver"] == "mail"
    assert {"name": "slack", "mountPath": "/etc/slack"} in pod["containers"][0]["volumeMounts"]


def test_alertmanager_takes_a_whole_configuration(helm: Helm, tmp_path: Path) -> None:
    manifests, pod = alertmanager(helm, tmp_path, {"existingSecret": "mine"})
    assert "Secret p-alertmanager" not in manifests
    items = [{"key": "alertmanager.yml", "path": "alertmanager.yml"}]
    assert {"name": "receivers", "secret": {"secretName": "mine", "items": items}} in pod["volumes"]
