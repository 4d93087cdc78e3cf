"""The platform on Kubernetes, in the order in which a user meets it: install over an older one, the loop, faults, restore."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitoring import queries
from phaseflow.access import named_tokens
from phaseflow.cluster import install, kube
from phaseflow.cluster.kube import Release
from phaseflow.embedded import rest
from phaseflow.settings import USER
from tests import wire
from tests.cluster.conftest import Cluster, until, values
from tests.security import doors
from tests.tally import Row, Tally

GIVEN = "given-airflow"
"""A Secret that the user made before the installation."""


@pytest.fixture(scope="module")
def cluster(before: Path) -> Iterator[Cluster]:
    """The platform: installed by the previous commit's charts over a Secret of the user's, then upgraded to these."""
    cluster = Cluster(release=Release(name="phaseflow", namespace="phaseflow-test"))
    cluster.phaseflow("down", "--data")
    kube.namespace(cluster.release)
    password, fernet = secrets.token_urlsafe(16), base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    data = {
        "airflow_admin_password": password,
        "airflow_jwt": secrets.token_urlsafe(48),
        "airflow_fernet": fernet,
        "passwords.json": json.dumps({"admin": password}),
    }
    given = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": GIVEN}, "stringData": data}
    kube.kubectl(cluster.release, "apply", "--filename", "-", stdin=json.dumps(given))
    begun = time.monotonic()
    chart = before / "charts" / "platform"
    kube.helm(cluster.release, "upgrade", "--install", "phaseflow", str(chart), *values(before))
    install.wait(cluster.release, lambda *_: None, begun)
    print(f"installed: every part is ready after {time.monotonic() - begun:.0f} s")
    yield cluster
    if not os.environ.get("KEEP"):
        cluster.phaseflow("down", "--data")


@pytest.fixture(scope="module")
def upgraded(cluster: Cluster) -> dict[str, str]:
    """The secrets before the upgrade, after which every other test runs."""
    held = cluster.secrets()
    begun = time.monotonic()
    cluster.up()
    print(f"upgraded: every part is ready after {time.monotonic() - begun:.0f} s")
    return held


@pytest.fixture(scope="module")
def story(cluster: Cluster, upgraded: dict[str, str]) -> dict[str, Any]:
    """One turn of the loop."""
    told: dict[str, Any] = cluster.json("demo", timeout=1500)
    return told


def test_an_upgrade_changes_no_secret_and_the_users_own_is_the_one_in_use(
    cluster: Cluster, upgraded: dict[str, str]
) -> None:
    assert len(upgraded) >= 10
    # What is made of the passwords, for one program or another, may change; and there may be more of them.
    kept = {key: value for key, value in upgraded.items() if key.rsplit("/", 1)[1] not in {"s3.json", "pgpass"}}
    assert cluster.secrets().items() >= kept.items()
    assert f"{cluster.release.name}-airflow" not in {key.split("/")[0] for key in upgraded}
    assert rest.Airflow(cluster.settings).dag("titanic")["dag_id"] == "titanic"


def test_every_pod_is_admitted_under_the_restricted_standard(cluster: Cluster, upgraded: dict[str, str]) -> None:
    space = json.loads(cluster.kubectl("get", "namespace", cluster.release.namespace, "--output", "json"))
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    warnings = [
        event["message"]
        for event in kube.items(cluster.release, "events", "--field-selector", "type=Warning")
        if "violates PodSecurity" in event["message"]
    ]
    assert warnings == []


def test_the_charts_own_test_asks_every_part(cluster: Cluster, upgraded: dict[str, str]) -> None:
    assert "Phase:          Succeeded" in kube.helm(cluster.release, "test", cluster.release.name)


def test_one_turn_of_the_loop(cluster: Cluster, story: dict[str, Any]) -> None:
    assert story["ok"], story
    assert len(story["steps"]) >= 10
    assert story["traffic"]["failed"] == 0
    assert {"1", "2"} <= set(story["traffic"]["versions"])
    # Another retraining may have followed the first, and still be on its way to one of the replicas.
    until(
        "the new champion on every replica", lambda: int(cluster.served()["version"]) >= int(story["last"]["version"])
    )
    print(f"all pods together: {story['memory_mb']} MiB at most; the story took {story['seconds']} s")


def test_every_page_is_behind_one_door_and_asks_for_its_password(cluster: Cluster, story: dict[str, Any]) -> None:
    pages = cluster.json("urls", "--show-passwords")
    assert {page["name"] for page in pages} >= {"portal", "Airflow", "MLflow", "Prometheus", "Alertmanager", "service"}
    for page in pages:
        if page["name"] in {"Airflow", "service"}:  # a login of its own; open to the world
            assert httpx.get(page["url"], follow_redirects=True, timeout=30).status_code == 200, page["url"]
            continue
        assert httpx.get(page["url"], timeout=30).status_code == 401, page["url"]
        answer = httpx.get(page["url"], auth=("admin", page["password"]), follow_redirects=True, timeout=30)
        assert answer.status_code == 200, page["url"]
    shown = httpx.get(pages[0]["url"], auth=("admin", pages[0]["password"]), timeout=30).text
    assert "Titanic" in shown
    assert "7 of 7 parts answer" in shown


def test_no_panel_of_the_projects_dashboards_is_empty(cluster: Cluster, story: dict[str, Any]) -> None:
    settings = cluster.settings
    with cluster.traffic(rate=15):
        boards = ["phaseflow-titanic", "phaseflow-platform"]
        end = time.monotonic() + 150
        while found := queries.empty(settings, boards):
            assert time.monotonic() < end, (found, queries.unreached(settings))
            time.sleep(2)


INSIDE = """
import httpx, json, sys
answers = {}
for name, (method, url, options) in json.loads(sys.argv[1]).items():
    login = options.pop("login", None)
    if login:
        login = ("phaseflow", open(f"/var/lib/phaseflow/secrets/{login}").read().strip())
    answers[name] = httpx.request(method, url, auth=login, timeout=30, **options).status_code
