"""Tests of the one login: nginx and oauth2-proxy as the charts render them, a real OpenID Connect provider, and echo servers as parts."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import yaml

from cli.charts.tests import login, nginx
from cli.charts.tests.login import COOKIE, PAGE, USERS, Platform
from cli.charts.tests.nginx import IDENTITY, LOGIN
from cli.charts.tests.rendering import Helm
from phaseflow.settings import ROOT
from phaseflow.testing import Request, Response, http_server, wait_for

ROLES = ("none", "viewer", "operator", "admin")
PARTS = ("/", "/mlflow/", "/prometheus/", "/alertmanager/", "/monitor/", "/pipelines/", "/airflow/", "/grafana/")
MLFLOW = "/mlflow/ajax-api/2.0/mlflow"
RUNS = "/pipelines/apis/v2beta1/runs"
NEEDS = [
    ("GET", "/", "viewer"),
    ("POST", "/", "admin"),
    ("GET", f"{MLFLOW}/experiments/get", "viewer"),
    ("POST", f"{MLFLOW}/runs/search", "viewer"),
    ("POST", "/mlflow/api/2.0/mlflow/experiments/search", "viewer"),
    ("POST", "/mlflow/graphql", "viewer"),
    ("POST", f"{MLFLOW}/registered-models/alias", "operator"),
    ("PATCH", f"{MLFLOW}/model-versions/update", "operator"),
    ("POST", f"{MLFLOW}/registered-models/create", "admin"),
    ("POST", f"{MLFLOW}/runs/delete", "admin"),
    ("DELETE", f"{MLFLOW}/registered-models/delete", "admin"),
    ("DELETE", f"{MLFLOW}/registered-models/alias", "admin"),
    ("PUT", "/mlflow/api/2.0/mlflow-artifacts/artifacts/x", "admin"),
    ("GET", RUNS, "viewer"),
    ("POST", RUNS, "operator"),
    ("POST", f"{RUNS}/1:terminate", "operator"),
    ("POST", f"{RUNS}/1:unknown", "admin"),
    ("DELETE", f"{RUNS}/1", "admin"),
    ("POST", "/pipelines/apis/v2beta1/pipelines/upload", "admin"),
    ("POST", "/pipelines/pipeline/apis/v2beta1/runs", "admin"),
    ("POST", "/pipelines/ml_metadata.MetadataStoreService/GetArtifacts", "viewer"),
    ("POST", "/pipelines/ml_metadata.MetadataStoreService/PutArtifacts", "admin"),
    ("GET", "/prometheus/api/v1/query?query=up", "viewer"),
    ("POST", "/prometheus/api/v1/query", "viewer"),
    ("POST", "/prometheus/-/reload", "admin"),
    ("POST", "/alertmanager/api/v2/silences", "operator"),
    ("DELETE", "/alertmanager/api/v2/silence/1", "operator"),
    ("POST", "/alertmanager/api/v2/alerts", "admin"),
    ("GET", "/monitor/reports", "viewer"),
    ("POST", "/monitor/hooks/alertmanager", "admin"),
    # These two judge by the role themselves.
    ("POST", "/airflow/api/v2/dags/titanic/dagRuns", "viewer"),
    ("DELETE", "/grafana/api/dashboards/uid/x", "viewer"),
]
"""Method, path and the role that it needs."""


def echo(request: Request) -> Response:
    """Echo the request's method, path and headers."""
    body = {"method": request.method, "path": request.path, "headers": dict(request.headers)}
    return Response(body, headers={"content-type": "application/json"})


Start = Callable[..., Platform]


