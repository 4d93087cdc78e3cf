"""Who gets which token and password, and that no rendering changes one that was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from helm.tests.rendering import Helm, Object, containers, name, of_kind, pods

GIVEN = (
    "airflow.existingSecret=a,monitoring.existingSecret=m,monitoring.airflowSecret=a,airflow.hookSecret=m,"
    "portal.monitoringSecret=m,pipelines.existingSecret=e,airflow.engineSecret=e,serving.feedback.existingSecret=f,"
    "door.existingSecret=d,global.personal.existingSecret=k,storage.enabled=false,global.store.external=true,global.store.existingSecret=s,"
    "global.postgres.host=db,global.postgres.existingSecret=p"
)
"""Every Secret is the user's."""


def secret(objects: tuple[Object, ...], wanted: str) -> dict[str, str]:
    found: dict[str, str] = next(
        it["stringData"] for it in of_kind(objects, "Secret") if it["metadata"]["name"] == wanted
    )
    return found


def mounted(objects: tuple[Object, ...], key: str) -> set[str]:
    """Owners of the pods that can read the key."""
    found = set()
    for owner, pod in pods(objects):
        sources = [each for it in pod["spec"]["volumes"] for each in [it, *it.get("projected", {}).get("sources", [])]]
        if any(item["key"] == key for each in sources for item in each.get("secret", {}).get("items", [])):
            found.add(owner.removeprefix("Deployment ").removeprefix("StatefulSet "))
    return found


def environment(pod: Object) -> dict[str, str]:
    return {it["name"]: it.get("value", "") for it in containers(pod)[-1].get("env", [])}


def config(objects: tuple[Object, ...], owner: str, file: str) -> Any:
    return yaml.safe_load(next(it["data"][file] for it in objects if name(it) == f"ConfigMap {owner}"))


