"""HTTP by raw sockets: requests that no client library would send, each with a deadline."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The first response on a connection; `status` is 0 where the server closed it without one."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    seconds: float = 0.0
    """From the connection's start."""
    late: bool = False
    """Whether the deadline passed first."""

    def header(self, name: str) -> str | None:
        """The first value of a header; None where it is absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def request(
    method: str, target: str, headers: Headers, body: bytes = b"", *, version: str = "HTTP/1.1", length: bool = True
) -> bytes:
    """The bytes of a request; nothing in it is checked. `length` adds a Content-Length where there is a body."""
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers)]
    if body and length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def basic(login: tuple[str, str]) -> str:
    """The value of `Authorization` for a user and a password."""
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


def exchange(address: tuple[str, int], sent: bytes, *, method: str = "GET", seconds: float = 10.0) -> Response:
    """Send bytes and read one response. `method` says whether the response has a body (HEAD has none).

    Never raises for what the server does: a refused or reset connection has the status 0.
    """
    begin = time.monotonic()

    def passed() -> float:
        return time.monotonic() - begin

    try:
        opened = socket.create_connection(address, timeout=seconds)
    except OSError:
        return Response(status=0, seconds=passed())
    with opened as connection:
        # The server may answer, and close, before it has read everything.
        with contextlib.suppress(OSError):
            connection.sendall(sent)
        reply = http.client.HTTPResponse(connection, method=method)
        try:
            reply.begin()
            body = reply.read()
        except TimeoutError:
            return Response(status=0, seconds=passed(), late=True)
        except (OSError, http.client.HTTPException):
            return Response(status=0, seconds=passed())
        return Response(status=reply.status, headers=tuple(reply.getheaders()), body=body, seconds=passed())
