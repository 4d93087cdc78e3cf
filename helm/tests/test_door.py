"""The front door's configuration, run by a real nginx on the loopback before a server that answers with what it was sent."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from helm.tests.rendering import Helm, Object, name, of_kind
from phaseflow.settings import ROOT

PASSWORDS = {"prometheus": "prometheus-password", "alertmanager": "alertmanager-password"}
LOGIN = ("admin", "door-password")
PAGES = ("/", "/mlflow/", "/prometheus/", "/alertmanager/", "/monitor/", "/pipelines/")
"""One page of each part behind the door's own login."""


class Mirror(BaseHTTPRequestHandler):
    """Answers with the request's method, path and headers."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps(
            {"method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if self.path.startswith("/airflow/framed"):
            self.send_header("x-frame-options", "DENY")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(Mirror, f"do_{method}", Mirror.answer)


@dataclass(frozen=True, slots=True)
class Door:
    """A running nginx."""

    address: str
    log: Path

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=30, trust_env=False, **options)  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def deployment(objects: tuple[Object, ...]) -> Object:
    return next(it for it in of_kind(objects, "Deployment") if it["metadata"]["name"] == "p-door")


def configuration(objects: tuple[Object, ...], file: str = "default.conf") -> str:
    text: str = next(it["data"][file] for it in objects if name(it) == "ConfigMap p-door")
    return text


@pytest.fixture(scope="module")
def mirror() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()


@pytest.fixture(scope="module")
def start(helm: Helm, mirror: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Door]]:
    """Runs nginx with what `--set` adds to the small profile."""
    assert shutil.which("nginx"), "No nginx is on the PATH. Install it: `apt install nginx-light`."
    started: list[subprocess.Popen[bytes]] = []

    def run(*values: str) -> Door:
        folder = tmp_path_factory.mktemp("door")
        sets = [word for value in values for word in ("--set", value)]
        objects = helm.objects("platform", "--values", str(ROOT / "helm/platform/values-small.yaml"), *sets)
        for part, password in PASSWORDS.items():
            (folder / "logins").mkdir(exist_ok=True)
            (folder / "logins" / f"{part}_password").write_text(password)
        (folder / "htpasswd").write_text(":{PLAIN}".join(LOGIN))
        port = free_port()
        text = configuration(objects)
        text = re.sub(r"http://(p-|ml-pipeline-ui)[\w-]*:\d+", f"http://127.0.0.1:{mirror}", text)
        text = re.sub(r"server p-serving-[\w-]+:3000", f"server 127.0.0.1:{mirror}", text)
        text = text.replace("listen 8080", f"listen 127.0.0.1:{port}")
        for inside, here in {
            "/etc/phaseflow/door/": f"{folder}/",
            "/etc/phaseflow/tls/": f"{folder}/",
            "/tmp/logins/": f"{folder}/tmp/logins/",
        }.items():
            text = text.replace(inside, here)
        # What the pod's first container does, in this folder.
        (logins,) = deployment(objects)["spec"]["template"]["spec"]["initContainers"]
        script = logins["args"][0].replace("/etc/phaseflow/logins", f"{folder}/logins")
        script = script.replace("/tmp/logins", f"{folder}/tmp/logins")
        subprocess.run([*logins["command"], script], check=True)
        (folder / "conf.d").mkdir()
        (folder / "conf.d" / "default.conf").write_text(text)
        whole = configuration(objects, "nginx.conf")
        whole = whole.replace("/tmp/", f"{folder}/").replace("/etc/nginx/conf.d", f"{folder}/conf.d")
        if os.geteuid() == 0:  # the tests' folders are their user's alone
            whole = f"user root;\n{whole}"
        whole = whole.replace("worker_processes auto", "worker_processes 1")
        whole = whole.replace("error_log /dev/stderr", f"error_log {folder}/error.log")
        (folder / "nginx.conf").write_text(whole)
        if "listen" in text and " ssl;" in text:
            certificate(folder)
        command = ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"), "-g", "daemon off;"]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        process = subprocess.Popen(command)
        started.append(process)
        door = Door(f"http{'s' if ' ssl;' in text else ''}://127.0.0.1:{port}", folder / "error.log")
        listening(port)
        return door

    yield run
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=20)


def listening(port: int, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < end, "nginx does not listen"
            threading.Event().wait(0.02)
        else:
            return


def certificate(folder: Path) -> None:
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", "/CN=localhost", "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def door(start: Callable[..., Door]) -> Door:
    return start()


@pytest.fixture(scope="module")
def strict(start: Callable[..., Door]) -> Door:
    """A door whose limits are reached at once."""
    limits = {"requestsPerSecond": 1, "requestsBurst": 3, "pagesPerSecond": 1, "pagesBurst": 3, "loginsPerMinute": 1}
    limits |= {"loginsBurst": 2, "connections": 2}
    return start(",".join(f"door.limits.{key}={value}" for key, value in limits.items()))


def test_a_page_asks_for_the_doors_password_and_passes_it_on_to_nobody(door: Door) -> None:
    with door.client() as client, ThreadPoolExecutor() as pool:  # each refusal takes a second
        assert set(pool.map(lambda path: client.get(path).status_code, PAGES)) == {401}
    for path in PAGES:
        with door.client(auth=LOGIN) as client:
            headers = client.get(path).raise_for_status().json()["headers"]
        part = path.strip("/")
        expected = f"phaseflow:{PASSWORDS[part]}" if part in PASSWORDS else None
        login = headers.get("authorization", "").removeprefix("Basic ")
        assert (base64.b64decode(login).decode() if login else None) == expected, path
        assert headers["host"] == door.address.removeprefix("http://"), path
        assert headers["x-forwarded-proto"] == "http", path


def test_airflow_and_the_services_get_the_clients_token_and_never_the_doors_password(door: Door) -> None:
    for path in ("/airflow/api/v2/version", "/airflow/auth/token", "/serving/titanic/feedback"):
        with door.client(headers={"authorization": "Bearer token"}) as client:
            answer = client.post(path, json={}).raise_for_status().json()
        assert answer["headers"]["authorization"] == "Bearer token", path
        with door.client(auth=LOGIN) as client:
            answer = client.post(path, json={}).raise_for_status().json()
        assert "authorization" not in answer["headers"], path


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_another_site_can_use_no_page_by_the_browsers_login(door: Door, path: str) -> None:
    own = door.address
    attempts = {
        ("POST", "http://evil.com", "cross-site"): 403,
        ("GET", "http://evil.com", "cross-site"): 403,
        ("POST", "null", "cross-site"): 403,
        ("POST", f"{own}.evil.com", "same-site"): 403,
        ("POST", f"http://evil.com|{own.removeprefix('http://')}", None): 403,
        ("DELETE", None, "cross-site"): 403,
        # A link on another page, and the page's own requests.
        ("GET", None, "cross-site"): 200,
        ("GET", own, "same-origin"): 200,
        ("POST", own, "same-origin"): 405 if path == "/pipelines/" else 200,
        ("POST", None, None): 405 if path == "/pipelines/" else 200,
    }
    with door.client(auth=LOGIN) as client:
        for (method, origin, site), expected in attempts.items():
            headers = {key: value for key, value in (("origin", origin), ("sec-fetch-site", site)) if value}
            assert client.request(method, path, headers=headers).status_code == expected, (method, origin, site)
        refused = client.post(path, headers={"origin": "http://evil.com"})
    assert refused.json()["error"]["problem"] == "A page of another site sent this request"


def test_runs_are_started_by_nobody_through_the_door(door: Door) -> None:
    with door.client(auth=LOGIN) as client:
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
def test_the_services_metrics_and_health_are_not_public(door: Door, path: str) -> None:
    with door.client() as client:
        assert client.get(httpx.URL(door.address + path)).status_code == 404


def test_the_services_are_public(door: Door) -> None:
    with door.client() as client:
        for path, inside in {
            "/serving/titanic/model": "/titanic/model",
            "/serving/titanic/docs": "/docs",
            "/serving/v2/models/titanic": "/v2/models/titanic",
        }.items():
            assert client.get(path).raise_for_status().json()["path"] == inside


def test_too_many_requests_are_answered_with_429(strict: Door) -> None:
    with strict.client() as client:
        answers = [client.get("/serving/titanic/model") for _ in range(8)]
    assert [answer.status_code for answer in answers[:4]] == [200] * 4
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["error"]["problem"] == "Too many requests from this address"


def test_guesses_of_a_password_are_slow_and_few(strict: Door) -> None:
    with strict.client(auth=("admin", "wrong")) as client:
        begun = time.monotonic()
        assert client.get("/prometheus/").status_code == 401
        assert time.monotonic() - begun >= 1
    with strict.client() as client:
        logins = [client.post("/airflow/auth/token", json={}).status_code for _ in range(4)]
        # Pages of the login are no login.
        pages = {client.get("/airflow/auth/login").status_code for _ in range(6)}
    assert logins == [200, 200, 200, 429]
    assert pages == {200}


def test_an_address_has_so_many_connections(strict: Door) -> None:
    host, port = strict.address.removeprefix("http://").split(":")
    held = [socket.create_connection((host, int(port))) for _ in range(2)]
    for connection in held:  # requests under way: their bodies have not come
        connection.sendall(b"POST /airflow/x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n")
    with strict.client() as client:
        end = time.monotonic() + 10
        while (status := client.get("/airflow/x").status_code) != 429:
            assert status == 200
            assert time.monotonic() < end, "a third connection is answered"
    for connection in held:
        connection.close()


def test_a_browser_that_came_by_tls_stays_there(door: Door) -> None:
    with door.client() as client:
        plain = client.get("/serving/titanic/model")
        behind = client.get("/serving/titanic/model", headers={"x-forwarded-proto": "https"})
    assert "strict-transport-security" not in plain.headers
    assert behind.headers["strict-transport-security"] == "max-age=31536000"
    assert behind.json()["headers"]["x-forwarded-proto"] == "https"


def test_the_door_ends_tls_itself(start: Callable[..., Door]) -> None:
    door = start("door.tlsSecret=tls,door.allowPlainHTTP=false")
    with door.client(verify=False) as client:
        answer = client.get("/serving/titanic/model")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.json()["headers"]["x-forwarded-proto"] == "https"


def test_answers_have_the_headers_that_their_part_does_not_set(door: Door) -> None:
    with door.client() as client:
        answer = client.get("/airflow/plain")
        framed = client.get("/airflow/framed")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"
    assert "content-security-policy" not in framed.headers
    assert framed.headers.get_list("x-frame-options") == ["DENY"]


def test_large_headers_are_refused(door: Door) -> None:
    with door.client() as client:
        assert client.get("/serving/titanic/model", headers={"x-large": "x" * 70_000}).status_code == 400
        assert client.get("/serving/titanic/model", headers={"x-large": "x" * 15_000}).status_code == 200


def test_the_limits_are_for_the_client_that_a_trusted_proxy_names(start: Callable[..., Door]) -> None:
    sets = "door.limits.requestsPerSecond=1,door.limits.requestsBurst=1"
    trusting, other = start(sets, "door.trustedProxies={127.0.0.1}"), start(sets)
    for door, expected in ((trusting, 0), (other, 4)):
        with door.client() as client:
            answers = [
                client.get("/serving/titanic/model", headers={"x-forwarded-for": f"192.0.2.{number}"})
                for number in range(6)
            ]
        assert sum(answer.status_code == 429 for answer in answers) >= expected, expected
        assert expected or {answer.status_code for answer in answers} == {200}


def test_a_thousand_slow_clients_take_no_connection_from_others(door: Door) -> None:
    host, port = door.address.removeprefix("http://").split(":")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    slow = [socket.create_connection((host, int(port))) for _ in range(1100)]
    for connection in slow:
        connection.sendall(b"GET /serving/titanic/model HTTP/1.1\r\nhost: x\r\n")
    # A free connection is found for each of these, whatever nginx does with the slow ones that it has not read from yet.
    try:
        answers = {httpx.get(f"{door.address}/serving/titanic/model", trust_env=False).status_code for _ in range(5)}
        still_open = [connection for connection in slow if not closed(connection)]
    finally:
        for connection in slow:
            connection.close()
    assert answers == {200}
    assert len(still_open) == len(slow), "nginx has given up connections for want of room"


def closed(connection: socket.socket) -> bool:
    """Whether the other side has ended the connection."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_slow_clients_are_given_up(helm: Helm) -> None:
    text = configuration(helm.objects("platform"))
    for directive in ("client_header_timeout 10s;", "client_body_timeout 15s;", "send_timeout 30s;"):
        assert directive in text