@pytest.fixture(scope="module")
def start(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start provider, login and reverse proxy, with options of oauth2-proxy that replace those of the charts."""
    with ExitStack() as started, http_server(echo, keep_alive=True) as url:
        parts = nginx.Upstreams(default=int(url.rpartition(":")[2]))

        def run(replaced: Mapping[str, str] | None = None, more: Mapping[str, str] | None = None) -> Platform:
            folder = tmp_path_factory.mktemp("login")
            return started.enter_context(login.running(helm, folder, parts, replaced, more))

        yield run


@pytest.fixture(scope="module")
def platform(start: Start) -> Platform:
    return start()


@pytest.fixture(scope="module")
def sessions(platform: Platform) -> dict[str, httpx.Client]:
    """A client for each role, and one of a user without a role."""
    return {"none": platform.session("nobody")} | {role: platform.session(user) for role, user in USERS.items()}


def test_without_a_session_a_page_leads_to_the_provider_and_a_script_gets_an_error(platform: Platform) -> None:
    with platform.client() as client:
        for path in PARTS:
            page = client.get(path, headers=PAGE)
            assert page.status_code == 302, path
            assert "/auth?" in page.headers["location"], path
            assert "code_challenge_method=S256" in page.headers["location"], path
            for response in (client.get(path), client.post(path, headers=PAGE)):
                assert response.status_code == 401, path
                assert "www-authenticate" not in response.headers, path
                assert response.json()["error"]["problem"] == "There is no session, or it has ended", path


@pytest.mark.parametrize(("method", "path", "needed"), NEEDS, ids=[f"{method} {path}" for method, path, _ in NEEDS])
def test_a_role_may_do_what_is_listed_for_it(
    sessions: dict[str, httpx.Client], method: str, path: str, needed: str
) -> None:
    for role, client in sessions.items():
        response = client.request(method, path)
        allowed = ROLES.index(role) >= ROLES.index(needed)
        assert response.status_code == (200 if allowed else 403), role
        if not allowed:
            assert f"It needs the role {needed}" in response.json()["error"]["fix"]


def test_what_is_judged_is_what_the_part_gets(platform: Platform, sessions: dict[str, httpx.Client]) -> None:
    """Programs decode and shorten paths in different ways: a part gets the path that the role was held against."""
    for path in (
        f"{MLFLOW}/runs/delete%2f..%2fsearch",
        f"{MLFLOW}/runs/delete/../search",
        f"/mlflow//{MLFLOW[8:]}/runs/search",
    ):
        response = sessions["viewer"].post(httpx.URL(platform.proxy.address + path))
        assert response.status_code == 200, path
        assert response.json()["path"] == f"{MLFLOW}/runs/search", path
    for path in (
        f"{MLFLOW}/runs/search%2f..%2fdelete",
        f"{MLFLOW}/runs/search%0a/../delete",
        f"{MLFLOW}/runs/delete?/search",
    ):
        assert sessions["viewer"].post(httpx.URL(platform.proxy.address + path)).status_code == 403, path


FORGED = {
    "x-phaseflow-user": "anna@example.com",
    "x-phaseflow-role": "admin",
    "x-phaseflow-identity": "guess",
    "x-webauth-user": "anna@example.com",
    "x-webauth-role": "Admin",
}


IDENTIFIED = {
    "x-phaseflow-user": "vera@example.com",
    "x-phaseflow-role": "viewer",
    "x-phaseflow-identity": IDENTITY,
}
PASSED_ON = {
    "/": IDENTIFIED,
    "/airflow/": IDENTIFIED,
    "/grafana/": {"x-webauth-user": "vera@example.com", "x-webauth-role": "Viewer"},
}
"""What parts are told of the viewer."""


def test_parts_are_told_who_asks_whatever_the_client_says(
    platform: Platform, sessions: dict[str, httpx.Client]
) -> None:
    for path in (*PARTS, "/serving/titanic/model"):
        got = sessions["viewer"].get(path, headers=FORGED).raise_for_status().json()["headers"]
        passed_on = {header: got[header] for header in FORGED if header in got}
        assert passed_on == PASSED_ON.get(path, {}), path
        assert "cookie" not in got, path
    token = {"authorization": "Bearer x"}
    with platform.client() as client:
        for path in ("/airflow/api/v2/dags", "/grafana/api/x", "/airflow/auth/token", "/serving/titanic/feedback"):
            got = client.post(path, headers=FORGED | token).raise_for_status().json()["headers"]
            assert got["authorization"] == "Bearer x"
            assert not FORGED.keys() & got.keys() - {"x-phaseflow-identity"}, path


def test_a_program_sends_the_password_or_a_token(platform: Platform) -> None:
    with platform.client(auth=LOGIN) as client:
        for path in ("/", "/mlflow/", "/prometheus/"):
            assert client.delete(path).status_code == 200, path
        got = client.get("/").json()["headers"]
        assert (got["x-phaseflow-user"], got["x-phaseflow-role"]) == ("admin", "admin")
        # Airflow and Grafana take no password of the proxy.
        assert client.get("/airflow/api/v2/dags").status_code == 401
    with platform.client(auth=("admin", "wrong")) as client:
        refused = client.get("/mlflow/", headers=PAGE)
        assert refused.status_code == 401
        assert refused.json()["error"]["problem"] == "The password is wrong"
    with platform.client(headers={"authorization": "Bearer x"}) as client:
        assert client.get("/mlflow/").status_code == 401
        assert client.get("/airflow/api/v2/dags").status_code == 200


def test_the_services_and_the_health_check_ask_for_no_login(platform: Platform) -> None:
    with platform.client() as client:
        for path in ("/serving/titanic/model", "/proxy/healthz"):
            assert client.get(path).status_code == 200, path
        assert client.post("/serving/titanic/predict", json={}).status_code == 200
        assert client.get("/proxy/session").status_code == 404


def test_a_page_of_another_site_does_nothing_with_the_session(sessions: dict[str, httpx.Client]) -> None:
    for path in PARTS:
        for headers in ({"origin": "http://evil.example.com"}, {"sec-fetch-site": "cross-site"}):
            response = sessions["admin"].post(path, headers=headers)
            assert response.status_code == 403, path
            assert response.json()["error"]["problem"] == "A page of another site sent this request"


def test_logging_out_ends_the_session(platform: Platform) -> None:
    with closing(platform.session("vera")) as client:
        assert client.get("/mlflow/").status_code == 200
        left = client.get("/logout", follow_redirects=True)
        assert left.url.path == "/proxy/logged-out"
        assert "You are logged out" in left.text
        assert client.get("/mlflow/").status_code == 401


def test_a_changed_cookie_is_no_session(sessions: dict[str, httpx.Client], platform: Platform) -> None:
    cookie = sessions["viewer"].cookies[COOKIE]
    assert len(cookie) < 2000
    with platform.client(cookies={COOKIE: cookie}) as client:
        assert client.get("/mlflow/").status_code == 200
    value, time, signature = cookie.split("|")
    for changed in (f"{value}|{int(time) + 1}|{signature}", f"{value[:-2]}AA|{time}|{signature}"):
        with platform.client(cookies={COOKIE: changed}) as client:
            assert client.get("/mlflow/").status_code == 401


def test_an_expired_session_logs_in_again(start: Start) -> None:
    platform = start({"--cookie-expire": "2s"})
    with closing(platform.session("olga")) as client:
        wait_for("the session ends", lambda: client.get("/mlflow/").status_code == 401, 30)
        # The provider still knows the person, who sees no form.
        arrived = client.get("/mlflow/", headers=PAGE, follow_redirects=True)
        assert arrived.status_code == 200
        assert arrived.json()["path"] == "/mlflow/"
        assert client.post(RUNS).status_code == 200


def test_everybody_may_have_a_role(start: Start) -> None:
    platform = start(more={"global.auth.oidc.defaultRole": "viewer", "global.auth.oidc.groupsClaim": "email"})
    with closing(platform.session("nobody")) as client:
        assert client.get("/").json()["headers"]["x-phaseflow-role"] == "viewer"
        assert client.post(RUNS).status_code == 403


def test_options_of_the_login(helm: Helm) -> None:
    secure = login.values(
        "https://login.example.com",
        "https://ml.example.com",
        {
            "global.auth.oidc.caSecret": "ca",
            "global.auth.oidc.logoutUrl": "https://login.example.com/logout?client_id=phaseflow&to=https://ml.example.com/",
            "global.auth.oidc.scopes": "{openid,groups}",
        },
    )
    objects = helm.objects("platform", *secure)
    pod = nginx.deployment(objects, "login")["spec"]["template"]["spec"]
    options = pod["containers"][0]["args"]
    for option in (
        "--cookie-secure=true",
        "--cookie-name=__Host-phaseflow_session",
        "--redirect-url=https://ml.example.com/oauth2/callback",
        "--provider-ca-file=/etc/phaseflow/ca/ca.crt",
        "--whitelist-domain=login.example.com",
        "--scope=openid groups",
        "--cookie-expire=480m",
    ):
        assert option in options
    assert {volume["secret"]["secretName"] for volume in pod["volumes"]} == {"login", "ca"}
    assert "rd=https%3A%2F%2Flogin.example.com%2Flogout%3Fclient_id%3Dphaseflow%26to%3D" in nginx.configuration(objects)


def test_the_values_of_the_page_can_be_installed(helm: Helm, tmp_path: Path) -> None:
    """The first block is whole, and each other one goes over it."""
    page = (ROOT / "docs" / "how-to" / "one-login.md").read_text()
    blocks = [textwrap.dedent(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert len(blocks) == 5
    for number, block in enumerate(blocks):
        files = [tmp_path / "first.yaml", tmp_path / f"{number}.yaml"]
        for file, text in zip(files, (blocks[0], block), strict=True):
            file.write_text(text)
        objects = helm.objects("platform", *(word for file in files for word in ("--values", str(file))))
        options = nginx.deployment(objects, "login")["spec"]["template"]["spec"]["containers"][0]["args"]
        issuer = yaml.safe_load(block)["global"]["auth"]["oidc"]["issuer"]
        assert f"--oidc-issuer-url={issuer}" in options
        logout = yaml.safe_load(block)["global"]["auth"]["oidc"].get("logoutUrl", "/proxy/logged-out")
        assert f"rd={quote(logout, safe='')};" in nginx.configuration(objects)


def test_grafana_gets_no_password_form(helm: Helm) -> None:
    objects = helm.objects("platform", *login.values("https://login.example.com", "https://ml.example.com"))
    (container,) = nginx.deployment(objects, "grafana")["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert variables["GF_AUTH_PROXY_ENABLED"] == variables["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert variables["GF_AUTH_PROXY_HEADERS"] == "Role:X-WEBAUTH-ROLE"
    assert variables["GF_AUTH_SIGNOUT_REDIRECT_URL"] == "https://ml.example.com/logout"


def test_without_a_login_nothing_of_it_is_there(helm: Helm) -> None:
    objects = helm.objects("platform")
    assert "p-login" not in json.dumps(objects)
    assert "auth_request" not in nginx.configuration(objects)
    assert not re.search('GF_AUTH|AUTH_MANAGER", "value": "dags|identity', json.dumps(objects))
