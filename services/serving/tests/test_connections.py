"""Limits of a connection, with a real server in a thread and short limits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from phaseflow import connections
from phaseflow.connections import LimitedProtocol, connection_limit
from phaseflow.testing import free_port
from services.serving.tests.conftest import until

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
HEAD = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@dataclass
class Server:
    """A server that responds with the size of the body; /hold waits for `go_on`, and /large returns 16 MiB."""

    port: int
    bodies: list[int] = field(default_factory=list)
    disconnects: int = 0
    held_requests: int = 0
    connections: set[Any] = field(default_factory=set)
    go_on: threading.Event = field(default_factory=threading.Event)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects += 1
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(len(body))
        if scope["path"] == "/hold":
            self.held_requests += 1
            await asyncio.to_thread(self.go_on.wait, 30)
        content = bytes(16 << 20) if scope["path"] == "/large" else str(len(body)).encode()
        headers = [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def connect(self, content: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(content)
        return connection

    def ask(self, content: bytes) -> bytes:
        """Send `content` and return everything until the server closes the connection."""
        with self.connect(content) as connection:
            return rest(connection)


def rest(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.4)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.4)
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.4)
    monkeypatch.setattr(LimitedProtocol, "max_connections", 20)
    running = Server(free_port())
    config = uvicorn.Config(
        running.app,  # a bound method, which uvicorn would otherwise treat as ASGI 2
        interface="asgi3",
        port=running.port,
        http=LimitedProtocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    uv = uvicorn.Server(config)
    thread = threading.Thread(target=uv.run)
    thread.start()
    until(lambda: uv.started)
    running.connections = uv.server_state.connections
    yield running
    running.go_on.set()
    uv.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    LimitedProtocol.waiting.clear()


def test_a_request_is_answered_whole_in_pieces_and_after_another(server: Server) -> None:
    with server.connect(GET + HEAD + b"content-length: 3\r\n\r\nabc" + GET) as connection:
        until(lambda: len(server.bodies) == 3)
        assert server.bodies == [0, 3, 0]
        for part in (HEAD[:20], HEAD[20:] + b"content-", b"length: 6\r\n\r\nab", b"cdef"):
            connection.sendall(part)
        until(lambda: server.bodies == [0, 3, 0, 6])
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n" + b"1\r\nx\r\n" * 2000)
        connection.sendall(b"0\r\n\r\n")
        assert rest(connection).count(b"HTTP/1.1 200 OK") == 5
    assert server.bodies[-1] == 2000


@pytest.mark.parametrize("before", [b"", GET], ids=["first", "after another"])
@pytest.mark.parametrize("piece", [1 << 20, 1000], ids=["at once", "in pieces"])
def test_headers_are_limited(server: Server, before: bytes, piece: int) -> None:
    content = HEAD + b"x: " + b"y" * 70_000 + b"\r\n\r\n"
    with server.connect(before) as connection:
        if before:
            until(lambda: server.bodies)
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(content), piece):
                connection.sendall(content[start : start + piece])
        response = rest(connection)
    assert b"HTTP/1.1 431 Request Header Fields Too Large" in response
    assert b'"problem":"The headers are larger than 64 KiB","fix":"Send fewer or shorter ones."' in response
    assert b"x-content-type-options: nosniff" in response


def test_a_large_body_is_no_header(server: Server) -> None:
    body = b"z" * 300_000
    response = server.ask(HEAD + b"content-length: 300000\r\nconnection: close\r\n\r\n" + body)
    assert response.endswith(b"300000")
    many = b"".join(b"x%d: %s\r\n" % (number, b"y" * 1000) for number in range(60))  # 60 kB, within the limit
    response = server.ask(HEAD + many + b"content-length: 300000\r\nconnection: close\r\n\r\n" + body)
    assert response.endswith(b"300000")


@pytest.mark.parametrize(
    "part",
    [
        b"1;x=" + b"y" * 100_000 + b"\r\nx\r\n",
        b"0\r\nx: " + b"y" * 3_000_000,
    ],
    ids=["extensions", "trailer"],
)
def test_framing_is_limited(server: Server, part: bytes) -> None:
    with server.connect(HEAD + b"transfer-encoding: chunked\r\n\r\n") as connection:
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                connection.sendall(part)
        response = rest(connection)
    assert response == b"" or b"HTTP/1.1 400 Bad Request" in response
    until(lambda: server.disconnects == 1)
    assert server.bodies == []


def test_half_a_request_is_refused_in_time(server: Server) -> None:
    response = server.ask(HEAD)
    assert response.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b'"fix":"Send the request at once."' in response
    response = server.ask(HEAD + b"content-length: 10\r\n\r\nabc")
    assert response.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b'"problem":"The body did not arrive in time"' in response
    until(lambda: server.disconnects == 1)  # the application is notified
    assert server.ask(b"") == b""


def test_a_byte_now_and_then_is_too_slow(server: Server) -> None:
    begin = time.monotonic()
    with server.connect(HEAD[:10]) as connection, contextlib.suppress(ConnectionError):
        connection.settimeout(0.05)
        for byte in HEAD[10:]:
            with contextlib.suppress(TimeoutError):
                assert b"408" in connection.recv(4096)
                break
            connection.sendall(bytes([byte]))
    assert time.monotonic() - begin < 5


def test_a_body_that_comes_steadily_has_more_time(server: Server) -> None:
    """Sends at 200 kB/s for a second; required is 32 KiB/s after the first 0.4 s."""
    with server.connect(HEAD + b"content-length: 200000\r\nconnection: close\r\n\r\n") as connection:
        pause = threading.Event()
        for _ in range(20):
            connection.sendall(b"z" * 10_000)
            pause.wait(0.05)  # the rate under test
        assert rest(connection).endswith(b"200000")


def test_empty_lines_between_requests_keep_no_connection(server: Server) -> None:
    with server.connect(GET) as connection:
        until(lambda: server.bodies)
        begin = time.monotonic()
        connection.settimeout(0.1)
        while time.monotonic() - begin < 10:
            try:
                connection.sendall(b"\r\n")
                while connection.recv(4096):
                    pass
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert time.monotonic() - begin < 10


def test_who_reads_no_response_is_dropped(server: Server) -> None:
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(GET.replace(b"GET /", b"GET /large"))
        until(lambda: server.bodies)
        until(lambda: not server.connections)


def test_a_flood_of_half_requests_makes_way_for_whole_ones(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        half_requests = [stack.enter_context(server.connect(HEAD[:30])) for _ in range(100)]
        assert len(half_requests) == 100
        for _ in range(30):
            assert b"HTTP/1.1 200 OK" in server.ask(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert len(LimitedProtocol.waiting) <= 20


def test_where_every_connection_is_at_work_another_is_refused(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(server.connect(GET.replace(b"GET /", b"GET /hold")))
        until(lambda: server.held_requests > 3)  # limited by the number of threads
        until(lambda: len(server.bodies) == 20)
        response = server.ask(GET)
        assert response.startswith(b"HTTP/1.1 503 Service Unavailable")
        assert b"retry-after: 5" in response
        server.go_on.set()
        until(lambda: b"200 OK" in server.ask(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")))


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        HEAD + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
    ],
    ids=["tls", "connect", "path", "two lengths", "negative"],
)
def test_what_is_no_request_is_a_400(server: Server, content: bytes) -> None:
    response = server.ask(content)
    assert response.startswith(b"HTTP/1.1 400 Bad Request"), response
    assert b'"fix":"Send HTTP/1.1."' in response


def test_an_upgrade_is_answered_as_http(server: Server) -> None:
    head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    with server.connect(head + b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n") as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_loops_always_have_descriptors_left() -> None:
    assert connection_limit(1 << 20) == 10_000
    assert connection_limit(1024) == 768
    assert connection_limit(100) == 50
    assert connection_limit(1) == 1