print(json.dumps(answers))
"""
"""What the portal's pod runs to call other parts past the front door."""


def test_who_is_inside_gets_in_with_a_login_or_a_token_alone(cluster: Cluster, story: dict[str, Any]) -> None:
    alert = [{"labels": {"alertname": "PhaseflowFeatureDrift", "project": "titanic", "action": "retrain"}}]
    prometheus, alertmanager = (
        "http://phaseflow-prometheus:9090/prometheus",
        "http://phaseflow-alertmanager:9093/alertmanager",
    )
    engine = "http://phaseflow-pipelines:8888/apis/v2beta1/runs"
    serving = "http://phaseflow-serving-titanic:3000/titanic/feedback"
    foreign = {"headers": {"host": "rebound.example.com"}}
    calls: dict[str, tuple[str, str, dict[str, Any], int]] = {
        "query": ("GET", f"{prometheus}/api/v1/query?query=up", {}, 401),
        "query with the login": ("GET", f"{prometheus}/api/v1/query?query=up", {"login": "prometheus_password"}, 200),
        "alert": ("POST", f"{alertmanager}/api/v2/alerts", {"json": alert}, 401),
        "alerts with the login": ("GET", f"{alertmanager}/api/v2/alerts", {"login": "alertmanager_password"}, 200),
        "run": ("POST", engine, {"json": {}}, 401),
        "runs": ("GET", engine, {}, 200),
        "feedback": ("POST", serving, {"json": {"truths": [{"id": "x", "truth": "1"}]}}, 401),
        "rebound engine": ("GET", engine, foreign, 403),
        "rebound monitor": ("GET", "http://phaseflow-monitor:8085/metrics", foreign, 403),
        "rebound portal": ("GET", "http://phaseflow-portal:8090/", foreign, 403),
        "full name": ("GET", f"http://phaseflow-monitor.{cluster.release.namespace}.svc.cluster.local:8085/metrics", {}, 200),
    }  # fmt: skip
    sent = json.dumps({name: call[:3] for name, call in calls.items()})
    answers = json.loads(cluster.kubectl("exec", "deployment/phaseflow-portal", "--", "python", "-c", INSIDE, sent))
    assert answers == {name: call[3] for name, call in calls.items()}