@pytest.mark.parametrize(
    ("key", "readers"),
    [
        # Who starts runs, and who asks for the token.
        ("engine_token", {"p-pipelines", "p-airflow-scheduler", "p-airflow-triggerer"}),
        ("feedback_tokens", {"p-serving-titanic", "p-serving-house-prices"}),
        ("prometheus_password", {"p-prometheus", "p-monitor", "p-portal", "p-door", "p-grafana"}),
        ("alertmanager_password", {"p-prometheus", "p-alertmanager", "p-monitor", "p-portal", "p-door"}),
        ("prometheus_web.yml", {"p-prometheus"}),
        ("alertmanager_web.yml", {"p-alertmanager"}),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_a_secret_is_mounted_where_it_is_used(helm: Helm, key: str, readers: set[str]) -> None:
    objects = helm.objects("platform", "--set", "global.projects={titanic,house_prices}")
    read = mounted(objects, key)
    assert read >= readers
    # Airflow's processes and its tests share one list.
    assert {owner for owner in read - readers if "airflow" not in owner and not owner.startswith("Pod ")} == set()


@pytest.mark.parametrize(
    ("file", "secret", "key"),
    [
        ("pod", "p-personal", "personal_key"),  # the ETL hashes personal columns
        ("maintenance", "p-pipelines", "engine_token"),  # old runs are removed
    ],
)
def test_what_airflow_starts_reads_one_secret_where_it_exists(helm: Helm, file: str, secret: str, key: str) -> None:
    pod = dict(pods(helm.objects("platform")))[f"ConfigMap p-airflow {file}.yaml"]
    (volume,) = [it for it in pod["spec"]["volumes"] if it["name"] == "secrets"]
    (source,) = volume["projected"]["sources"]
    assert source["secret"] == {"name": secret, "optional": True, "items": [{"key": key, "path": key}]}


def test_the_personal_key_is_kept_or_yours(helm: Helm) -> None:
    objects = helm.objects("platform")
    (secret,) = [it for it in objects if name(it) == "Secret p-personal"]
    assert len(secret["stringData"]["personal_key"]) == 48
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert mounted(objects, "personal_key") >= {"p-serving-titanic", "ConfigMap p-airflow pod.yaml"}
    yours = helm.objects("platform", "--set", "global.personal.existingSecret=mine")
    assert not [it for it in yours if name(it) == "Secret p-personal"]
    pod = dict(pods(yours))["Deployment p-serving-titanic"]
    assert "mine" in yaml.safe_dump(pod["spec"]["volumes"])


def test_airflows_database_is_cleaned_by_a_job_of_its_own(helm: Helm) -> None:
    objects = helm.objects("platform")
    (job,) = [it for it in objects if name(it) == "CronJob p-airflow-clean"]
    script = dict(pods(objects))["CronJob p-airflow-clean"]["spec"]["containers"][0]["args"][0]
    assert 'before="$(python -m dags.keep)" && exec airflow db clean --clean-before-timestamp "$before" --yes' in script
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    none = helm.objects("platform", "--set", "airflow.clean.schedule=")
    assert not [it for it in none if name(it) == "CronJob p-airflow-clean"]


def test_prometheus_and_alertmanager_ask_for_a_login_and_nothing_else_lacks_it(helm: Helm) -> None:
    objects = helm.objects("platform")
    found = dict(pods(objects))
    prometheus = found["StatefulSet p-prometheus"]["spec"]["containers"][0]
    assert "--web.config.file=/etc/phaseflow/logins/prometheus_web.yml" in prometheus["args"]
    assert "--web.cors.origin=^$" in prometheus["args"]
    alertmanager = found["Deployment p-alertmanager"]["spec"]["containers"][0]
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


def test_the_probes_log_in_by_a_file(helm: Helm) -> None:
    found = dict(pods(helm.objects("platform")))
    for owner, program in (("StatefulSet p-prometheus", "/bin/promtool"), ("Deployment p-alertmanager", "/bin/amtool")):
        container = found[owner]["spec"]["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container[probe]["exec"]["command"]
            assert command[0] == program
            (file,) = [word.partition("=")[2] for word in command if word.startswith("--http.config.file=")]
            folder = next(it for it in container["volumeMounts"] if it["mountPath"] == str(Path(file).parent))
            assert folder["name"] == "config"


def test_a_hash_is_of_the_password_beside_it(helm: Helm) -> None:
    data = secret(helm.objects("platform"), "p-monitoring")
    for part in ("prometheus", "alertmanager"):
        users = yaml.safe_load(data[f"{part}_web.yml"])["basic_auth_users"]
        assert bcrypt.checkpw(data[f"{part}_password"].encode(), users["phaseflow"].encode())


def test_two_renderings_with_given_secrets_are_equal(helm: Helm) -> None:
    first, second = (helm.template("platform", "--set", GIVEN) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert "kind: Secret" not in first.stdout.splitlines()


def test_feedback_needs_a_token_unless_it_is_switched_off(helm: Helm) -> None:
    objects = helm.objects("platform", "--set", "serving.feedback.clients={shop,clinic}")
    lines = secret(objects, "p-serving")["feedback_tokens"].splitlines()
    assert [line.split()[0] for line in lines] == ["shop", "clinic"]
    assert len({line.split()[1] for line in lines if len(line.split()[1]) >= 32}) == 2
    told = environment(dict(pods(objects))["Deployment p-serving-titanic"])
    assert told["PHASEFLOW_FEEDBACK_TOKENS"] == "1"
    open_to_all = helm.objects("platform", "--set", "serving.feedback.requireToken=false")
    assert "PHASEFLOW_FEEDBACK_TOKENS" not in environment(dict(pods(open_to_all))["Deployment p-serving-titanic"])
    assert mounted(open_to_all, "feedback_tokens") == set()


def test_the_local_engine_is_scraped_where_it_runs(helm: Helm) -> None:
    def jobs(*values: str) -> set[str]:
        found = config(helm.objects("platform", *values), "p-prometheus", "prometheus.yml")["scrape_configs"]
        return {job["job_name"] for job in found}

    assert "pipelines" in jobs()
    assert "pipelines" not in jobs(
        "--set", "pipelines.engine=kfp,kubeflow-pipelines.enabled=true,global.kfp.namespace=phaseflow"
    )


def test_the_hosts_are_the_services_full_names_and_never_a_public_domain(helm: Helm) -> None:
    objects = helm.objects(
        "platform", "--set", "global.allowedHosts={ml.example.com},global.allowedOrigins={https://app.example.com}"
    )
    told = environment(dict(pods(objects))["Deployment p-monitor"])
    assert told["PHASEFLOW_ALLOWED_HOSTS"].split(",") == [
        "p-door",
        ".phaseflow.svc",
        ".phaseflow.svc.cluster.local",
        "ml.example.com",
    ]
    assert told["PHASEFLOW_ALLOWED_ORIGINS"] == "https://app.example.com"


def test_what_is_not_shipped_is_on_a_volume_where_that_is_asked_for(helm: Helm) -> None:
    objects = helm.objects(
        "platform", "--set", "serving.overrides.titanic.spool.persistent=true,serving.overrides.titanic.spool.size=3Gi"
    )
    sets = {it["metadata"]["name"]: it for it in of_kind(objects, "StatefulSet")}
    assert "p-serving-house-prices" not in sets
    spec = sets["p-serving-titanic"]["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "home"
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert "home" not in [it["name"] for it in spec["template"]["spec"]["volumes"]]
    headless = next(it for it in of_kind(objects, "Service") if it["metadata"]["name"] == spec["serviceName"])
    assert headless["spec"]["clusterIP"] == "None"
