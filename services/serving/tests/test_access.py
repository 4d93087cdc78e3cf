"""Who may send what: hosts, origins, content types, and the tokens of those who tell truths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from phaseflow import registry
from services.serving.tests.conftest import until

EXAMPLE = dict(registry.get("titanic").example)
TRUTHS = {"truths": [{"id": "a", "truth": "1"}]}
TOKEN = "a-token-of-ann-0123456789"  # of a service that ends with the test


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:3000", "[::1]:80", "10.1.2.3:3000"])
def test_known_hosts_and_addresses_get_in(serving: Any, host: str) -> None:
    answer = httpx.post(f"{serving.url}/titanic/predict", json=EXAMPLE, headers={"host": host})
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/titanic/predict", "/titanic/feedback", "/v2/models/titanic/infer", "/predict", "/"])
def test_strangers_get_in_nowhere(serving: Any, path: str) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = httpx.post(f"{serving.url}{path}", json=EXAMPLE, headers=headers)
        assert answer.status_code == 403, headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        error = answer.json()["error"]
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
    answer = httpx.post(f"{serving.url}{path}", content=b"{}", headers={"content-type": kind} if kind else {})
    assert answer.status_code == 415
    assert "Send JSON. With curl: `-H 'content-type: application/json'`." in answer.text


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
    """The secret's file of the session's service, which does not ask for one."""
    (serving.home / "secrets").mkdir(exist_ok=True)
    file = serving.home / "secrets" / "feedback_tokens"
    file.write_text(f"# clients\nann {TOKEN}\n")
    yield file
    file.unlink()


def tell(service: Any, authorization: str | None) -> httpx.Response:
    headers = {} if authorization is None else {"authorization": authorization}
    return httpx.post(f"{service.url}/titanic/feedback", json=TRUTHS, headers=headers)


def clients(service: Any) -> set[str]:
    return set(service.logged("feedback")["client"]) if service.logged("feedback").height else set()


def test_a_token_names_the_client_and_a_wrong_one_is_refused(serving: Any, tokens: Any) -> None:
    assert tell(serving, None).status_code == 200
    assert tell(serving, "Basic YWRtaW46eA==").status_code == 200  # a browser's, for another service
    assert tell(serving, f"Bearer {TOKEN}").status_code == 200
    refused = tell(serving, "Bearer wrong")
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
    broken = tell(serving, f"Bearer {TOKEN}")
    assert broken.status_code == 503
    assert "line 1 is not `name token`" in broken.json()["error"]["problem"]
    assert "short" not in broken.text


def test_where_tokens_are_asked_for_nobody_tells_a_truth_without(serve: Any) -> None:
    service = serve(environment={"PHASEFLOW_FEEDBACK_TOKENS": "1"}).start()
    until(lambda: service.version() == "1")
    assert tell(service, f"Bearer {TOKEN}").status_code == 401  # nobody has one yet
    (service.home / "secrets").mkdir()
    (service.home / "secrets" / "feedback_tokens").write_text(f"ann {TOKEN}\n")
    for wrong in (None, "Bearer wrong", TOKEN, f"Basic {TOKEN}"):
        assert tell(service, wrong).status_code == 401
    assert service.predict().status_code == 200  # which needs none
    assert tell(service, f"Bearer {TOKEN}").status_code == 200
    until(lambda: clients(service) == {"ann"})
    assert service.metric("phaseflow_feedback_total", project="titanic") == 1
