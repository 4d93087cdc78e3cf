"""Tests of the reverse proxy's configuration with a real nginx in front of an echo server."""

from __future__ import annotations

import base64
import resource
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from cli.charts.tests import nginx
from cli.charts.tests.nginx import LOGIN, PASSWORDS, Proxy
from cli.charts.tests.rendering import Helm
from phaseflow.settings import ROOT
from phaseflow.testing import Request, Response, free_port, http_server

PAGES = ("/", "/mlflow/", "/prometheus/", "/alertmanager/", "/monitor/", "/pipelines/")
"""One page of each part behind the proxy's login."""


def echo(request: Request) -> Response:
    """Echo the request's method, path and headers."""
    body = {"method": request.method, "path": request.path, "headers": dict(request.headers)}
    framed = {"x-frame-options": "DENY"} if request.path.startswith("/airflow/framed") else {}
    return Response(body, headers={"content-type": "application/json", **framed})


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    with http_server(echo, keep_alive=True) as url:
        yield int(url.rpartition(":")[2])


@pytest.fixture(scope="module")
def start(helm: Helm, echo_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Proxy]]:
    """Start nginx with the small profile and additional `--set` values."""
    with ExitStack() as started:

        def run(*values: str) -> Proxy:
            sets = [word for value in values for word in ("--set", value)]
            objects = helm.objects("platform", "--values", str(ROOT / "helm/platform/values-small.yaml"), *sets)
            folder = tmp_path_factory.mktemp("proxy")
            return started.enter_context(
                nginx.running(objects, folder, nginx.Upstreams(default=echo_port), free_port())
            )

        yield run


@pytest.fixture(scope="module")
def proxy(start: Callable[..., Proxy]) -> Proxy:
    return start()


@pytest.fixture(scope="module")
def strict(start: Callable[..., Proxy]) -> Proxy:
    """A proxy with very low limits."""
    limits = {"requestsPerSecond": 1, "requestsBurst": 3, "pagesPerSecond": 1, "pagesBurst": 3, "loginsPerMinute": 1}
    limits |= {"loginsBurst": 2, "connections": 2}
    return start(",".join(f"proxy.limits.{key}={value}" for key, value in limits.items()))


def test_a_page_needs_the_proxy_password_which_is_not_forwarded(proxy: Proxy) -> None:
    with proxy.client() as client, ThreadPoolExecutor() as pool:  # each failed login takes a second
        assert set(pool.map(lambda path: client.get(path).status_code, PAGES)) == {401}
    for path in PAGES:
        with proxy.client(auth=LOGIN) as client:
            headers = client.get(path).raise_for_status().json()["headers"]
        part = path.strip("/")
        expected = f"phaseflow:{PASSWORDS[part]}" if part in PASSWORDS else None
        login = headers.get("authorization", "").removeprefix("Basic ")
        assert (base64.b64decode(login).decode() if login else None) == expected, path
        assert headers["host"] == proxy.address.removeprefix("http://"), path
        assert headers["x-forwarded-proto"] == "http", path


def test_every_part_gets_the_forwarded_headers(proxy: Proxy) -> None:
    outside = {"x-forwarded-proto": "https", "host": "ml.example.com", "upgrade": "websocket", "connection": "upgrade"}
    with proxy.client(auth=LOGIN) as client:
        for path in (*PAGES, "/airflow/", "/airflow/auth/login", "/grafana/", "/grafana/login", "/serving/titanic/x"):
            headers = client.get(path, headers=outside).raise_for_status().json()["headers"]
            assert headers["x-forwarded-proto"] == "https", path
            assert headers["x-forwarded-host"] == headers["host"] == "ml.example.com", path
            assert headers["x-forwarded-for"] == "127.0.0.1", path
            assert headers["upgrade"] == "websocket", path
            assert headers["connection"] == "upgrade", path


def test_a_part_gets_one_connection_for_one_request(proxy: Proxy) -> None:
    """Newer versions of nginx keep connections to a part, and with them its choice of a pod."""
    with proxy.client(auth=LOGIN) as client:
        for path in (*PAGES, "/airflow/", "/serving/titanic/x"):
            assert client.get(path).raise_for_status().json()["headers"]["connection"] == "close", path


