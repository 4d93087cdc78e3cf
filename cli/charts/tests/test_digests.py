"""Tests of digest resolution: addresses of registries, and token authentication."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from cli.charts import digests
from phaseflow.errors import PlatformError
from phaseflow.testing import Request, Response, http_server

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("name", "registry", "path"),
    [
        ("postgres", "https://registry-1.docker.io", "library/postgres"),
        ("prom/prometheus", "https://registry-1.docker.io", "prom/prometheus"),
        ("ghcr.io/kubeflow/kfp-driver", "https://ghcr.io", "kubeflow/kfp-driver"),
        ("registry.example.com:5000/a/b/c", "https://registry.example.com:5000", "a/b/c"),
        ("localhost:5000/a", "http://localhost:5000", "a"),
        ("127.0.0.1:5000/a", "http://127.0.0.1:5000", "a"),
    ],
)
def test_the_registry_of_an_image_name(name: str, registry: str, path: str) -> None:
    assert digests.address(name) == (registry, path)


class Guarded:
    """A registry with anonymous tokens, like Docker Hub. The image `silent` has no digest, `private` gets no token."""

    def __init__(self) -> None:
        self.url = ""
        self.accept_headers: list[str] = []

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    def respond(self, request: Request) -> Response:
        if request.method == "GET":
            allowed = "private" not in request.path and "service=here" in request.path
            return Response({"token": "for-anyone"} if allowed else {})
        if request.headers.get("authorization") != "Bearer for-anyone":
            scope = f"repository:{request.path.split('/')[2]}:pull"
            challenge = f'Bearer realm="{self.url}/token",service="here",scope="{scope}"'
            return Response(status=401, headers={"WWW-Authenticate": challenge})
        self.accept_headers.append(request.headers["accept"])
        return Response(headers={} if "silent" in request.path else {"Docker-Content-Digest": DIGEST})


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    server = Guarded()
    with http_server(server.respond) as server.url:
        yield server


def resolve_image(server: Guarded, image: str) -> str:
    with httpx.Client() as client:
        return digests.resolve(f"{server.address}/{image}", "1", client)


def test_a_challenge_is_followed_by_a_token_request(guarded: Guarded) -> None:
    assert resolve_image(guarded, "open") == DIGEST
    (accepted,) = guarded.accept_headers
    assert accepted.startswith("application/vnd.oci.image.index.v1+json, ")


def test_an_image_that_requires_a_login_is_an_error(guarded: Guarded) -> None:
    with pytest.raises(PlatformError) as error:
        resolve_image(guarded, "private")
    address = guarded.address
    assert str(error.value) == (
        f"http://{address} answers 401 for {address}/private:1. Correct name and tag in the chart's values."
    )


def test_a_response_without_a_digest_is_an_error(guarded: Guarded) -> None:
    with pytest.raises(PlatformError, match=r"returned no valid digest for .*/silent:1: ''\. Use another registry\."):
        resolve_image(guarded, "silent")


@pytest.mark.parametrize("before", ["", f"@sha256:{'0' * 64}"])
def test_the_digest_of_the_base_image_follows_its_tag(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[str, str]] = []

    def resolve(name: str, tag: str, client: httpx.Client) -> str:
        requests.append((name, tag))
        return DIGEST

    monkeypatch.setattr(digests, "resolve", resolve)
    text = 'variable "TAG" {{ default = "dev" }}\nvariable "BASE" {{ default = "python:3.11-slim{}" }}\ngroup "default" {{}}\n'
    with httpx.Client() as client:
        assert digests.pinned(text.format(before), client) == text.format(f"@{DIGEST}")
        assert requests == [("python", "3.11-slim")]
        with pytest.raises(PlatformError, match="The bake file names no base image"):
            digests.pinned("", client)
