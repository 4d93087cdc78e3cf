"""HTTP over raw sockets, for requests that no client library would send; each has a deadline."""

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
    """The first response on a connection; `status` is 0 if the server closed it without a response."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    seconds: float = 0.0
    """Since the start of the connection."""
    late: bool = False
    """Whether the deadline passed first."""

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None if it is absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def address_of(url: str) -> tuple[str, int]:
    """Return host and port of a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def request(
    method: str, target: str, headers: Headers, body: bytes = b"", *, version: str = "HTTP/1.1", length: bool = True
) -> bytes:
    """Encode a request without any checks; `length` adds a Content-Length header if there is a body."""
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers)]
    if body and length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def basic(login: tuple[str, str]) -> str:
    """Return the `Authorization` header of a user and a password."""
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


def exchange(address: tuple[str, int], request_bytes: bytes, *, method: str = "GET", seconds: float = 10.0) -> Response:
    """Send bytes and read one response; `method` determines whether it has a body (HEAD has none).

    Never raises because of the server's behaviour: a refused or reset connection has the status 0.
    """
    begin = time.monotonic()

    def elapsed() -> float:
        return time.monotonic() - begin

    try:
        open_socket = socket.create_connection(address, timeout=seconds)
    except OSError:
        return Response(status=0, seconds=elapsed())
    with open_socket as connection:
        # The server may respond and close the connection before it has read everything.
        with contextlib.suppress(OSError):
            connection.sendall(request_bytes)
        response = http.client.HTTPResponse(connection, method=method)
        try:
            response.begin()
            body = response.read()
        except TimeoutError:
            return Response(status=0, seconds=elapsed(), late=True)
        except (OSError, http.client.HTTPException):
            return Response(status=0, seconds=elapsed())
        return Response(status=response.status, headers=tuple(response.getheaders()), body=body, seconds=elapsed())
