"""The HTTP/1.1 protocol of uvicorn with limits on headers, on time and on the number of connections.

With httptools, uvicorn has none of these limits. A client that sends half a request, or never reads the response, would
hold a file descriptor forever, and a thousand such clients would use up all descriptors of the process. The limits are:

- The request line and the headers have at most `MAX_HEADER_BYTES` (431) and arrive within `HEADER_SECONDS` (408).
- The body arrives within `BODY_SECONDS`, plus its transfer time at `MIN_BYTES_PER_SECOND` (408). The framing of chunks
  is bounded (400).
- The client reads the response within `WRITE_SECONDS`, or the connection is closed.
- At most `max_connections` are open. Beyond that, the connection that has waited longest for its client is closed. If
  every connection has a request in progress, the new connection is refused (503).

A request that arrives in one piece needs no timer.
"""

from __future__ import annotations

import asyncio
import http
import json
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES: Final = 64 << 10
"""Maximum size of the request line and all headers."""
MAX_FRAMING_BYTES: Final = 1 << 20
"""Maximum size of chunk sizes, extensions and trailers, in addition to `FRAMING_PER_BYTE` per byte of the body."""
FRAMING_PER_BYTE: Final = 8
"""Allowed framing per byte of the body. A chunk of one byte takes six bytes on the wire."""
HEADER_SECONDS: Final = 10.0
BODY_SECONDS: Final = 30.0
MIN_BYTES_PER_SECOND: Final = 32 << 10
WRITE_SECONDS: Final = 30.0
MAX_CONNECTIONS: Final = 10_000
RESERVED_FILES: Final = 256
"""File descriptors that are reserved for the log, the store, MLflow and the cache."""

HEADERS, BODY, COMPLETE = "headers", "body", "complete"
"""What a connection receives: the headers of a request, its body, or nothing because the request is complete."""


def connection_limit(files: int) -> int:
    """The maximum number of connections of a process that may open `files`. It leaves descriptors for the loops."""
    return max(1, min(MAX_CONNECTIONS, files - min(RESERVED_FILES, files // 2)))


def _error(problem: str, fix: str) -> bytes:
    return json.dumps({"error": {"field": "", "problem": problem, "fix": fix}}, separators=(",", ":")).encode()


class LimitedProtocol(HttpToolsProtocol):
    """A connection with limits."""

    max_connections = MAX_CONNECTIONS
    """Maximum number of connections of the process. `__main__` sets it."""
    waiting: Final[dict[LimitedProtocol, None]] = {}
    """Connections that wait for data from their client, longest waiting first."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._phase = HEADERS
        self._since = 0.0
        self._bytes = 0
        """Bytes received in the current phase, including framing."""
        self._chunk = 0
        """Bytes in the most recent call of `data_received`."""
        self._first = True
        """Whether no request has begun in these bytes yet."""
        self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._refusal: tuple[int, str, str] | None = None

    # Connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, closing the longest waiting one if necessary, or refuse it."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows it
        if len(self.connections) > self.max_connections:
            if not self.waiting:
                self._refuse(503, "The service has too many connections", "Send it again later.")
                return
            next(iter(self.waiting)).drop()
        self.waiting[self] = None
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up."""
        self.waiting.pop(self, None)
        self._disarm()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close the connection immediately."""
        self.waiting.pop(self, None)
        self._disarm()
        self.transport.abort()

    # Requests

    def data_received(self, data: bytes) -> None:
        """Count the received bytes and enforce the limits."""
        if self._refusal is not None:
            return
        self._chunk, self._first = len(data), True
        self._bytes += self._chunk
        super().data_received(data)
        if self._phase == COMPLETE:
            idle = self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None
            if idle and self._timer is None:
                self._arm()  # empty lines between two requests start no request
            return
        if self._phase == HEADERS and self._bytes > MAX_HEADER_BYTES:
            self._refuse(*_TOO_LARGE)
        elif self._phase == BODY and self._bytes > MAX_FRAMING_BYTES + FRAMING_PER_BYTE * self._body_bytes:
            self._refuse(400, "The body's chunks have more framing than content", "Send it with a Content-Length.")
        elif self._timer is None:
            self._arm()

    def on_message_begin(self) -> None:
        """Start a request."""
        if self._phase == COMPLETE:  # the phase of the first request began with the connection
            self._phase, self._bytes = HEADERS, self._chunk if self._first else 0
        self._first = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Check the size of the headers. Raises ValueError if they are too large, which becomes the refusal."""
        if self._bytes > MAX_HEADER_BYTES or self._chunk > MAX_HEADER_BYTES:  # some of the bytes may belong to the body
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MAX_HEADER_BYTES:
                self._refusal = _TOO_LARGE
                raise ValueError(_TOO_LARGE[1])
        self._phase, self._bytes, self._body_bytes = BODY, 0, 0
        self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the timer: the request is complete."""
        self._phase = COMPLETE
        self._disarm()
        self.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or limit the time in which the client reads the rest of the response."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._close_in_time()
        elif not self.pipeline:
            self.waiting[self] = None

    def send_400_response(self, msg: str) -> None:
        """Refuse a malformed request with the JSON body of all other refusals."""
        status, problem, fix = self._refusal or (400, msg.rstrip("."), "Send HTTP/1.1.")
        self._refuse(status, problem, fix)

    # Time limits

    def _arm(self) -> None:
        self._disarm()
        self._since = self.loop.time()
        self._timer = self.loop.call_later(BODY_SECONDS if self._phase == BODY else HEADER_SECONDS, self._on_timeout)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        """Refuse the request if it is late, unless the service itself has paused reading."""
        self._timer = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self._arm()
        elif self._phase == BODY:
            remaining = self._since + BODY_SECONDS + self._body_bytes / MIN_BYTES_PER_SECOND - self.loop.time()
            if remaining > 0:
                self._timer = self.loop.call_later(remaining + 0.1, self._on_timeout)
            else:
                self._refuse(408, "The body did not arrive in time", "Send it again, or in smaller parts.")
        elif self._bytes and self._phase == HEADERS:
            self._refuse(408, "The headers did not arrive in time", "Send the request at once.")
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Limit the time in which the client must read the buffered response."""
        super().pause_writing()
        self._close_in_time()

    def resume_writing(self) -> None:
        """Cancel the time limit: the client reads again."""
        super().resume_writing()
        if self._write_timer is not None and not self.transport.is_closing():
            self._write_timer.cancel()
            self._write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, and discard unread data after a time limit."""
        super().timeout_keep_alive_handler()
        self._close_in_time()

    def _close_in_time(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    # Refusals

    def _refuse(self, status: int, problem: str, fix: str) -> None:
        """Send an error response, unless another response has started, and close the connection."""
        self._refusal = (status, problem, fix)
        self._disarm()
        self.waiting.pop(self, None)
        busy = self.cycle is not None and not self.cycle.response_complete
        if not (busy and (self.cycle.response_started or self._phase == HEADERS)):
            body = _error(problem, fix)
            lines = [
                f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                "x-content-type-options: nosniff",
                *(["retry-after: 5"] if status == 503 else []),
                "connection: close",
            ]
            self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        if busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._close_in_time()


_TOO_LARGE: Final = (431, f"The headers are larger than {MAX_HEADER_BYTES >> 10} KiB", "Send fewer or shorter ones.")
