"""Tests of switches: existing services replace parts, and options add or remove objects."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from cli.charts import charts
from cli.charts.tests.rendering import (
    Helm,
    Object,
    containers,
    generated_secrets,
    mounted_secrets,
    name,
    of_kind,
    parts,
    pods,
)
from phaseflow import discovery

PARTS = [name for name in charts.names() if name not in {"platform", "kubeflow-pipelines"}]


def environment(objects: tuple[Object, ...], deployment: str) -> dict[str, str]:
    manifest = next(
        manifest for manifest in of_kind(objects, "Deployment") if manifest["metadata"]["name"] == deployment
    )
    return {
        variable["name"]: variable.get("value", "") for variable in containers(manifest["spec"]["template"])[-1]["env"]
    }


@pytest.mark.parametrize("part", PARTS)
def test_a_disabled_part_has_no_objects(helm: Helm, part: str) -> None:
    objects = helm.objects("platform", "--set", f"{part}.enabled=false")
    assert parts(objects) == set(PARTS) - {part} | {"platform"}
    # Neither the proxy nor `helm test` refers to the disabled part.
    config = next(manifest for manifest in of_kind(objects, "ConfigMap") if manifest["metadata"]["name"] == "p-proxy")
    assert f"http://p-{part}:" not in config["data"]["default.conf"]
    test = next(manifest for manifest in of_kind(objects, "Pod"))
    assert part.upper() not in test["spec"]["containers"][0]["args"]


def test_every_process_gets_the_address_of_an_existing_service(helm: Helm) -> None:
    url = "http://mlflow.tools:5000"
    objects = helm.objects("platform", "--set", f"mlflow.enabled=false,global.addresses.mlflow={url}")
    urls = [
        variable["value"]
        for _, pod in pods(objects)
        for container in containers(pod)
        for variable in container.get("env", [])
        if variable["name"] == "PHASEFLOW_MLFLOW_URL"
    ]
    assert len(urls) > 10
    assert set(urls) == {url}


def test_an_existing_kubeflow_pipelines(helm: Helm) -> None:
    objects = helm.objects(
        "platform", "--set", "pipelines.engine=kfp,global.addresses.pipelines=http://ml-pipeline.kubeflow:8888"
    )
    assert "kubeflow-pipelines" not in parts(objects)
    assert not [manifest for manifest in objects if manifest["metadata"]["name"] == "p-pipelines"]
    assert environment(objects, "p-portal")["PHASEFLOW_PIPELINES_URL"] == "http://ml-pipeline.kubeflow:8888"


def test_an_existing_postgres(helm: Helm) -> None:
    values = "storage.postgres.enabled=false,global.postgres.host=db.example.com,global.postgres.port=5433,global.postgres.existingSecret=mine"
    objects = helm.objects("platform", "--set", values)
    assert not [manifest for manifest in objects if manifest["metadata"]["name"] == "p-postgres"]
    connection = environment(objects, "p-airflow-scheduler")["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert connection == "postgresql+psycopg2://airflow@db.example.com:5433/airflow"
    server = next(manifest for manifest in of_kind(objects, "Deployment") if manifest["metadata"]["name"] == "p-mlflow")
    assert "mlflow@db.example.com:5433/mlflow" in json.dumps(server)
    assert "p-postgres" not in json.dumps(objects)


@pytest.mark.parametrize(
    ("key", "secret"),
    [("global.store.existingSecret=mine", "mine"), ("global.store.ambientCredentials=true", None)],
    ids=["secret", "role"],
)
def test_an_existing_s3(helm: Helm, key: str, secret: str | None) -> None:
    objects = helm.objects(
        "platform", "--set", f"storage.s3.enabled=false,global.store.external=true,global.store.bucket=b,{key}"
    )
    assert not [manifest for manifest in objects if manifest["metadata"]["name"] == "p-s3"]
    variables = environment(objects, "p-serving-titanic")
    assert variables["PHASEFLOW_STORE"] == "s3://b/store"
    assert "AWS_ENDPOINT_URL" not in variables  # the default endpoint of AWS
    assert environment(objects, "p-airflow-scheduler").get("PHASEFLOW_S3_SECRET") == secret
    assert "p-s3" not in json.dumps(objects)


def test_an_s3_compatible_store_has_an_endpoint(helm: Helm) -> None:
    values = "storage.s3.enabled=false,global.store.external=true,global.store.endpoint=https://minio.example.com,global.store.existingSecret=mine"
    objects = helm.objects("platform", "--set", values)
    assert environment(objects, "p-serving-titanic")["AWS_ENDPOINT_URL"] == "https://minio.example.com"
    assert environment(objects, "p-mlflow")["MLFLOW_S3_ENDPOINT_URL"] == "https://minio.example.com"


@pytest.mark.parametrize(
    ("values", "default_secret"),
    [
        ("airflow.existingSecret=mine", "p-airflow"),
        ("monitoring.existingSecret=mine", "p-monitoring"),
        (
            "kubeflow-pipelines.mysql.existingSecret=mine,pipelines.engine=kfp,kubeflow-pipelines.enabled=true",
            "p-mysql",
        ),
        ("pipelines.existingSecret=mine,airflow.engineSecret=mine", "p-pipelines"),
        ("serving.feedback.existingSecret=mine", "p-serving"),
        ("proxy.existingSecret=mine", "p-proxy"),
    ],
    ids=["airflow", "monitoring", "kubeflow-pipelines", "engine", "feedback", "proxy"],
)
def test_a_secret_of_yours_takes_the_place_of_the_chart_s(helm: Helm, values: str, default_secret: str) -> None:
    without = helm.objects("platform", "--set", values.replace("existingSecret=mine", "existingSecret="))
    assert f"Secret {default_secret}" in [name(manifest) for manifest in without]
    objects = helm.objects("platform", "--set", values)
    assert f"Secret {default_secret}" not in [name(manifest) for manifest in objects]
    assert '"mine"' in json.dumps([pod for _, pod in pods(objects)])


def test_generated_secrets_stay_after_an_uninstallation(helm: Helm) -> None:
    for secret in generated_secrets(helm.objects("platform")):
        assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", name(secret)


def test_kube_prometheus_stack(helm: Helm) -> None:
    values = (
        "monitoring.prometheus.enabled=false,monitoring.alertmanager.enabled=false,monitoring.grafana.enabled=false,"
        "monitoring.operator.enabled=true,monitoring.operator.labels.release=kps,monitoring.dashboards.configMaps=true,"
        "serving.serviceMonitor.enabled=true,serving.serviceMonitor.labels.release=kps"
    )
    objects = helm.objects("platform", "--set", values)
    assert not of_kind(objects, "StatefulSet") or {
        manifest["metadata"]["name"] for manifest in of_kind(objects, "StatefulSet")
    } == {"p-postgres", "p-s3"}
    rules = {manifest["metadata"]["name"]: manifest for manifest in of_kind(objects, "PrometheusRule")}
    assert rules.keys() == {f"p-monitoring-{suffix.replace('_', '-')}" for suffix in ("platform", *discovery.names())}
    committed = yaml.safe_load((charts.FOLDER / "monitoring" / "generated" / "rules" / "titanic.yaml").read_text())
    assert rules["p-monitoring-titanic"]["spec"] == committed
    monitors = of_kind(objects, "ServiceMonitor")
    services = of_kind(objects, "Service")
    for manifest in monitors:
        selector = manifest["spec"]["selector"]["matchLabels"]
        chosen = [service for service in services if selector.items() <= service["metadata"]["labels"].items()]
        assert len(chosen) == 1, name(manifest)
        assert manifest["spec"]["endpoints"][0]["port"] in [port["name"] for port in chosen[0]["spec"]["ports"]]
    assert len(monitors) == 2
    # The alert of a target that is down names the jobs of the chart's own Prometheus.
    jobs = {manifest["spec"]["endpoints"][0]["relabelings"][0]["replacement"] for manifest in monitors}
    platform_rules = [rule for group in rules["p-monitoring-platform"]["spec"]["groups"] for rule in group["rules"]]
    (down,) = [rule["expr"] for rule in platform_rules if rule.get("alert") == "PhaseflowTargetDown"]
    assert jobs == {"serving", "monitor"}
    assert all(re.search(rf'job=~"[^"]*\b{job}\b', down) for job in jobs)
    assert {manifest["metadata"]["labels"]["release"] for manifest in [*monitors, *rules.values()]} == {"kps"}
    boards = [
        manifest
        for manifest in of_kind(objects, "ConfigMap")
        if manifest["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    assert len(boards) == len(rules)
    for manifest in boards:
        ((file, text),) = manifest["data"].items()
        assert json.loads(text) == json.loads(
            (charts.FOLDER / "monitoring" / "generated" / "dashboards" / file).read_text()
        )


def settings(helm: Helm, name: str) -> Any:
    return yaml.safe_load((charts.FOLDER / "platform" / f"values-{name}.yaml").read_text())


def test_the_rehearsal_profile_has_its_own_windows(helm: Helm) -> None:
    values = settings(helm, "rehearsal")
    drift = values["global"]["drift"]
    objects = helm.objects("platform", "--values", str(charts.FOLDER / "platform" / "values-rehearsal.yaml"))
    rule_files = next(manifest["data"] for manifest in objects if name(manifest) == "ConfigMap p-prometheus-rules")
    rules = [rule for group in yaml.safe_load(rule_files["titanic.yaml"])["groups"] for rule in group["rules"]]
    rows = next(rule["expr"] for rule in rules if rule.get("record") == "phaseflow:window_rows")
    psi = next(rule["expr"] for rule in rules if rule.get("record") == "phaseflow:feature_psi")
    drifted = next(rule for rule in rules if rule.get("alert") == "PhaseflowFeatureDrift")
    assert f"[{drift['windowSeconds']}s]" in rows
    assert f">= {drift['minimumRows']}" in psi
    assert drifted["for"] == "4s"
    # The monitor uses the same window.
    assert environment(objects, "p-monitor")["PHASEFLOW_DRIFT_WINDOW_SECONDS"] == str(drift["windowSeconds"])
    config = next(
        manifest["data"]["prometheus.yml"] for manifest in objects if name(manifest) == "ConfigMap p-prometheus"
    )
    assert yaml.safe_load(config)["global"]["scrape_interval"] == "5s"


def test_the_default_rules_are_the_generated_files(helm: Helm) -> None:
    rule_files = next(
        manifest["data"] for manifest in helm.objects("platform") if name(manifest) == "ConfigMap p-prometheus-rules"
    )
    for file, text in rule_files.items():
        assert yaml.safe_load(text) == yaml.safe_load(
            (charts.FOLDER / "monitoring" / "generated" / "rules" / file).read_text()
        )


def test_the_kubernetes_executor_has_a_pod_template(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "airflow.executor=KubernetesExecutor")
    worker = dict(pods(objects))["ConfigMap p-airflow worker.yaml"]
    assert worker["spec"]["containers"][0]["name"] == "base"  # the name that the executor looks for
    assert environment(objects, "p-airflow-scheduler")["AIRFLOW__CORE__EXECUTOR"] == "KubernetesExecutor"
    assert "ConfigMap p-airflow worker.yaml" not in dict(pods(helm.objects("platform")))


def test_airflow_trusts_the_proxy_about_the_scheme(helm: Helm) -> None:
    """Without it, uvicorn takes every request for plain HTTP, and the session cookie is not Secure."""
    objects = helm.objects("platform")
    assert environment(objects, "p-airflow-api-server")["FORWARDED_ALLOW_IPS"] == "*"
    assert "FORWARDED_ALLOW_IPS" not in environment(objects, "p-airflow-scheduler")


def test_the_migration_has_another_name_if_and_only_if_it_changes(helm: Helm) -> None:
    """GitOps applies the same objects again, and a Job can't be changed."""

    def job(*values: str) -> tuple[str, Any]:
        (migration,) = of_kind(helm.objects("platform", *values), "Job")
        assert "ttlSecondsAfterFinished" not in migration["spec"]
        return migration["metadata"]["name"], migration["spec"]["template"]

    first_name, pod = job()
    assert job("--set", "global.personal.existingSecret=k") == (first_name, pod)
    for values in ("global.images.tag=v2", "airflow.trainings=2", "airflow.config.AIRFLOW__CORE__PARALLELISM=8"):
        other_name, other_pod = job("--set", values)
        assert other_name != first_name, values
        assert other_pod != pod, values


