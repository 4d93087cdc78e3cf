"""Who may request the portal's pages, and that no request makes it fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from phaseflow.settings import Settings
from services.portal.tests.conftest import settings_for

Browse = Callable[[Settings], TestClient]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8090"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "10.1.2.3"}, 200),
        ({"Host": "foreign.example"}, 403),
        ({"Host": "127.0.0.1:8090", "Origin": "http://127.0.0.1:8090"}, 200),
        ({"Host": "127.0.0.1:8090", "Origin": "http://foreign.example"}, 403),
        ({"Host": "127.0.0.1:8090", "Origin": "null"}, 403),
    ],
)
def test_only_known_hosts_and_origins_are_allowed(
    away: Settings, browse: Browse, headers: dict[str, str], status: int
) -> None:
    for path in ("/healthz", "/static/portal.css"):
        assert browse(away).get(path, headers=headers).status_code == status


@pytest.mark.parametrize("path", ["/", "/projects/titanic", "/api/status", "/healthz", "/static/portal.css"])
def test_it_only_reads(away: Settings, browse: Browse, path: str) -> None:
    client = browse(away)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client.request(method, path).status_code == 405
        assert client.request(method, path, content=b"a=1", headers={"content-type": "text/plain"}).status_code == 415


def test_a_wrong_password_is_reported_with_the_fix(prometheus: str, tmp_path: Path, browse: Browse) -> None:
    settings = settings_for(tmp_path, prometheus=prometheus)
    (settings.secrets / "prometheus_password").write_text("wrong")
    client = browse(settings)
    status = client.get("/api/status").json()
    part = next(part for part in status["parts"] if part["name"] == "prometheus")
    assert (part["state"], part["detail"]) == ("degraded", "rejects the portal's password")
    assert [line for line in status["away"] if "Give the portal the secret prometheus_password" in line]


def test_the_link_shows_where_the_password_is_but_not_the_password(measured: Settings, browse: Browse) -> None:
    page = browse(measured).get("/").text
    assert f"user <code>phaseflow</code>, password in <code>{measured.secrets}/prometheus_password</code>" in page
    assert measured.secret("prometheus_password") not in page


def test_where_there_is_one_login_the_reverse_proxy_names_who_asks(tmp_path: Path, browse: Browse) -> None:
    settings = settings_for(tmp_path)
    (settings.secrets / "identity_secret").write_text("secret")
    client = browse(settings)
    identified = {"x-phaseflow-identity": "secret", "x-phaseflow-user": "<b>vera</b>", "x-phaseflow-role": "viewer"}
    for path in ("/", "/api/status", "/projects/titanic", "/static/portal.css"):
        assert client.get(path, headers=identified).status_code == 200, path
        for wrong in ({}, {"x-phaseflow-identity": "guess"}, {"x-phaseflow-role": "none"}, {"x-phaseflow-user": ""}):
            refused = client.get(path, headers=identified | wrong if wrong else {})
            assert refused.status_code == 403, (path, wrong)
            assert refused.json()["error"]["problem"] == "The portal does not know who asks"
    assert client.get("/healthz").status_code == 200
    page = client.get("/", headers=identified).text
    assert "&lt;b&gt;vera&lt;/b&gt;, viewer" in page
    assert 'href="/logout"' in page


def test_without_one_login_no_header_counts(away: Settings, browse: Browse) -> None:
    page = browse(away).get("/", headers={"x-phaseflow-user": "vera", "x-phaseflow-role": "admin"}).text
    assert "vera" not in page
    assert "/logout" not in page


SEGMENTS = st.one_of(
    st.sampled_from(
        [
            b"",
            b"..",
            b".",
            b"\0",
            b"%",
            b"~",
            b"projects",
            b"dashboards",
            b"static",
            b"api",
            b"status",
            b"readme",
            b"titanic",
        ]
    ),
    st.binary(max_size=40),
    st.integers(200, 5000).map(lambda count: b"x" * count),
)
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda segments: "/" + "/".join(map(quote_from_bytes, segments)))


def test_no_path_or_query_makes_it_fail(away: Settings, browse: Browse) -> None:
    client = browse(away)

    @given(path=PATHS, query=st.binary(max_size=60).map(quote_from_bytes))
    @example(path="/static/%00", query="")
    @example(path="/static/" + "x" * 5000, query="")
    @example(path="/static/..%2f..%2fapp.py", query="")
    @example(path="/dashboards/%00", query="var-project=%ff")
    @example(path="/projects/%ED%A0%80/readme", query="")
    @settings(max_examples=150, deadline=None)
    def ask(path: str, query: str) -> None:
        raw = f"{path}?var-project={query}&var-{query}={query}".encode()
        url = httpx.URL("http://127.0.0.1").copy_with(raw_path=raw)
        assert client.get(url, follow_redirects=False).status_code < 500

    ask()
