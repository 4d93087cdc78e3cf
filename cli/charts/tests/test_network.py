"""Tests of the network policies: every address that a pod is given can be reached, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from cli.charts.tests.conftest import EVERYTHING
from cli.charts.tests.rendering import Helm, Object, containers, name, of_kind, pods
from phaseflow.settings import ROOT

LOCAL = ("platform", "--set", "backup.enabled=true,airflow.executor=KubernetesExecutor")
KFP = ("platform", "--set", EVERYTHING)
RUN = "run of a pipeline"
SOURCES = {
    # The code that each image runs, from which the parts that it calls are read.
    "monitor": ("services/monitor",),
    "portal": ("services/portal",),
    "serving": ("services/serving",),
    "airflow": ("dags",),
    "steps": ("pipelines/steps", "pipelines/etl", "pipelines/run.py"),
    "maintenance": ("pipelines/retention", "services/registry"),
    "mlflow": ("services/registry",),  # `phaseflow promote` and `rollback` run in its pod
}
UNUSED = {
    # They have Airflow's whole configuration, and change the database alone.
    ("Job p-airflow", "Deployment p-airflow-api-server"),
    ("CronJob p-airflow-clean", "Deployment p-airflow-api-server"),
    # It has every address, and no key of the store.
    ("Pod p-answers", "StatefulSet p-s3"),
}
"""Addresses that a pod is given but does not use."""
ADDRESS = re.compile(r"(?:[\w+]+://)?(?:[\w-]+@)?([a-z][a-z0-9-]*)(?:\.phaseflow\.svc)?(?:\.cluster\.local)?:(\d+)\b")


@dataclass(frozen=True, slots=True)
class Network:
    """The pods, Services and policies of an installation."""

    pods: dict[str, Object]
    services: dict[str, Object]
    policies: list[Object]

    def allows(self, client: str, server: str, port: int) -> bool:
        """Whether both the policies of the client and those of the server let a connection through."""
        out = self._open("egress", self.pods[client], self.pods[server], port)
        return out and self._open("ingress", self.pods[server], self.pods[client], port)

    def _open(self, direction: str, own: Object, other: Object, port: int) -> bool:
        field = {"egress": "to", "ingress": "from"}[direction]
        for policy in self.policies:
            if not selects(policy["spec"]["podSelector"], own):
                continue
            for rule in policy["spec"].get(direction, []):
                peers = rule.get(field)
                reached = peers is None or any("podSelector" in p and selects(p["podSelector"], other) for p in peers)
                if reached and ("ports" not in rule or port in [entry["port"] for entry in rule["ports"]]):
                    return True
        return False

    def targets(self, host: str, port: int) -> list[tuple[str, int]]:
        """Pods behind a Service, with the port of the pod."""
        service = self.services[host]["spec"]
        result = []
        for owner, pod in self.pods.items():
            if service["selector"].items() <= pod["metadata"]["labels"].items():
                (target,) = [entry["targetPort"] for entry in service["ports"] if entry["port"] == port]
                named = {e["name"]: e["containerPort"] for c in containers(pod) for e in c.get("ports", [])}
                result.append((owner, named.get(target, target)))
        return result


def selects(selector: Object, pod: Object) -> bool:
    return bool(selector.get("matchLabels", {}).items() <= pod["metadata"]["labels"].items())


def network(objects: tuple[Object, ...]) -> Network:
    all_pods = {owner.rpartition("-migrate-")[0] or owner: pod for owner, pod in pods(objects)}
    for manifest in objects:
        if name(manifest) == "ConfigMap workflow-controller-configmap":
            spec = yaml.safe_load(manifest["data"]["workflowDefaults"])["spec"]
            container = {"name": "main", "env": [], "args": ["ml-pipeline:8887 metadata-grpc-service:8080"]}
            all_pods[RUN] = {"metadata": spec["podMetadata"], "spec": {"containers": [container]}}
    services = {service["metadata"]["name"]: service for service in of_kind(objects, "Service")}
    return Network(all_pods, services, of_kind(objects, "NetworkPolicy"))


def texts(pod: Object, objects: tuple[Object, ...]) -> Iterator[str]:
    """Everything that a pod is told: environment, arguments, and the ConfigMaps and configuration Secrets that it mounts."""
    for container in containers(pod):
        variables = {v["name"]: v.get("value") or "" for v in container.get("env", [])}
        # Every process of ours is given every address; `calls` reads from the code which of them it uses.
        yield from (value for key, value in variables.items() if not re.fullmatch(r"PHASEFLOW_\w+_URL", key))
        for host_key in [key for key in variables if key.endswith("HOST")]:
            port_key = host_key.removesuffix("HOST") + "PORT"
            if port_key in variables:
                yield f"{variables[host_key]}:{variables[port_key]}"
        yield from container.get("command", [])
        yield from container.get("args", [])
    mounted = {volume["configMap"]["name"] for volume in pod["spec"].get("volumes", []) if "configMap" in volume} - {
        "p-airflow"
    }  # templates of other pods
    mounted |= {v["secret"]["secretName"] for v in pod["spec"].get("volumes", []) if v["name"] == "receivers"}
    for manifest in objects:
        if manifest["kind"] in {"ConfigMap", "Secret"} and manifest["metadata"]["name"] in mounted:
            yield from (manifest.get("data") or manifest["stringData"]).values()


def calls(part: str) -> set[str]:
    """Parts whose address the code of a part reads."""
    called: set[str] = set()
    for source in SOURCES[part]:
        path = ROOT / source
        for file in [path] if path.is_file() else path.rglob("*.py"):
            if "tests" not in file.parts:
                text = file.read_text()
                called |= set(re.findall(r"\b(\w+)_url\b", text)) | set(re.findall(r"\bclients\.(\w+)", text))
                called |= {
                    word.strip() for line in re.findall(r"clients import (.*)", text) for word in line.split(",")
                }
                called |= {"serving"} if "settings.serving(" in text else set()
    renamed = {"kfp": "pipelines"}
    names = {"airflow", "mlflow", "pipelines", "serving", "monitor", "evidently", "prometheus", "alertmanager"}
    names |= {"grafana", "portal"}
    return {renamed.get(word, word) for word in called} & names


def environment(pod: Object) -> dict[str, str]:
    return {v["name"]: v.get("value") or "" for v in containers(pod)[-1].get("env", [])}


@pytest.mark.parametrize("way", [LOCAL, KFP], ids=["local", "kfp"])
def test_every_address_that_a_pod_is_given_can_be_reached(helm: Helm, way: tuple[str, ...]) -> None:
    objects = helm.objects(*way)
    net = network(objects)
    refused, flows = set(), set()
    for client, pod in net.pods.items():
        for text in texts(pod, objects):
            for host, port in ADDRESS.findall(text):
                if host not in net.services:
                    continue
                for server, target in net.targets(host, int(port)):
                    if server != client:
                        flows.add((client, server))
                        refused |= set() if net.allows(client, server, target) else {(client, server, target)}
    assert {(client, server) for client, server, _ in refused} == UNUSED & flows
    assert len(flows) > 40
    for pair in (
        ("Deployment p-proxy", "Deployment p-mlflow"),
        ("StatefulSet p-prometheus", "Deployment p-monitor"),
        ("Deployment p-alertmanager", "Deployment p-monitor"),
        ("Deployment p-grafana", "StatefulSet p-prometheus"),
        ("CronJob p-backup", "StatefulSet p-postgres"),
        ("Deployment p-airflow-scheduler", "StatefulSet p-postgres"),
        ("Deployment p-airflow-scheduler", "Deployment p-airflow-statsd"),
    ):
        assert pair in flows


def test_evidently_is_asked_by_the_portal_alone_and_reads_the_store(helm: Helm) -> None:
    net = network(helm.objects(*LOCAL))
    clients = {client for client in net.pods if net.allows(client, "Deployment p-evidently", 8086)}
    assert clients == {"Deployment p-portal", "Pod p-answers"}
    assert net.allows("Deployment p-evidently", "StatefulSet p-s3", 8333)


@pytest.mark.parametrize(
    ("part", "owners"),
    [
        ("monitor", ("Deployment p-monitor",)),
        ("portal", ("Deployment p-portal",)),
        ("serving", ("Deployment p-serving-titanic",)),
        ("airflow", ("Deployment p-airflow-scheduler", "ConfigMap p-airflow worker.yaml")),
        ("steps", ("ConfigMap p-airflow pod.yaml",)),
        ("maintenance", ("ConfigMap p-airflow maintenance.yaml",)),
        ("mlflow", ("Deployment p-mlflow",)),
    ],
)
def test_every_part_that_the_code_calls_can_be_reached(helm: Helm, part: str, owners: tuple[str, ...]) -> None:
    net = network(helm.objects(*LOCAL))
    assert calls(part)
    for client in owners:
        variables = environment(net.pods[client])
        for called in calls(part):
            url = variables[f"PHASEFLOW_{called.upper()}_URL"].replace("{project}", "titanic")
            ((host, port),) = ADDRESS.findall(url)
            for server, target in net.targets(host, int(port)):
                assert net.allows(client, server, target), (client, server)


@pytest.mark.parametrize(
    ("client", "server", "port"),
    [
        ("ConfigMap p-airflow pod.yaml", "StatefulSet p-postgres", 5432),
        ("ConfigMap p-airflow pod.yaml", "StatefulSet p-prometheus", 9090),
        ("ConfigMap p-airflow pod.yaml", "Deployment p-airflow-api-server", 8080),
        ("Deployment p-serving-titanic", "StatefulSet p-postgres", 5432),
        ("Deployment p-serving-titanic", "Deployment p-alertmanager", 9093),
        ("Deployment p-portal", "StatefulSet p-postgres", 5432),
        ("Deployment p-proxy", "StatefulSet p-postgres", 5432),
        ("Deployment p-proxy", "StatefulSet p-s3", 8333),
        ("Deployment p-grafana", "Deployment p-mlflow", 5000),
        ("Deployment p-mlflow", "Deployment p-pipelines", 8888),
    ],
)
def test_what_a_part_does_not_need_is_refused(helm: Helm, client: str, server: str, port: int) -> None:
    assert not network(helm.objects(*LOCAL)).allows(client, server, port)


@pytest.mark.parametrize(
    ("server", "port"),
    [("StatefulSet mysql", 3306), ("StatefulSet p-postgres", 5432), ("StatefulSet p-prometheus", 9090)],
)
def test_a_training_step_reaches_no_database(helm: Helm, server: str, port: int) -> None:
    objects = helm.objects("platform", "--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true")
    net = network(objects)
    assert not net.allows(RUN, server, port)
    assert net.allows(RUN, "Deployment p-mlflow", 5000)
    assert net.allows(RUN, "StatefulSet p-s3", 8333)


def test_every_pod_is_closed_and_foreign_pods_are_left_alone(helm: Helm) -> None:
    net = network(helm.objects(*KFP))
    foreign = {"metadata": {"labels": {"app": "other"}}}
    for policy in net.policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert not selects(policy["spec"]["podSelector"], foreign), name(policy)
    for owner, pod in net.pods.items():
        assert len([policy for policy in net.policies if selects(policy["spec"]["podSelector"], pod)]) == 2, owner


def rules(objects: tuple[Object, ...], part: str, direction: str) -> list[Any]:
    (policy,) = [manifest for manifest in objects if name(manifest) == f"NetworkPolicy p-{part}"]
    entries: list[Any] = policy["spec"][direction]
    return entries


def outside(objects: tuple[Object, ...], part: str) -> list[list[int]]:
    """Ports on which a part reaches any address, but for those of DNS."""
    open_rules = [rule for rule in rules(objects, part, "egress") if "to" not in rule]
    return [ports for rule in open_rules if 53 not in (ports := [entry["port"] for entry in rule["ports"]])]


def test_only_who_asks_kubernetes_or_reads_sources_reaches_the_outside(helm: Helm) -> None:
    objects = helm.objects(*LOCAL)
    for part in (
        "serving",
        "portal",
        "monitor",
        "evidently",
        "mlflow",
        "proxy",
        "postgres",
        "steps",
        "maintenance",
        "grafana",
    ):
        assert outside(objects, part) == [], part
    assert outside(objects, "scheduler") == [[443, 6443]]
    blocks = [
        peer["ipBlock"]
        for rule in rules(objects, "steps", "egress")
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    ]
    assert blocks[0]["cidr"] == "0.0.0.0/0"
    assert "169.254.0.0/16" in blocks[0]["except"]
    assert "ipBlock" not in json.dumps(rules(helm.objects(*LOCAL, "--set", "global.offline=true"), "steps", "egress"))


def test_the_login_reaches_the_provider_alone(helm: Helm) -> None:
    for issuer, port in (
        ("https://login.example.com/realms/ml", 443),
        ("http://keycloak:8080/realms/ml", 8080),
        ("https://login.example.com:8443", 8443),
    ):
        values = f"{EVERYTHING},global.auth.oidc.issuer={issuer}"
        objects = helm.objects("platform", "--set", values)
        assert outside(objects, "login") == [[port]]
        (rule,) = rules(objects, "login", "ingress")
        (peer,) = rule["from"]
        assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "proxy"


def test_stores_and_parts_elsewhere_are_reached_by_their_ports(helm: Helm) -> None:
    values = (
        "storage.enabled=false,global.postgres.host=db,global.postgres.port=6432,global.postgres.existingSecret=p,"
        "global.store.external=true,global.store.ambientCredentials=true,mlflow.enabled=false,"
        "global.addresses.mlflow=http://mlflow.tools:5001,global.addresses.grafana=https://grafana.example.com"
    )
    objects = helm.objects("platform", "--set", values)
    assert outside(objects, "serving") == [[5001], [443]]
    assert outside(objects, "migrate") == [[6432], [443]]
    assert outside(objects, "portal") == [[443], [5001], [443]]
    assert "169.254.0.0/16" in json.dumps(rules(objects, "serving", "egress"))
    assert "169.254.0.0/16" not in json.dumps(rules(objects, "grafana", "egress"))


def test_an_installation_may_open_more(helm: Helm) -> None:
    values = (
        "networkPolicy.extra.steps.egress[0].to[0].ipBlock.cidr=10.1.0.0/16,"
        "networkPolicy.extra.grafana.ingress[0].from[0].podSelector.matchLabels.app=bot,"
        "monitoring.alertmanager.receivers[0].name=slack"
    )
    objects = helm.objects("platform", "--set", values)
    assert rules(objects, "steps", "egress")[-1] == {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]}
    assert rules(objects, "grafana", "ingress")[-1] == {"from": [{"podSelector": {"matchLabels": {"app": "bot"}}}]}
    assert outside(objects, "alertmanager") == [[25, 443, 465, 587]]


def test_anyone_may_call_the_proxy_alone(helm: Helm) -> None:
    objects = helm.objects("platform")
    anyone = [
        policy["metadata"]["name"]
        for policy in of_kind(objects, "NetworkPolicy")
        if any("from" not in rule for rule in policy["spec"].get("ingress", []))
    ]
    assert anyone == ["p-proxy"]
    assert not of_kind(helm.objects("platform", "--set", "networkPolicy.enabled=false"), "NetworkPolicy")


def outsiders(objects: tuple[Object, ...]) -> dict[str, list[Any]]:
    """Selectors of other namespaces that each policy lets in."""
    return {
        policy["metadata"]["name"]: [
            peer["namespaceSelector"]["matchLabels"]
            for rule in policy["spec"].get("ingress", [])
            for peer in rule.get("from", [])
            if "namespaceSelector" in peer
        ]
        for policy in of_kind(objects, "NetworkPolicy")
    }


def test_prometheus_in_another_namespace_is_let_in(helm: Helm) -> None:
    values = "monitoring.operator.enabled=true,monitoring.operator.namespace=watch,networkPolicy.allowFrom[0].matchLabels.team=web"
    admitted = [{"team": "web"}, {"kubernetes.io/metadata.name": "watch"}]
    peers = outsiders(helm.objects("platform", "--set", values))
    assert {name: selectors for name, selectors in peers.items() if selectors} == {
        "p-serving": admitted,
        "p-monitor": admitted,
    }
    assert not any(outsiders(helm.objects("platform")).values())