def test_airflow_and_the_services_get_the_clients_token_but_not_the_proxy_password(proxy: Proxy) -> None:
    for path in ("/airflow/api/v2/version", "/airflow/auth/token", "/serving/titanic/feedback"):
        with proxy.client(headers={"authorization": "Bearer token"}) as client:
            response = client.post(path, json={}).raise_for_status().json()
        assert response["headers"]["authorization"] == "Bearer token", path
        with proxy.client(auth=LOGIN) as client:
            response = client.post(path, json={}).raise_for_status().json()
        assert "authorization" not in response["headers"], path


@pytest.mark.parametrize("path", PAGES)
def test_requests_from_another_site_are_rejected(proxy: Proxy, path: str) -> None:
    own = proxy.address
    attempts = {
        ("POST", "http://evil.com", "cross-site"): 403,
        ("GET", "http://evil.com", "cross-site"): 403,
        ("POST", "null", "cross-site"): 403,
        ("POST", f"{own}.evil.com", "same-site"): 403,
        ("POST", f"http://evil.com|{own.removeprefix('http://')}", None): 403,
        ("DELETE", None, "cross-site"): 403,
        # A link on another site, and requests of the page itself.
        ("GET", None, "cross-site"): 200,
        ("GET", own, "same-origin"): 200,
        ("POST", own, "same-origin"): 405 if path == "/pipelines/" else 200,
        ("POST", None, None): 405 if path == "/pipelines/" else 200,
    }
    with proxy.client(auth=LOGIN) as client:
        for (method, origin, site), expected in attempts.items():
            headers = {key: value for key, value in (("origin", origin), ("sec-fetch-site", site)) if value}
            assert client.request(method, path, headers=headers).status_code == expected, (method, origin, site)
        refused = client.post(path, headers={"origin": "http://evil.com"})
    assert refused.json()["error"]["problem"] == "A page of another site sent this request"


def test_no_client_can_start_runs_through_the_proxy(proxy: Proxy) -> None:
    with proxy.client(auth=LOGIN) as client:
        assert client.get("/pipelines/apis/v2beta1/runs").status_code == 200
        assert client.head("/pipelines/apis/v2beta1/runs").status_code == 200
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert client.request(method, "/pipelines/apis/v2beta1/runs").status_code == 405, method


@pytest.mark.parametrize(
    "path",
    [
        "/serving/metrics",
        "/serving/titanic/metrics",
        "/serving/titanic/metrics/",
        "/serving/titanic%2fmetrics",
        "/serving//titanic//metrics",
        "/serving/titanic/../metrics",
        "/serving/house_prices/%6detrics",
        "/serving/healthz",
        "/serving/titanic/readyz",
    ],
)
def test_the_services_metrics_and_health_are_not_public(proxy: Proxy, path: str) -> None:
    with proxy.client() as client:
        assert client.get(httpx.URL(proxy.address + path)).status_code == 404


def test_the_services_are_public(proxy: Proxy) -> None:
    with proxy.client() as client:
        for path, inside in {
            "/serving/titanic/model": "/titanic/model",
            "/serving/titanic/docs": "/docs",
            "/serving/v2/models/titanic": "/v2/models/titanic",
        }.items():
            assert client.get(path).raise_for_status().json()["path"] == inside


def test_too_many_requests_get_status_429(strict: Proxy) -> None:
    with strict.client() as client:
        responses = [client.get("/serving/titanic/model") for _ in range(8)]
    assert [response.status_code for response in responses[:4]] == [200] * 4
    rejections = [response for response in responses if response.status_code == 429]
    assert rejections
    assert rejections[0].headers["retry-after"] == "1"
    assert rejections[0].json()["error"]["problem"] == "Too many requests from this address"


def test_failed_logins_are_slow_and_limited(strict: Proxy) -> None:
    with strict.client(auth=("admin", "wrong")) as client:
        begin = time.monotonic()
        assert client.get("/prometheus/").status_code == 401
        assert time.monotonic() - begin >= 1
    with strict.client() as client:
        logins = [client.post("/airflow/auth/token", json={}).status_code for _ in range(4)]
        # The login page itself does not count as a login.
        pages = {client.get("/airflow/auth/login").status_code for _ in range(6)}
    assert logins == [200, 200, 200, 429]
    assert pages == {200}