def test_replicas_of_one_project(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "serving.overrides.titanic.replicas=3")
    replicas = {
        manifest["metadata"]["name"]: manifest["spec"]["replicas"]
        for manifest in of_kind(objects, "Deployment")
        if "serving" in manifest["metadata"]["name"]
    }
    assert replicas.pop("p-serving-titanic") == 3
    assert set(replicas.values()) == {1}


def test_a_backup_includes_the_databases_of_kubeflow_pipelines(helm: Helm) -> None:
    on = ("--set", "backup.enabled=true")
    kfp = ("--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,kubeflow-pipelines.mysql.existingSecret=mine")
    for arguments, expected in ((on, {"databases", "objects"}), ((*on, *kfp), {"databases", "pipelines", "objects"})):
        for job in of_kind(helm.objects("platform", *arguments), "CronJob"):
            pod = job["spec"]["jobTemplate"]["spec"]["template"]
            if job["metadata"]["name"] == "p-airflow-clean":  # not part of the backup
                continue
            if job["metadata"]["name"] == "p-prune":  # it accesses no database
                assert [container["name"] for container in containers(pod)] == ["objects"]
                continue
            order = [container["name"] for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"])]
            assert set(order) == expected
            # Databases are dumped before the objects are listed, and restored after the objects.
            assert order[-1 if job["metadata"]["name"].endswith("-backup") else 0] == "objects"
            mounted = mounted_secrets(pod)
            assert ("mine" in mounted) == ("pipelines" in expected)


def of_stores(pod: Object) -> set[str]:
    """Names of a pod's Secrets for Postgres and the object store."""
    others = (
        "p-airflow",
        "p-monitoring",
        "p-serving",
        "p-pipelines",
        "p-proxy",
        "p-mysql",
        "p-personal",
        "p-alertmanager",
    )
    return {secret for secret in mounted_secrets(pod) if not secret.startswith(others)}


EVERY_PART = (
    "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,backup.enabled=true,airflow.executor=KubernetesExecutor"
)


def test_a_pod_has_only_its_own_store_credentials(helm: Helm) -> None:
    airflow = {"p-postgres-airflow", "p-s3-airflow"}
    expected = {
        "StatefulSet p-postgres": {"p-postgres"},
        "StatefulSet p-s3": {"p-s3"},
        "Deployment p-mlflow": {"p-postgres-mlflow", "p-s3-mlflow"},
        "Deployment p-monitor": {"p-s3-monitor"},
        "Deployment p-evidently": {"p-s3-portal"},
        "Deployment p-portal": {"p-s3-portal"},
        **{f"Deployment p-serving-{suffix.replace('_', '-')}": {"p-s3-serving"} for suffix in discovery.names()},
        **{
            f"Deployment p-airflow-{suffix}": airflow
            for suffix in ("api-server", "scheduler", "dag-processor", "triggerer")
        },
        "Job p-airflow-migrate": airflow,
        "ConfigMap p-airflow worker.yaml": airflow,
        "ConfigMap p-airflow pod.yaml": {"p-s3-steps"},
        "ConfigMap p-airflow maintenance.yaml": {"p-s3-maintenance"},
        "CronJob p-airflow-clean": airflow,
        "Deployment ml-pipeline": {"p-s3-kfp"},
        "Deployment ml-pipeline-ui": {"p-s3-kfp"},
        "CronJob p-backup": {"p-postgres-backup", "p-s3-backup"},
        "CronJob p-restore": {"p-postgres-airflow", "p-postgres-mlflow", "p-s3-restore"},
    }
    for values, additional in (
        ("", {}),
        (",backup.target=s3://phaseflow-backup/x", {"CronJob p-prune": {"p-s3-prune"}}),
    ):
        objects = helm.objects("platform", "--set", EVERY_PART + values)
        secrets_by_owner = {
            re.sub(r"(migrate)-[0-9a-f]{8}$", r"\1", owner): secrets
            for owner, pod in pods(objects)
            if (secrets := of_stores(pod))
        }
        assert secrets_by_owner == expected | additional
    engine = dict(pods(helm.objects("platform")))["Deployment p-pipelines"]
    assert of_stores(engine) == {"p-s3-steps"}


def test_each_part_can_use_an_existing_secret(helm: Helm) -> None:
    values = (
        "storage.enabled=false,global.store.external=true,global.store.existingSecret=all,"
        "global.store.existingSecrets.serving=narrow,global.store.existingSecrets.steps=steps,"
        "global.postgres.host=db,global.postgres.existingSecret=passwords,global.postgres.existingSecrets.mlflow=tracking,"
        "backup.enabled=true,backup.target=s3://elsewhere/x"
    )
    pod_by_owner = dict(pods(helm.objects("platform", "--set", values)))
    assert of_stores(pod_by_owner["Deployment p-serving-titanic"]) == {"narrow"}
    assert of_stores(pod_by_owner["Deployment p-mlflow"]) == {"all", "tracking"}
    assert of_stores(pod_by_owner["ConfigMap p-airflow pod.yaml"]) == {"steps"}
    assert {"all", "passwords"} <= of_stores(pod_by_owner["Deployment p-airflow-scheduler"])
    # Without a backup role, the role of each database reads it.
    assert of_stores(pod_by_owner["CronJob p-backup"]) == {"all", "passwords", "tracking"}
    reader = f"{values},global.postgres.existingSecrets.backup=reader"
    pod_by_owner = dict(pods(helm.objects("platform", "--set", reader)))
    assert of_stores(pod_by_owner["CronJob p-backup"]) == {"all", "reader"}


def test_the_prune_job_can_use_a_secret_beside_ambient_credentials(helm: Helm) -> None:
    values = (
        "storage.enabled=false,global.store.external=true,global.store.ambientCredentials=true,"
        "global.postgres.host=db,global.postgres.existingSecret=passwords,"
        "global.store.existingSecrets.prune=prune,backup.enabled=true,backup.target=s3://elsewhere/x"
    )
    pod_by_owner = dict(pods(helm.objects("platform", "--set", values)))
    assert of_stores(pod_by_owner["CronJob p-prune"]) == {"prune"}
    assert of_stores(pod_by_owner["CronJob p-backup"]) == {"passwords"}
    assert of_stores(pod_by_owner["Deployment p-serving-titanic"]) == set()


def test_jobs_have_a_deadline(helm: Helm) -> None:
    jobs = of_kind(helm.objects("platform", "--set", "backup.enabled=true"), "CronJob")
    assert {job["metadata"]["name"]: job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] for job in jobs} == {
        "p-backup": 14400, "p-restore": 14400, "p-prune": 14400, "p-airflow-clean": 3600,
    }  # fmt: skip
    # Only the prune job has `--keep`: the backup job removes nothing.
    assert [job["metadata"]["name"] for job in jobs if "--keep" in json.dumps(job)] == ["p-prune"]


def test_a_subset_of_projects(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "global.projects={titanic},monitoring.dashboards.configMaps=true")
    names = [manifest["metadata"]["name"] for manifest in objects]
    assert [object_name for object_name in names if "customer-segments" in object_name] == []
    assert {object_name for object_name in names if object_name.endswith("titanic")} == {
        "p-serving-titanic",
        "p-grafana-phaseflow-titanic",
    }
    rules = next(
        manifest for manifest in of_kind(objects, "ConfigMap") if manifest["metadata"]["name"] == "p-prometheus-rules"
    )
    assert set(rules["data"]) == {"platform.yaml", "titanic.yaml"}
    assert "customer_segments" not in "".join(
        manifest["data"].get("default.conf", "") for manifest in of_kind(objects, "ConfigMap")
    )
    assert environment(objects, "p-airflow-scheduler")["PHASEFLOW_ONLY"] == "titanic"
    assert environment(objects, "p-serving-titanic")["PHASEFLOW_ONLY"] == "titanic"
