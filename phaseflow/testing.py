"""Helpers of tests in every environment: free ports, waiting for a condition, small HTTP servers, and more projects.

Only tests and benchmarks import this module.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

Value = TypeVar("Value")


def free_port() -> int:
    """Return a TCP port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports(count: int) -> list[int]:
    """Return different free ports."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def wait_for(
    what: str,
    condition: Callable[[], Value],
    seconds: float = 60,
    ignore: type[Exception] | tuple[type[Exception], ...] = (),
    interval: float = 0.05,
) -> Value:
    """Poll until `condition` returns a true value, and return that value.

    An exception of the types `ignore` counts as false. Raises AssertionError after `seconds`, with the last exception.
    """
    end, cause = time.monotonic() + seconds, ""
    while True:
        try:
            if value := condition():
                return value
            cause = ""
        except ignore as error:
            cause = f": {type(error).__name__}: {error}"
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {seconds:.0f} s{cause}")
        time.sleep(interval)


def until(
    condition: Callable[[], Value],
    seconds: float = 60,
    ignore: type[Exception] | tuple[type[Exception], ...] = (),
    interval: float = 0.05,
) -> Value:
    """`wait_for` for a condition that needs no name."""
    return wait_for("the condition", condition, seconds, ignore, interval)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a test server received."""

    method: str
    path: str
    """The path of the request, with its query."""
    headers: Mapping[str, str]
    """The headers of the request, by their names in lower case."""
    body: bytes
    client: tuple[str, int]
    """Address and port; equal for requests on the same connection."""

    @property
    def json(self) -> Any:
        """The body as JSON. None if it is empty."""
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True, slots=True)
class Response:
    """A response of a test server."""

    body: Any = b""
    """Bytes or text as they are, and any other value as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextlib.contextmanager
def http_server(
    respond: Callable[[Request], Response | None], port: int = 0, *, keep_alive: bool = False
) -> Iterator[str]:
    """Serve HTTP on this machine during a `with` block, whose value is the address.

    `respond` is called in a thread per connection. If it returns None, the connection is closed without a response.
    With `keep_alive`, a client may send several requests on a connection, also after the end of the block.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            response = respond(Request(self.command, self.path, headers, body, self.client_address))
            if response is None:
                self.close_connection = True
                return
            self.send_response(response.status)
            self.send_header("content-length", str(len(response.content)))
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(response.content)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_request  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = _Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def more_projects(folder: Path) -> Iterator[None]:
    """Add the projects of a folder, in this process and in those that it starts."""
    package = importlib.import_module("projects")
    folders = os.pathsep.join(filter(None, (os.environ.get("PHASEFLOW_PROJECTS"), str(folder))))
    with (
        mock.patch.dict(os.environ, {"PHASEFLOW_PROJECTS": folders}),
        mock.patch.object(package, "__path__", [*package.__path__, str(folder)]),
    ):
        yield