def test_connections_per_address_are_limited(strict: Proxy) -> None:
    host, port = strict.address.removeprefix("http://").split(":")
    connections = [socket.create_connection((host, int(port))) for _ in range(2)]
    for connection in connections:  # incomplete requests: the bodies are missing
        connection.sendall(b"POST /airflow/x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
    with strict.client() as client:
        end = time.monotonic() + 10
        while (status := client.get("/airflow/x").status_code) != 429:
            assert status == 200
            assert time.monotonic() < end, "a third connection is accepted"
    for connection in connections:
        connection.close()


def test_tls_at_an_outer_proxy_enables_strict_transport_security(proxy: Proxy) -> None:
    with proxy.client() as client:
        plain = client.get("/serving/titanic/model")
        behind = client.get("/serving/titanic/model", headers={"x-forwarded-proto": "https"})
    assert "strict-transport-security" not in plain.headers
    assert behind.headers["strict-transport-security"] == "max-age=31536000"
    assert behind.json()["headers"]["x-forwarded-proto"] == "https"


def test_the_proxy_terminates_tls(start: Callable[..., Proxy]) -> None:
    proxy = start("proxy.tlsSecret=tls,proxy.allowPlainHTTP=false")
    with proxy.client(verify=False) as client:
        response = client.get("/serving/titanic/model")
    assert response.headers["strict-transport-security"] == "max-age=31536000"
    assert response.json()["headers"]["x-forwarded-proto"] == "https"


def test_plain_http_at_the_tls_port_is_redirected(start: Callable[..., Proxy]) -> None:
    proxy = start("proxy.tlsSecret=tls,proxy.allowPlainHTTP=false")
    plain = proxy.address.replace("https:", "http:")
    response = httpx.get(f"{plain}/airflow/home?a=1", trust_env=False)
    assert response.status_code == 301
    assert response.headers["location"] == f"{proxy.address}/airflow/home?a=1"


def test_a_load_balancer_needs_no_password_for_health(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert client.get("/proxy/healthz").status_code == 200


def test_responses_get_the_missing_security_headers(proxy: Proxy) -> None:
    with proxy.client() as client:
        response = client.get("/airflow/plain")
        framed = client.get("/airflow/framed")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "same-origin"
    assert response.headers["content-security-policy"] == "frame-ancestors 'self'"
    assert "content-security-policy" not in framed.headers
    assert framed.headers.get_list("x-frame-options") == ["DENY"]


def test_large_headers_are_rejected(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert client.get("/serving/titanic/model", headers={"x-large": "x" * 70_000}).status_code == 400
        assert client.get("/serving/titanic/model", headers={"x-large": "x" * 15_000}).status_code == 200


def test_limits_apply_to_the_client_that_a_trusted_proxy_names(start: Callable[..., Proxy]) -> None:
    sets = "proxy.limits.requestsPerSecond=1,proxy.limits.requestsBurst=1"
    trusting, other = start(sets, "proxy.trustedProxies={127.0.0.1}"), start(sets)
    for proxy, expected in ((trusting, 0), (other, 4)):
        with proxy.client() as client:
            responses = [
                client.get("/serving/titanic/model", headers={"x-forwarded-for": f"192.0.2.{number}"})
                for number in range(6)
            ]
        assert sum(response.status_code == 429 for response in responses) >= expected, expected
        assert expected or {response.status_code for response in responses} == {200}


def test_a_thousand_slow_clients_do_not_block_others(proxy: Proxy) -> None:
    host, port = proxy.address.removeprefix("http://").split(":")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    slow = [socket.create_connection((host, int(port))) for _ in range(1100)]
    for connection in slow:
        connection.sendall(b"GET /serving/titanic/model HTTP/1.1\r\nhost: x\r\n")
    # Each of these requests gets a connection, whatever nginx does with slow ones that it has not read from yet.
    try:
        statuses = {httpx.get(f"{proxy.address}/serving/titanic/model", trust_env=False).status_code for _ in range(5)}
        still_open = [connection for connection in slow if not closed(connection)]
    finally:
        for connection in slow:
            connection.close()
    assert statuses == {200}
    assert len(still_open) == len(slow), "nginx has closed slow connections to free capacity"


def closed(connection: socket.socket) -> bool:
    """Whether the peer has closed the connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_slow_clients_time_out(helm: Helm) -> None:
    text = nginx.configuration(helm.objects("platform"))
    for directive in ("client_header_timeout 10s;", "client_body_timeout 15s;", "send_timeout 30s;"):
        assert directive in text
