"""The access rules: hosts, origins, content types, and the tokens of clients that send labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from phaseflow import discovery
from services.serving.tests.conftest import until

EXAMPLE = dict(discovery.get("titanic").example)
LABELS = {"labels": [{"id": "a", "label": "1"}]}
TOKEN = "a-token-of-ann-0123456789"  # valid only for services of these tests


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:3000", "[::1]:80", "10.1.2.3:3000"])
def test_known_hosts_and_addresses_get_in(serving: Any, host: str) -> None:
    response = httpx.post(f"{serving.url}/titanic/predict", json=EXAMPLE, headers={"host": host})
    assert response.status_code == 200
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/titanic/predict", "/titanic/feedback", "/v2/models/titanic/infer", "/predict", "/"])
def test_strangers_get_in_nowhere(serving: Any, path: str) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        response = httpx.post(f"{serving.url}{path}", json=EXAMPLE, headers=headers)
        assert response.status_code == 403, headers
        assert response.headers["x-content-type-options"] == "nosniff"
        error = response.json()["error"]
        assert isinstance(error, str if path.startswith("/v2/") else dict)
    assert httpx.get(f"{serving.url}/metrics", headers={"host": "evil.example"}).status_code == 403
    assert httpx.get(f"{serving.url}/metrics", headers={"origin": "null"}).status_code == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
@pytest.mark.parametrize(
    "path",
    [
        "/titanic/predict",
        "/titanic/feedback",
        "/from_scratch/feedback",
        "/v2/models/from_scratch/infer",
        "/predict",
        "/x/predict",
    ],
)
def test_where_json_is_expected_nothing_else_is_taken(serving: Any, path: str, kind: str) -> None:
    response = httpx.post(f"{serving.url}{path}", content=b"{}", headers={"content-type": kind} if kind else {})
    assert response.status_code == 415
    assert "Send JSON. With curl: `-H 'content-type: application/json'`." in response.text


def test_every_page_keeps_its_content_type(serving: Any) -> None:
    for path in (
        "/healthz",
        "/readyz",
        "/metrics",
        "/projects",
        "/docs",
        "/openapi.json",
        "/v2",
        "/",
        "/nothing",
        "/docs.json",
    ):
        assert serving.get(path).headers.get_list("x-content-type-options") == ["nosniff"], path


@pytest.fixture
def tokens(serving: Any) -> Iterator[Any]:
    """The file of feedback tokens of the session's service, which does not require a token."""
    (serving.home / "secrets").mkdir(exist_ok=True)
    file = serving.home / "secrets" / "feedback_tokens"
    file.write_text(f"# clients\nann {TOKEN}\n")
    yield file
    file.unlink()


def send_label(service: Any, authorization: str | None) -> httpx.Response:
    headers = {} if authorization is None else {"authorization": authorization}
    return httpx.post(f"{service.url}/titanic/feedback", json=LABELS, headers=headers)


def clients(service: Any) -> set[str]:
    return set(service.logged("feedback")["client"]) if service.logged("feedback").height else set()


def test_a_token_names_the_client_and_a_wrong_one_is_refused(serving: Any, tokens: Any) -> None:
    assert send_label(serving, None).status_code == 200
    assert send_label(serving, "Basic YWRtaW46eA==").status_code == 200  # sent by a browser for another service
    assert send_label(serving, f"Bearer {TOKEN}").status_code == 200
    refused = send_label(serving, "Bearer wrong")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.json() == {
        "error": {
            "field": "",
            "problem": "The token is missing or wrong",
            "fix": "Send `Authorization: Bearer` with a token of the secret feedback_tokens.",
        }
    }
    until(lambda: clients(serving) >= {"", "ann"})
    tokens.write_text("ann short\n")
    broken = send_label(serving, f"Bearer {TOKEN}")
    assert broken.status_code == 503
    assert "line 1 is not `name token`" in broken.json()["error"]["problem"]
    assert "short" not in broken.text


def test_where_tokens_are_asked_for_nobody_tells_a_label_without(serve: Any) -> None:
    service = serve(environment={"PHASEFLOW_FEEDBACK_TOKENS": "1"}).start()
    until(lambda: service.version() == "1")
    assert send_label(service, f"Bearer {TOKEN}").status_code == 401  # there are no tokens yet
    (service.home / "secrets").mkdir()
    (service.home / "secrets" / "feedback_tokens").write_text(f"ann {TOKEN}\n")
    for wrong in (None, "Bearer wrong", TOKEN, f"Basic {TOKEN}"):
        assert send_label(service, wrong).status_code == 401
    assert service.predict().status_code == 200  # predict needs no token
    assert send_label(service, f"Bearer {TOKEN}").status_code == 200
    until(lambda: clients(service) == {"ann"})
    assert service.metric("phaseflow_feedback_total", project="titanic") == 1