PORTS = {"pipelines": 8888, "monitor": 8085, "portal": 8090, "serving": 3000, "prometheus": 9090, "alertmanager": 9093}
"""Of the services that the table asks here past the front door."""


@contextmanager
def forwarded(cluster: Cluster, service: str, port: int) -> Iterator[tuple[str, int]]:
    """A local address from which connections go to a pod of the service."""
    space = ("--namespace", cluster.release.namespace)
    command = [kube.program("kubectl"), *space, "port-forward", f"service/{service}", f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        drain = threading.Thread(target=process.stdout.read, daemon=True)  # a line for each connection
        drain.start()
        try:
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert match, line
            yield "127.0.0.1", int(match.group(1))
        finally:
            process.terminate()
            drain.join()


@pytest.mark.parametrize("service", sorted(PORTS))
def test_only_who_may_gets_in(cluster: Cluster, story: dict[str, Any], service: str, tally: Tally) -> None:
    """The table of one machine, asked of the services' own ports: as another pod of the namespace would reach them."""
    stored = cluster.secrets().items()
    secret_values = {key.rsplit("/", 1)[1]: base64.b64decode(value).decode().strip() for key, value in stored}
    credentials = {name: doors.bearer(secret_values[name]) for name in ("engine_token", "hook_token")}
    credentials |= {
        part: wire.basic((USER, secret_values[f"{part}_password"])) for part in ("prometheus", "alertmanager")
    } | {"feedback": doors.bearer(traffic_token(cluster))}
    name = "phaseflow-serving-titanic" if service == "serving" else f"phaseflow-{service}"
    prefix = f"/{service}" if service in {"prometheus", "alertmanager"} else ""
    tried, wrong = 0, []
    with forwarded(cluster, name, PORTS[service]) as address:
        for door in doors.DOORS:
            if door.service == service:
                # Feedback asks for a client's token here; one wrong value at a time.
                credential = "feedback" if door.optional else door.credential
                there = replace(door, path=prefix + door.path, credential=credential, optional=False, pairs=False)
                number, problems = doors.checked(there, address, credentials)
                tried, wrong = tried + number, wrong + problems
    tally.add(Row(what=f"host, origin, token and content type on the cluster: {service}", tried=tried, got_in=wrong))


def test_the_front_door_refuses_what_others_send(cluster: Cluster, story: dict[str, Any]) -> None:
    settings = cluster.settings
    with httpx.Client(base_url=settings.public_url, auth=rest.door(settings), timeout=30) as client:
        foreign = client.post("/alertmanager/api/v2/alerts", json=[], headers={"origin": "http://evil.example.com"})
        assert foreign.status_code == 403
        assert client.post("/pipelines/apis/v2beta1/runs", json={}).status_code == 405
        assert client.get("/alertmanager/api/v2/alerts").status_code == 200
    for path in ("/serving/metrics", "/serving/titanic/metrics", "/serving/healthz"):
        assert httpx.get(f"{settings.public_url}{path}", timeout=30).status_code == 404, path
    predict = f"{settings.serving_url}/titanic/feedback"
    assert httpx.post(predict, json={"truths": [{"id": "x", "truth": "1"}]}, timeout=30).status_code == 401


COUNT = """
import json
from phaseflow import logs
from phaseflow.settings import from_environment
from phaseflow.store import Store
store = Store(from_environment().store)
log = "feedback", "house_prices"
batches = (batch for hour in logs.all_hours(store, *log) for batch in logs.batches(store, *log, hour, {"id"}))
print(json.dumps(sorted({row for batch in batches for row in batch["id"]})))
"""


def test_a_pod_deleted_by_force_loses_no_row_where_its_spool_is_on_a_volume(
    cluster: Cluster, story: dict[str, Any]
) -> None:
    settings = cluster.settings
    token = traffic_token(cluster)
    pod = "phaseflow-serving-house-prices-0"
    uid = cluster.kubectl("get", "pod", pod, "--output", "jsonpath={.metadata.uid}")
    accepted: set[str] = set()
    with httpx.Client(timeout=30, headers={"authorization": f"Bearer {token}"}) as client:
        killer = threading.Thread(target=cluster.kubectl, args=("delete", "pod", pod, "--grace-period=0", "--force"))
        for number in range(400):
            body = {"truths": [{"id": f"kept-{number}", "truth": 100_000.0}]}
            if number == 200:
                killer.start()
            try:
                answer = client.post(f"{settings.serving_url}/house_prices/feedback", json=body)
            except httpx.HTTPError:
                continue
            if answer.status_code == 200:
                accepted.add(f"kept-{number}")
            elif number > 200:  # the pod is gone
                break
        killer.join()
    assert len(accepted) > 150

    def shipped() -> bool:
        assert cluster.kubectl("get", "pod", pod, "--output", "jsonpath={.metadata.uid}") != uid
        return accepted <= set(json.loads(cluster.kubectl("exec", pod, "--", "python", "-c", COUNT)))

    until("every accepted row in the store", shipped)
    print(f"rows accepted by a pod deleted by force: {len(accepted)}; lost: 0")


def traffic_token(cluster: Cluster) -> str:
    """The token of the client `default`."""
    return named_tokens(cluster.settings.secret("feedback_tokens"))["default"]


def _task(cluster: Cluster, run: str, task: str) -> None:
    """Wait until the task is at work; with a new client each time, since the API may have been away."""

    def look() -> bool:
        found = {t["task_id"]: t["state"] for t in rest.Airflow(cluster.settings).tasks("titanic", run)}
        return found.get(task) in {"running", "deferred"}

    until(f"{task} of {run}", look)


def _ended(cluster: Cluster, run: str) -> dict[str, Any]:
    """The run after its end."""

    def look() -> dict[str, Any] | None:
        found = rest.Airflow(cluster.settings).run("titanic", run)
        return found if found["state"] in {"success", "failed"} else None

    found: dict[str, Any] = until(f"the end of {run}", look, 400)
    return found


def test_a_run_outlives_its_scheduler_and_a_restart_of_the_database(cluster: Cluster, story: dict[str, Any]) -> None:
    run = rest.Airflow(cluster.settings).trigger("titanic", "the scheduler is killed, then the database restarts")
    _task(cluster, run, "extract")
    (pod,) = cluster.pods("scheduler")
    cluster.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    _task(cluster, run, "train")
    cluster.kubectl("delete", "pod", f"{cluster.release.name}-postgres-0", "--grace-period=1")
    assert _ended(cluster, run)["state"] == "success"


def test_no_request_fails_when_a_pod_of_the_service_is_killed(cluster: Cluster, story: dict[str, Any]) -> None:
    with cluster.traffic(rate=30) as summary:
        for _ in range(2):
            names = cluster.pods("titanic")
            assert len(names) == 2
            cluster.kubectl("delete", "pod", names[0], "--grace-period=0", "--force")
            _full_strength(cluster)
    assert summary["sent"] > 100
    assert summary["failed"] == 0, summary["errors"]


def test_no_request_fails_while_a_node_is_drained(cluster: Cluster, story: dict[str, Any]) -> None:
    """Evictions, as `kubectl drain` asks for: the budget lets them go one by one."""
    refused = 0
    with cluster.traffic(rate=30) as summary:
        old = set(cluster.pods("titanic"))
        while left := old & set(cluster.pods("titanic")):
            refused += not _evicted(cluster, min(left))
            time.sleep(0.5)  # `kubectl drain` too asks again after a while
        _full_strength(cluster)
    assert summary["failed"] == 0, summary["errors"]
    assert refused > 0, "the disruption budget never said no"


def _evicted(cluster: Cluster, pod: str) -> bool:
    space = cluster.release.namespace
    wanted = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": space}}
    path = f"/api/v1/namespaces/{space}/pods/{pod}/eviction"
    done = subprocess.run(
        ["kubectl", "create", "--raw", path, "--filename", "-"],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or "disruption budget" in done.stderr or "not found" in done.stderr, done.stderr
    return done.returncode == 0


def _full_strength(cluster: Cluster) -> None:
    def ready() -> bool:
        found = json.loads(cluster.kubectl("get", "deployment", "phaseflow-serving-titanic", "--output", "json"))
        return bool(found["status"].get("readyReplicas") == 2 and len(cluster.pods("titanic")) == 2)

    until("two pods of the service", ready)


def test_an_image_that_does_not_exist_is_said_with_its_name_within_a_minute(
    cluster: Cluster, story: dict[str, Any]
) -> None:
    begun = time.monotonic()
    done = cluster.up("--set", "door.image.tag=no-such-tag", check=False, timeout=120)
    assert done.returncode == 2
    assert time.monotonic() - begun < 60
    assert "nginxinc/nginx-unprivileged:no-such-tag' can't be had" in done.stderr
    assert "fix:" in done.stderr
    # The old door goes on meanwhile, and a right value mends it.
    assert httpx.get(f"{cluster.settings.serving_url}/titanic/model", timeout=10).status_code == 200
    cluster.up()


def test_a_wrong_value_is_an_error_that_names_it(cluster: Cluster, story: dict[str, Any]) -> None:
    for wrong, said in (
        ("airflow.executor=Celery", "executor"),
        ("serving.replicas=two", "replicas"),
        ("serving.replica=2", "replica"),
        ("pipelines.engine=argo", "engine"),
    ):
        done = cluster.up("--set", wrong, check=False)
        assert done.returncode == 2
        assert said in done.stderr, done.stderr


def test_a_fresh_installation_is_brought_back_to_the_same_runs_models_and_champions(
    cluster: Cluster, story: dict[str, Any]
) -> None:
    def state() -> dict[str, Any]:
        settings = cluster.settings
        runs = rest.Airflow(settings).runs("titanic")
        mlflow = httpx.Client(base_url=settings.mlflow_url, auth=rest.door(settings), timeout=30)
        models = mlflow.get("/api/2.0/mlflow/registered-models/search").json()["registered_models"]
        return {
            "runs": sorted((run["dag_run_id"], run["state"]) for run in runs),
            "aliases": {
                model["name"]: {alias["alias"]: alias["version"] for alias in model.get("aliases", ())}
                for model in models
            },
            "served": cluster.served(),
        }

    until("the end of every run", lambda: {run for _, run in state()["runs"]} <= {"success", "failed"})
    before = state()
    cluster.phaseflow("backup")
    old = cluster.secrets()
    cluster.phaseflow("down", "--data")
    kept = cluster.kubectl("get", "pvc", "--output", "name")
    assert "backup" in kept
    assert "postgres" not in kept
    cluster.up()
    assert cluster.secrets()["phaseflow-postgres/airflow_password"] != old["phaseflow-postgres/airflow_password"]
    answer = httpx.post(f"{cluster.settings.serving_url}/titanic/predict", json={}, timeout=10)
    assert answer.status_code in {422, 503}
    assert rest.Airflow(cluster.settings).runs("titanic") == []
    said = cluster.phaseflow("restore").stdout
    assert '"dumps": 2' in said
    until("the same champion on every replica", lambda: cluster.served() == before["served"])
    assert state() == before


def test_down_keeps_the_data_and_up_finds_it(cluster: Cluster, story: dict[str, Any]) -> None:
    held, version = cluster.secrets(), cluster.served()["version"]
    cluster.phaseflow("down")
    cluster.up()
    until("the champion", lambda: cluster.served()["version"] == version)
    assert cluster.secrets().items() >= held.items()


def test_no_secret_is_in_a_log_or_a_command_line(cluster: Cluster, story: dict[str, Any]) -> None:
    values = {
        base64.b64decode(value).decode()
        for key, value in cluster.secrets().items()
        if key.rsplit("/", 1)[1] not in {"username", "s3.json", "credentials", "pgpass", "htpasswd"}
    }
    values |= {word for value in values for word in value.split() if len(word) >= 20}  # a line a client
    assert len(values) >= 12
    pods = kube.items(cluster.release, "pods", *kube.ours(cluster.release))
    texts = {pod["metadata"]["name"]: json.dumps(pod["spec"]) for pod in pods}
    lock = threading.Lock()

    def read(name: str) -> None:
        text = cluster.kubectl("logs", name, "--all-containers", "--tail=-1")
        with lock:
            texts[name] += text

    readers = [threading.Thread(target=read, args=(name,)) for name in list(texts)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    found = {name for name, text in texts.items() for value in values if value in text}
    assert found == set()
