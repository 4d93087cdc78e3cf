"""Tests of tokens and passwords: which pods read them, and that rendering keeps existing Secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from cli.charts.tests.rendering import Helm, Object, containers, generated_secrets, name, of_kind, pods

EXISTING_SECRETS = (
    "airflow.existingSecret=a,monitoring.existingSecret=m,monitoring.airflowSecret=a,airflow.hookSecret=m,"
    "portal.monitoringSecret=m,pipelines.existingSecret=e,airflow.engineSecret=e,serving.feedback.existingSecret=f,"
    "proxy.existingSecret=d,global.personal.existingSecret=k,storage.enabled=false,global.store.external=true,global.store.existingSecret=s,"
    "global.postgres.host=db,global.postgres.existingSecret=p"
)
"""Values that name an existing Secret for every credential."""


def secret(objects: tuple[Object, ...], secret_name: str) -> dict[str, str]:
    data: dict[str, str] = next(
        manifest["stringData"] for manifest in of_kind(objects, "Secret") if manifest["metadata"]["name"] == secret_name
    )
    return data


def mounted(objects: tuple[Object, ...], key: str) -> set[str]:
    """Names of the workloads whose pods can read the key."""
    owners = set()
    for owner, pod in pods(objects):
        sources = [
            source
            for volume in pod["spec"]["volumes"]
            for source in [volume, *volume.get("projected", {}).get("sources", [])]
        ]
        if any(item["key"] == key for source in sources for item in source.get("secret", {}).get("items", [])):
            owners.add(owner.removeprefix("Deployment ").removeprefix("StatefulSet "))
    return owners


def environment(pod: Object) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in containers(pod)[-1].get("env", [])}


def config(objects: tuple[Object, ...], owner: str, file: str) -> Any:
    return yaml.safe_load(
        next(manifest["data"][file] for manifest in objects if name(manifest) == f"ConfigMap {owner}")
    )


@pytest.mark.parametrize(
    ("key", "readers"),
    [
        # The engine, and the clients that start runs.
        ("engine_token", {"p-pipelines", "p-airflow-scheduler", "p-airflow-triggerer"}),
        ("feedback_tokens", {"p-serving-titanic", "p-serving-house-prices"}),
        ("prometheus_password", {"p-prometheus", "p-monitor", "p-portal", "p-proxy", "p-grafana"}),
        ("alertmanager_password", {"p-prometheus", "p-alertmanager", "p-monitor", "p-portal", "p-proxy"}),
        ("prometheus_web.yml", {"p-prometheus"}),
        ("alertmanager_web.yml", {"p-alertmanager"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_secret_is_mounted_where_it_is_used(helm: Helm, key: str, readers: set[str]) -> None:
    objects = helm.objects("platform", "--set", "global.projects={titanic,house_prices}")
    read = mounted(objects, key)
    assert read >= readers
    # All processes of Airflow and its test pods mount the same keys.
    assert {owner for owner in read - readers if "airflow" not in owner and not owner.startswith("Pod ")} == set()


@pytest.mark.parametrize(
    ("file", "secret", "key"),
    [
        ("pod", "p-personal", "personal_key"),  # the ETL hashes personal columns
        ("maintenance", "p-pipelines", "engine_token"),  # old runs are removed
    ],
)
def test_pods_that_airflow_starts_mount_one_optional_secret(helm: Helm, file: str, secret: str, key: str) -> None:
    pod = dict(pods(helm.objects("platform")))[f"ConfigMap p-airflow {file}.yaml"]
    (volume,) = [volume for volume in pod["spec"]["volumes"] if volume["name"] == "secrets"]
    (source,) = volume["projected"]["sources"]
    assert source["secret"] == {"name": secret, "optional": True, "items": [{"key": key, "path": key}]}


def test_the_personal_key_is_kept_or_replaced_by_an_existing_secret(helm: Helm) -> None:
    objects = helm.objects("platform")
    (secret,) = [manifest for manifest in objects if name(manifest) == "Secret p-personal"]
    assert len(secret["stringData"]["personal_key"]) == 48
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert mounted(objects, "personal_key") >= {"p-serving-titanic", "ConfigMap p-airflow pod.yaml"}
    with_own_secret = helm.objects("platform", "--set", "global.personal.existingSecret=mine")
    assert not [manifest for manifest in with_own_secret if name(manifest) == "Secret p-personal"]
    pod = dict(pods(with_own_secret))["Deployment p-serving-titanic"]
    assert "mine" in yaml.safe_dump(pod["spec"]["volumes"])


def test_a_cron_job_cleans_airflows_database(helm: Helm) -> None:
    objects = helm.objects("platform")
    (job,) = [manifest for manifest in objects if name(manifest) == "CronJob p-airflow-clean"]
    script = dict(pods(objects))["CronJob p-airflow-clean"]["spec"]["containers"][0]["args"][0]
    assert 'before="$(python -m dags.keep)" && exec airflow db clean --clean-before-timestamp "$before" --yes' in script
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    without_schedule = helm.objects("platform", "--set", "airflow.clean.schedule=")
    assert not [manifest for manifest in without_schedule if name(manifest) == "CronJob p-airflow-clean"]


def test_prometheus_and_alertmanager_need_a_login_that_all_clients_have(helm: Helm) -> None:
    objects = helm.objects("platform")
    pod_by_owner = dict(pods(objects))
    prometheus = pod_by_owner["StatefulSet p-prometheus"]["spec"]["containers"][0]
    assert "--web.config.file=/etc/phaseflow/logins/prometheus_web.yml" in prometheus["args"]
    assert "--web.cors.origin=^$" in prometheus["args"]
    alertmanager = pod_by_owner["Deployment p-alertmanager"]["spec"]["containers"][0]
    assert "--web.config.file=/etc/phaseflow/logins/alertmanager_web.yml" in alertmanager["args"]
    rules = config(objects, "p-prometheus", "prometheus.yml")
    logins = {part: {"username": "phaseflow", "password_file": f"/etc/phaseflow/logins/{part}_password"}
              for part in ("prometheus", "alertmanager")}  # fmt: skip
    assert rules["alerting"]["alertmanagers"][0]["basic_auth"] == logins["alertmanager"]
    jobs = {job["job_name"]: job for job in rules["scrape_configs"]}
    assert {part: job["basic_auth"] for part, job in jobs.items() if "basic_auth" in job} == logins
    (source,) = config(objects, "p-grafana", "datasource.yaml")["datasources"]
    assert source["basicAuthUser"] == "phaseflow"
    assert source["secureJsonData"] == {"basicAuthPassword": "$__file{/etc/phaseflow/grafana/prometheus_password}"}


def test_the_probes_read_the_login_from_a_file(helm: Helm) -> None:
    pod_by_owner = dict(pods(helm.objects("platform")))
    for owner, program in (("StatefulSet p-prometheus", "/bin/promtool"), ("Deployment p-alertmanager", "/bin/amtool")):
        container = pod_by_owner[owner]["spec"]["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container[probe]["exec"]["command"]
            assert command[0] == program
            (file,) = [word.partition("=")[2] for word in command if word.startswith("--http.config.file=")]
            folder = next(mount for mount in container["volumeMounts"] if mount["mountPath"] == str(Path(file).parent))
            assert folder["name"] == "config"


def test_each_hash_matches_its_password(helm: Helm) -> None:
    data = secret(helm.objects("platform"), "p-monitoring")
    for part in ("prometheus", "alertmanager"):
        users = yaml.safe_load(data[f"{part}_web.yml"])["basic_auth_users"]
        assert bcrypt.checkpw(data[f"{part}_password"].encode(), users["phaseflow"].encode())


def test_two_renderings_with_existing_secrets_are_equal(helm: Helm) -> None:
    first, second = (helm.template("platform", "--set", EXISTING_SECRETS) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert generated_secrets(helm.objects("platform", "--set", EXISTING_SECRETS)) == []


def test_feedback_needs_a_token_unless_tokens_are_disabled(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "serving.feedback.clients={shop,clinic}")
    lines = secret(objects, "p-serving")["feedback_tokens"].splitlines()
    assert [line.split()[0] for line in lines] == ["shop", "clinic"]
    assert len({line.split()[1] for line in lines if len(line.split()[1]) >= 32}) == 2
    variables = environment(dict(pods(objects))["Deployment p-serving-titanic"])
    assert variables["PHASEFLOW_FEEDBACK_TOKENS"] == "1"
    open_to_all = helm.objects("platform", "--set", "serving.feedback.requireToken=false")
    assert "PHASEFLOW_FEEDBACK_TOKENS" not in environment(dict(pods(open_to_all))["Deployment p-serving-titanic"])
    assert mounted(open_to_all, "feedback_tokens") == set()


def test_only_the_local_engine_is_scraped(helm: Helm) -> None:
    def jobs(*values: str) -> set[str]:
        scrape_configs = config(helm.objects("platform", *values), "p-prometheus", "prometheus.yml")["scrape_configs"]
        return {job["job_name"] for job in scrape_configs}

    assert "pipelines" in jobs()
    assert "pipelines" not in jobs(
        "--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,global.kfp.namespace=phaseflow"
    )


def test_the_allowed_hosts_have_no_other_public_domain(helm: Helm) -> None:
    objects = helm.objects(
        "platform", "--set", "global.allowedHosts={ml.example.com},global.allowedOrigins={https://app.example.com}"
    )
    variables = environment(dict(pods(objects))["Deployment p-monitor"])
    assert variables["PHASEFLOW_ALLOWED_HOSTS"].split(",") == [
        "p-proxy",
        ".phaseflow.svc",
        ".phaseflow.svc.cluster.local",
        "ml.example.com",
    ]
    assert variables["PHASEFLOW_ALLOWED_ORIGINS"] == "https://app.example.com"


def test_a_persistent_spool_is_on_a_volume(helm: Helm) -> None:
    objects = helm.objects(
        "platform", "--set", "serving.overrides.titanic.spool.persistent=true,serving.overrides.titanic.spool.size=3Gi"
    )
    sets = {manifest["metadata"]["name"]: manifest for manifest in of_kind(objects, "StatefulSet")}
    assert "p-serving-house-prices" not in sets
    spec = sets["p-serving-titanic"]["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "home"
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert "home" not in [volume["name"] for volume in spec["template"]["spec"]["volumes"]]
    headless = next(
        manifest for manifest in of_kind(objects, "Service") if manifest["metadata"]["name"] == spec["serviceName"]
    )
    assert headless["spec"]["clusterIP"] == "None"
