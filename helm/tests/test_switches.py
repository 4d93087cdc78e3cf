"""What a cluster has already takes the place of a part."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from helm import charts
from helm.tests.rendering import Helm, Object, containers, name, of_kind, parts, pods
from phaseflow import registry

PARTS = [name for name in charts.names() if name not in {"platform", "kubeflow-pipelines"}]


def environment(objects: tuple[Object, ...], deployment: str) -> dict[str, str]:
    it = next(it for it in of_kind(objects, "Deployment") if it["metadata"]["name"] == deployment)
    return {each["name"]: each.get("value", "") for each in containers(it["spec"]["template"])[-1]["env"]}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_switched_off_leaves_nothing(helm: Helm, part: str) -> None:
    objects = helm.objects("platform", "--set", f"{part}.enabled=false")
    assert parts(objects) == set(PARTS) - {part} | {"platform"}
    # Nor does the door lead there, nor does `helm test` ask it.
    config = next(it for it in of_kind(objects, "ConfigMap") if it["metadata"]["name"] == "p-door")
    assert f"http://p-{part}:" not in config["data"]["default.conf"]
    test = next(it for it in of_kind(objects, "Pod"))
    assert part.upper() not in test["spec"]["containers"][0]["args"]


def test_an_address_of_yours_is_told_to_every_process(helm: Helm) -> None:
    mine = "http://mlflow.tools:5000"
    objects = helm.objects("platform", "--set", f"mlflow.enabled=false,global.addresses.mlflow={mine}")
    told = [
        variable["value"]
        for _, pod in pods(objects)
        for container in containers(pod)
        for variable in container.get("env", [])
        if variable["name"] == "PHASEFLOW_MLFLOW_URL"
    ]
    assert len(told) > 10
    assert set(told) == {mine}


def test_kubeflow_pipelines_of_yours(helm: Helm) -> None:
    objects = helm.objects(
        "platform", "--set", "pipelines.engine=kfp,global.addresses.pipelines=http://ml-pipeline.kubeflow:8888"
    )
    assert "kubeflow-pipelines" not in parts(objects)
    assert not [it for it in objects if it["metadata"]["name"] == "p-pipelines"]
    assert environment(objects, "p-portal")["PHASEFLOW_PIPELINES_URL"] == "http://ml-pipeline.kubeflow:8888"


def test_postgres_of_yours(helm: Helm) -> None:
    values = "storage.postgres.enabled=false,global.postgres.host=db.example.com,global.postgres.port=5433,global.postgres.existingSecret=mine"
    objects = helm.objects("platform", "--set", values)
    assert not [it for it in objects if it["metadata"]["name"] == "p-postgres"]
    told = environment(objects, "p-airflow-scheduler")["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert told == "postgresql+psycopg2://airflow@db.example.com:5433/airflow"
    server = next(it for it in of_kind(objects, "Deployment") if it["metadata"]["name"] == "p-mlflow")
    assert "mlflow@db.example.com:5433/mlflow" in json.dumps(server)
    assert "p-postgres" not in json.dumps(objects)


@pytest.mark.parametrize(
    ("key", "secret"),
    [("global.store.existingSecret=mine", "mine"), ("global.store.ambientCredentials=true", None)],
    ids=["secret", "role"],
)
def test_an_s3_of_yours(helm: Helm, key: str, secret: str | None) -> None:
    objects = helm.objects(
        "platform", "--set", f"storage.s3.enabled=false,global.store.external=true,global.store.bucket=b,{key}"
    )
    assert not [it for it in objects if it["metadata"]["name"] == "p-s3"]
    found = environment(objects, "p-serving-titanic")
    assert found["PHASEFLOW_STORE"] == "s3://b/store"
    assert "AWS_ENDPOINT_URL" not in found  # AWS itself
    assert environment(objects, "p-airflow-scheduler").get("PHASEFLOW_S3_SECRET") == secret
    assert "p-s3" not in json.dumps(objects)


def test_an_s3_of_another_kind_has_an_endpoint(helm: Helm) -> None:
    values = "storage.s3.enabled=false,global.store.external=true,global.store.endpoint=https://minio.example.com,global.store.existingSecret=mine"
    objects = helm.objects("platform", "--set", values)
    assert environment(objects, "p-serving-titanic")["AWS_ENDPOINT_URL"] == "https://minio.example.com"
    assert environment(objects, "p-mlflow")["MLFLOW_S3_ENDPOINT_URL"] == "https://minio.example.com"


@pytest.mark.parametrize(
    ("values", "made"),
    [
        ("airflow.existingSecret=mine", "p-airflow"),
        ("monitoring.existingSecret=mine", "p-monitoring"),
        (
            "kubeflow-pipelines.mysql.existingSecret=mine,pipelines.engine=kfp,kubeflow-pipelines.enabled=true",
            "p-mysql",
        ),
        ("pipelines.existingSecret=mine,airflow.engineSecret=mine", "p-pipelines"),
        ("serving.feedback.existingSecret=mine", "p-serving"),
        ("door.existingSecret=mine", "p-door"),
    ],
    ids=["airflow", "monitoring", "kubeflow-pipelines", "engine", "feedback", "door"],
)
def test_a_secret_of_yours_takes_the_place_of_the_chart_s(helm: Helm, values: str, made: str) -> None:
    without = helm.objects("platform", "--set", values.replace("existingSecret=mine", "existingSecret="))
    assert f"Secret {made}" in [name(it) for it in without]
    objects = helm.objects("platform", "--set", values)
    assert f"Secret {made}" not in [name(it) for it in objects]
    assert '"mine"' in json.dumps([pod for _, pod in pods(objects)])


def test_what_is_made_once_stays_after_an_uninstallation(helm: Helm) -> None:
    for it in of_kind(helm.objects("platform"), "Secret"):
        assert it["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", name(it)


def test_kube_prometheus_stack(helm: Helm) -> None:
    values = (
        "monitoring.prometheus.enabled=false,monitoring.alertmanager.enabled=false,monitoring.grafana.enabled=false,"
        "monitoring.operator.enabled=true,monitoring.operator.labels.release=kps,monitoring.dashboards.configMaps=true,"
        "serving.serviceMonitor.enabled=true,serving.serviceMonitor.labels.release=kps"
    )
    objects = helm.objects("platform", "--set", values)
    assert not of_kind(objects, "StatefulSet") or {
        it["metadata"]["name"] for it in of_kind(objects, "StatefulSet")
    } == {"p-postgres", "p-s3"}
    rules = {it["metadata"]["name"]: it for it in of_kind(objects, "PrometheusRule")}
    assert rules.keys() == {f"p-monitoring-{each.replace('_', '-')}" for each in ("platform", *registry.names())}
    committed = yaml.safe_load((charts.FOLDER / "monitoring" / "generated" / "rules" / "titanic.yaml").read_text())
    assert rules["p-monitoring-titanic"]["spec"] == committed
    monitors = of_kind(objects, "ServiceMonitor")
    services = of_kind(objects, "Service")
    for it in monitors:
        selector = it["spec"]["selector"]["matchLabels"]
        chosen = [each for each in services if selector.items() <= each["metadata"]["labels"].items()]
        assert len(chosen) == 1, name(it)
        assert it["spec"]["endpoints"][0]["port"] in [port["name"] for port in chosen[0]["spec"]["ports"]]
    assert len(monitors) == 2
    assert {it["metadata"]["labels"]["release"] for it in [*monitors, *rules.values()]} == {"kps"}
    boards = [it for it in of_kind(objects, "ConfigMap") if it["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert len(boards) == len(rules)
    for it in boards:
        ((file, text),) = it["data"].items()
        assert json.loads(text) == json.loads(
            (charts.FOLDER / "monitoring" / "generated" / "dashboards" / file).read_text()
        )


def settings(helm: Helm, name: str) -> Any:
    return yaml.safe_load((charts.FOLDER / "platform" / f"values-{name}.yaml").read_text())


def test_a_rehearsal_s_rules_have_its_windows(helm: Helm) -> None:
    values = settings(helm, "rehearsal")
    drift = values["global"]["drift"]
    objects = helm.objects("platform", "--values", str(charts.FOLDER / "platform" / "values-rehearsal.yaml"))
    held = next(it["data"] for it in objects if name(it) == "ConfigMap p-prometheus-rules")
    rules = [rule for group in yaml.safe_load(held["titanic.yaml"])["groups"] for rule in group["rules"]]
    rows = next(rule["expr"] for rule in rules if rule.get("record") == "phaseflow:window_rows")
    psi = next(rule["expr"] for rule in rules if rule.get("record") == "phaseflow:feature_psi")
    drifted = next(rule for rule in rules if rule.get("alert") == "PhaseflowFeatureDrift")
    assert f"[{drift['windowSeconds']}s]" in rows
    assert f">= {drift['minimumRows']}" in psi
    assert drifted["for"] == "4s"
    # As the service and the monitor are told.
    assert environment(objects, "p-monitor")["PHASEFLOW_DRIFT_WINDOW_SECONDS"] == str(drift["windowSeconds"])
    config = next(it["data"]["prometheus.yml"] for it in objects if name(it) == "ConfigMap p-prometheus")
    assert yaml.safe_load(config)["global"]["scrape_interval"] == "5s"


def test_production_s_rules_are_each_project_s_own(helm: Helm) -> None:
    held = next(it["data"] for it in helm.objects("platform") if name(it) == "ConfigMap p-prometheus-rules")
    for file, text in held.items():
        assert yaml.safe_load(text) == yaml.safe_load(
            (charts.FOLDER / "monitoring" / "generated" / "rules" / file).read_text()
        )


def test_kubernetes_executor_has_a_pod_a_task(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "airflow.executor=KubernetesExecutor")
    found = dict(pods(objects))["ConfigMap p-airflow worker.yaml"]
    assert found["spec"]["containers"][0]["name"] == "base"  # the name that the executor looks for
    assert environment(objects, "p-airflow-scheduler")["AIRFLOW__CORE__EXECUTOR"] == "KubernetesExecutor"
    assert "ConfigMap p-airflow worker.yaml" not in dict(pods(helm.objects("platform")))


def test_a_project_s_own_replicas(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "serving.overrides.titanic.replicas=3")
    found = {
        it["metadata"]["name"]: it["spec"]["replicas"]
        for it in of_kind(objects, "Deployment")
        if "serving" in it["metadata"]["name"]
    }
    assert found.pop("p-serving-titanic") == 3
    assert set(found.values()) == {1}


def test_a_backup_holds_the_databases_of_kubeflow_pipelines_where_they_are_there(helm: Helm) -> None:
    on = ("--set", "backup.enabled=true")
    kfp = ("--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,kubeflow-pipelines.mysql.existingSecret=mine")
    for given, expected in ((on, {"databases", "objects"}), ((*on, *kfp), {"databases", "pipelines", "objects"})):
        for it in of_kind(helm.objects("platform", *given), "CronJob"):
            made = it["spec"]["jobTemplate"]["spec"]["template"]
            if it["metadata"]["name"] == "p-airflow-clean":  # no job of the backup
                continue
            if it["metadata"]["name"] == "p-prune":  # it touches no database
                assert [each["name"] for each in containers(made)] == ["objects"]
                continue
            order = [each["name"] for each in (*made["spec"]["initContainers"], *made["spec"]["containers"])]
            assert set(order) == expected
            # Dumps come before the list of objects, and go back after them.
            assert order[-1 if it["metadata"]["name"].endswith("-backup") else 0] == "objects"
            mounted = mounted_secrets(made)
            assert ("mine" in mounted) == ("pipelines" in expected)


def mounted_secrets(pod: Object) -> set[str]:
    """Names of the Secrets that a pod mounts or reads into its environment."""
    found = set()
    for it in pod["spec"].get("volumes", []):
        sources = it.get("projected", {}).get("sources", [])
        found |= {source["secret"]["name"] for source in sources if "secret" in source}
        found |= {it["secret"]["secretName"]} if "secret" in it else set()
    for container in containers(pod):
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            found |= {reference["name"]} if reference else set()
    return found


def of_stores(pod: Object) -> set[str]:
    """Those of Postgres and the object store, the chart's own or a user's."""
    others = ("p-airflow", "p-monitoring", "p-serving", "p-pipelines", "p-door", "p-mysql", "p-personal")
    return {it for it in mounted_secrets(pod) if not it.startswith(others)}


EVERY_PART = (
    "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,backup.enabled=true,airflow.executor=KubernetesExecutor"
)


def test_a_pod_has_its_own_passwords_of_the_stores_and_no_other(helm: Helm) -> None:
    airflow = {"p-postgres-airflow", "p-s3-airflow"}
    expected = {
        "StatefulSet p-postgres": {"p-postgres"},
        "StatefulSet p-s3": {"p-s3"},
        "Deployment p-mlflow": {"p-postgres-mlflow", "p-s3-mlflow"},
        "Deployment p-monitor": {"p-s3-monitor"},
        "Deployment p-portal": {"p-s3-portal"},
        **{f"Deployment p-serving-{each.replace('_', '-')}": {"p-s3-serving"} for each in registry.names()},
        **{
            f"Deployment p-airflow-{each}": airflow
            for each in ("api-server", "scheduler", "dag-processor", "triggerer")
        },
        "Job p-airflow-migrate-1": airflow,
        "ConfigMap p-airflow worker.yaml": airflow,
        "ConfigMap p-airflow pod.yaml": {"p-s3-steps"},
        "ConfigMap p-airflow maintenance.yaml": {"p-s3-maintenance"},
        "CronJob p-airflow-clean": airflow,
        "Deployment ml-pipeline": {"p-s3-kfp"},
        "Deployment ml-pipeline-ui": {"p-s3-kfp"},
        "CronJob p-backup": {"p-postgres-backup", "p-s3-backup"},
        "CronJob p-restore": {"p-postgres-airflow", "p-postgres-mlflow", "p-s3-restore"},
    }
    for more, also in (("", {}), (",backup.target=s3://phaseflow-backup/x", {"CronJob p-prune": {"p-s3-prune"}})):
        objects = helm.objects("platform", "--set", EVERY_PART + more)
        found = {owner: secrets for owner, pod in pods(objects) if (secrets := of_stores(pod))}
        assert found == expected | also
    engine = dict(pods(helm.objects("platform")))["Deployment p-pipelines"]
    assert of_stores(engine) == {"p-s3-steps"}


def test_each_part_s_secret_may_be_yours(helm: Helm) -> None:
    values = (
        "storage.enabled=false,global.store.external=true,global.store.existingSecret=all,"
        "global.store.existingSecrets.serving=narrow,global.store.existingSecrets.steps=steps,"
        "global.postgres.host=db,global.postgres.existingSecret=passwords,global.postgres.existingSecrets.mlflow=tracking,"
        "backup.enabled=true,backup.target=s3://elsewhere/x"
    )
    found = dict(pods(helm.objects("platform", "--set", values)))
    assert of_stores(found["Deployment p-serving-titanic"]) == {"narrow"}
    assert of_stores(found["Deployment p-mlflow"]) == {"all", "tracking"}
    assert of_stores(found["ConfigMap p-airflow pod.yaml"]) == {"steps"}
    assert {"all", "passwords"} <= of_stores(found["Deployment p-airflow-scheduler"])
    # Without a role for the backup each database's own reads it, as before there was one.
    assert of_stores(found["CronJob p-backup"]) == {"all", "passwords", "tracking"}
    reader = f"{values},global.postgres.existingSecrets.backup=reader"
    found = dict(pods(helm.objects("platform", "--set", reader)))
    assert of_stores(found["CronJob p-backup"]) == {"all", "reader"}


def test_the_keys_of_backups_are_yours_where_the_pods_have_a_role(helm: Helm) -> None:
    values = (
        "storage.enabled=false,global.store.external=true,global.store.ambientCredentials=true,"
        "global.postgres.host=db,global.postgres.existingSecret=passwords,"
        "global.store.existingSecrets.prune=prune,backup.enabled=true,backup.target=s3://elsewhere/x"
    )
    found = dict(pods(helm.objects("platform", "--set", values)))
    assert of_stores(found["CronJob p-prune"]) == {"prune"}
    assert of_stores(found["CronJob p-backup"]) == {"passwords"}
    assert of_stores(found["Deployment p-serving-titanic"]) == set()


def test_a_job_of_the_backup_ends_by_itself(helm: Helm) -> None:
    jobs = of_kind(helm.objects("platform", "--set", "backup.enabled=true"), "CronJob")
    assert {it["metadata"]["name"]: it["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] for it in jobs} == {
        "p-backup": 14400, "p-restore": 14400, "p-prune": 14400, "p-airflow-clean": 3600,
    }  # fmt: skip
    # Only one is told how many stay: who saves removes nothing.
    assert [it["metadata"]["name"] for it in jobs if "--keep" in json.dumps(it)] == ["p-prune"]


def test_some_projects_only(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "global.projects={titanic},monitoring.dashboards.configMaps=true")
    names = [it["metadata"]["name"] for it in objects]
    assert [each for each in names if "customer-segments" in each] == []
    assert {each for each in names if each.endswith("titanic")} == {"p-serving-titanic", "p-grafana-phaseflow-titanic"}
    rules = next(it for it in of_kind(objects, "ConfigMap") if it["metadata"]["name"] == "p-prometheus-rules")
    assert set(rules["data"]) == {"platform.yaml", "titanic.yaml"}
    assert "customer_segments" not in "".join(
        it["data"].get("default.conf", "") for it in of_kind(objects, "ConfigMap")
    )
    assert environment(objects, "p-airflow-scheduler")["PHASEFLOW_ONLY"] == "titanic"
    assert environment(objects, "p-serving-titanic")["PHASEFLOW_ONLY"] == "titanic"


def test_nothing_comes_in_but_through_the_door(helm: Helm) -> None:
    everything, door = of_kind(helm.objects("platform"), "NetworkPolicy")
    assert everything["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {}}]}],
    }
    chosen = door["spec"]["podSelector"]["matchLabels"]
    named = [
        owner for owner, pod in pods(helm.objects("platform")) if chosen.items() <= pod["metadata"]["labels"].items()
    ]
    assert named == ["Deployment p-door"]
    assert not of_kind(helm.objects("platform", "--set", "networkPolicy.enabled=false"), "NetworkPolicy")


def test_a_gateway_leads_to_the_door(helm: Helm) -> None:
    values = (
        "gateway.enabled=true,gateway.className=c,gateway.host=ml.example.com,gateway.tlsSecret=t,door.type=ClusterIP"
    )
    objects = helm.objects("platform", "--set", values)
    (gateway,), (route,) = of_kind(objects, "Gateway"), of_kind(objects, "HTTPRoute")
    assert gateway["spec"]["listeners"][0]["tls"]["certificateRefs"] == [{"name": "t"}]
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    service = next(it for it in of_kind(objects, "Service") if it["metadata"]["name"] == backend["name"])
    assert backend["port"] in [port["port"] for port in service["spec"]["ports"]]
    assert service["spec"]["type"] == "ClusterIP"
    assert "nodePort" not in service["spec"]["ports"][0]
