"""Access control by hosts, origins, tokens and content types, tested on the middleware itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phaseflow import access
from phaseflow.settings import from_environment

TOKEN = "a-token-of-enough-characters"


async def _application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(scope.get(access.CLIENT)).encode()})


RULES = access.Policy(
    hosts=frozenset({"localhost", "phaseflow-monitor", ".svc"}),
    origins=frozenset({"https://phaseflow.example.com"}),
    protected=lambda method, path: method == "POST" and path.startswith("/runs"),
    tokens=lambda: {"engine": TOKEN},
    credential="the secret engine_token",
)


def request(method: str = "GET", path: str = "/", **headers: str) -> tuple[int, str]:
    """Send a request and return status and body. Underscores in header names become hyphens."""
    messages: list[Any] = []
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw}

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(access.guarded(_application, RULES)(scope, receive, send))
    return messages[0]["status"], messages[1]["body"].decode()


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8888",
        "127.0.0.1:1",
        "10.1.2.3",
        "[::1]:8888",
        "phaseflow-monitor:8085",
        "a.b.svc",
        "localhost.",
    ],
)
def test_allowed_names_and_addresses_are_accepted(host: str) -> None:
    assert request(host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evilsvc",
        "127.0.0.1.evil.example",
        "",
        "user@localhost",
        "localhost:x",
        "[::1",
        "a b",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    status, body = request(host=host)
    assert status == 403
    assert "PHASEFLOW_ALLOWED_HOSTS" in body


def test_a_missing_host_is_refused() -> None:
    assert request()[0] == 403


@pytest.mark.parametrize("origin", ["http://localhost:8888", "https://phaseflow.example.com", "https://localhost:8888"])
def test_own_origins_are_accepted(origin: str) -> None:
    assert request(host="localhost:8888", origin=origin)[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:9999", "http://localhost", "file://", "localhost:8888", ""],
)
def test_foreign_origins_are_refused(origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert request(method, host="localhost:8888", origin=origin)[0] == 403


def test_a_cross_site_request_that_changes_something_is_refused() -> None:
    assert request("POST", host="localhost", sec_fetch_site="cross-site")[0] == 403
    assert request("GET", host="localhost", sec_fetch_site="cross-site")[0] == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \xff",
    ],
)
def test_a_protected_route_wants_its_token(authorization: str) -> None:
    headers = {"authorization": authorization} if authorization else {}
    status, body = request("POST", "/runs", host="localhost", **headers)
    assert status == 401
    assert "the secret engine_token" in body


def test_the_token_identifies_the_client() -> None:
    for scheme in ("Bearer", "bearer"):
        assert request("POST", "/runs", host="localhost", authorization=f"{scheme} {TOKEN}") == (200, "engine")
    assert request("GET", "/runs", host="localhost") == (200, "None")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonp"]
)
def test_a_body_of_another_content_type_is_refused(kind: str) -> None:
    status, body = request("POST", host="localhost", content_type=kind, content_length="2")
    assert status == 415
    assert "application/json" in body
    assert request("POST", host="localhost", content_type=kind, transfer_encoding="chunked")[0] == 415


def test_json_and_an_empty_body_are_accepted() -> None:
    assert (
        request("POST", host="localhost", content_type="Application/JSON; charset=utf-8", content_length="2")[0] == 200
    )
    assert request("POST", host="localhost", content_length="0")[0] == 200


def test_a_duplicate_header_is_refused() -> None:
    for name, value, status in (
        ("host", "localhost", 403),
        ("origin", "http://localhost", 403),
        ("content-type", "application/json", 415),
    ):
        headers = [(b"host", b"localhost"), (b"content-length", b"2"), (b"content-type", b"application/json")]
        if name == "origin":
            headers.append((b"origin", b"http://localhost"))
        headers.append((name.encode(), value.encode()))
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        refusal = access.check_request(scope, RULES, access._Hosts(RULES.hosts))
        assert refusal is not None
        assert refusal.status == status


@given(st.text(st.characters(max_codepoint=255), max_size=200), st.text(st.characters(max_codepoint=255), max_size=50))
def test_no_header_causes_an_exception(host: str, origin: str) -> None:
    assert request(host=host, origin=origin)[0] in {200, 403}


def test_hosts_and_origins_come_from_the_settings() -> None:
    settings = from_environment(
        {
            "PHASEFLOW_MONITOR_URL": "http://phaseflow-monitor:8085",
            "PHASEFLOW_SERVING_URL": "http://phaseflow-serving-{project}:3000",
            "PHASEFLOW_PUBLIC_URL": "https://ML.example.com/x",
            "PHASEFLOW_ALLOWED_HOSTS": ".svc, Other.example.com",
            "PHASEFLOW_ALLOWED_ORIGINS": "https://app.example.com/",
        }
    )
    hosts = access.known_hosts(settings)
    assert {
        "localhost",
        "127.0.0.1",
        "phaseflow-monitor",
        "phaseflow-serving-titanic",
        "ml.example.com",
        ".svc",
        "other.example.com",
    } <= hosts
    assert access.known_origins(settings) == {"https://ml.example.com", "https://app.example.com"}


def test_named_tokens() -> None:
    assert access.named_tokens(f"# clients\n\nshop {TOKEN}\n") == {"shop": TOKEN}
    for text in ("shop", "shop short", f"a b {TOKEN}", f"shop {TOKEN}\nshop {TOKEN}2"):
        with pytest.raises(ValueError, match="is not `name token`"):
            access.named_tokens(text)
    assert access.holder_of({"headers": [(b"authorization", b"Bearer " + TOKEN.encode())]}, {"shop": TOKEN}) == "shop"
