"""How a registry is asked: its address out of an image's name, and the way past a registry that wants a token from anyone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from helm import digests
from phaseflow.errors import PlatformError

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
def test_a_name_s_registry(name: str, registry: str, path: str) -> None:
    assert digests.address(name) == (registry, path)


class Guarded(BaseHTTPRequestHandler):
    """A registry that gives anyone a token, as Docker Hub, GHCR and Quay do; `silent` has no digest, `private` no token."""

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") != "Bearer for-anyone":
            self.send_response(401)
            host = f"http://{self.headers['Host']}"
            scope = f"repository:{self.path.split('/')[2]}:pull"
            self.send_header("WWW-Authenticate", f'Bearer realm="{host}/token",service="here",scope="{scope}"')
        else:
            self.send_response(200)
            if "silent" not in self.path:
                self.send_header("Docker-Content-Digest", DIGEST)
            self.server.asked.append(self.headers["Accept"])  # type: ignore[attr-defined]
        self.end_headers()

    def do_GET(self) -> None:
        given = "private" not in self.path and "service=here" in self.path
        content = b'{"token": "for-anyone"}' if given else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def guarded() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server: ThreadingHTTPServer, image: str) -> str:
    with httpx.Client() as client:
        return digests.resolve(f"127.0.0.1:{server.server_port}/{image}", "1", client)


def test_a_token_is_asked_for_as_the_registry_says(guarded: ThreadingHTTPServer) -> None:
    assert ask(guarded, "open") == DIGEST
    (accepted,) = guarded.asked  # type: ignore[attr-defined]
    assert accepted.startswith("application/vnd.oci.image.index.v1+json, ")


def test_an_image_that_wants_a_login_is_said(guarded: ThreadingHTTPServer) -> None:
    with pytest.raises(PlatformError) as error:
        ask(guarded, "private")
    address = f"127.0.0.1:{guarded.server_port}"
    assert str(error.value) == (
        f"http://{address} answers 401 for {address}/private:1. Correct name and tag in the chart's values."
    )


def test_an_answer_without_a_digest_is_said(guarded: ThreadingHTTPServer) -> None:
    with pytest.raises(PlatformError, match=r"gives no digest for .*/silent:1, but ''\. Ask another registry\."):
        ask(guarded, "silent")


@pytest.mark.parametrize("before", ["", f"@sha256:{'0' * 64}"])
def test_the_base_s_digest_is_written_behind_its_tag(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def resolve(name: str, tag: str, client: httpx.Client) -> str:
        asked.append((name, tag))
        return DIGEST

    monkeypatch.setattr(digests, "resolve", resolve)
    text = 'variable "TAG" {{ default = "dev" }}\nvariable "BASE" {{ default = "python:3.11-slim{}" }}\ngroup "default" {{}}\n'
    with httpx.Client() as client:
        assert digests.pinned(text.format(before), client) == text.format(f"@{DIGEST}")
        assert asked == [("python", "3.11-slim")]
        with pytest.raises(PlatformError, match="The bake file names no base image"):
            digests.pinned("", client)
