"""What one connection may cost: uvicorn's HTTP/1.1 protocol with limits on headers, on time and on the number of connections.

uvicorn limits none of them with httptools. A client that sends half a request, or reads no response, would hold a descriptor for
ever, and a thousand of them all that a process may open. Here

- a request's line and headers are at most `MAX_HEADER_BYTES` (431) and arrive within `HEADER_SECONDS` (408);
- its body arrives within `BODY_SECONDS`, plus what it needs at `MIN_BYTES_PER_SECOND` (408), and the framing of chunks is bounded;
- a response is read within `WRITE_SECONDS`, or the connection is closed;
- at most `max_connections` are open: beyond that the one that has waited longest for its client is closed, and where every
  connection has a request under way the new one is refused (503).

A request that arrives whole costs no timer.
"""

from __future__ import annotations

import asyncio
import http
import json
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES: Final = 64 << 10
"""Of the request's line and all its headers."""
MAX_FRAMING_BYTES: Final = 1 << 20
"""Of what is neither headers nor body: sizes, extensions and trailers of chunks, above `FRAMING_PER_BYTE` of each body byte."""
FRAMING_PER_BYTE: Final = 8
"""A chunk of one byte takes six on the wire."""
HEADER_SECONDS: Final = 10.0
BODY_SECONDS: Final = 30.0
MIN_BYTES_PER_SECOND: Final = 32 << 10
WRITE_SECONDS: Final = 30.0
MAX_CONNECTIONS: Final = 10_000
RESERVED_FILES: Final = 256
"""Descriptors that connections never take: the log, the store, MLflow and the cache need theirs."""

HEADERS, BODY, DONE = "headers", "body", "done"
"""What a connection waits for: the next request's headers, its body, or nothing."""


def connection_limit(files: int) -> int:
    """How many connections leave the loops their descriptors, of a process that may open `files`."""
    return max(1, min(MAX_CONNECTIONS, files - min(RESERVED_FILES, files // 2)))


def _error(problem: str, fix: str) -> bytes:
    return json.dumps({"error": {"field": "", "problem": problem, "fix": fix}}, separators=(",", ":")).encode()


class LimitedProtocol(HttpToolsProtocol):
    """One connection, within the limits."""

    max_connections = MAX_CONNECTIONS
    """Of the process; `__main__` sets it."""
    waiting: Final[dict[LimitedProtocol, None]] = {}
    """Connections whose client is to send next, the longest waiting first."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._phase = HEADERS
        self._since = 0.0
        self._bytes = 0
        """Of the current phase, on the wire."""
        self._chunk = 0
        """Bytes that came together last."""
        self._first = True
        """Whether the next request to begin is the first one of those."""
        self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._refusal: tuple[int, str, str] | None = None

    # Connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or make room for it, or refuse it."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows it
        if len(self.connections) > self.max_connections:
            if not self.waiting:
                self._refuse(503, "The service has too many connections", "Send it again later.")
                return
            next(iter(self.waiting)).drop()
        self.waiting[self] = None
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.waiting.pop(self, None)
        self._disarm()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close at once, whatever is under way."""
        self.waiting.pop(self, None)
        self._disarm()
        self.transport.abort()

    # Requests

    def data_received(self, data: bytes) -> None:
        """As uvicorn, counting."""
        if self._refusal is not None:
            return
        self._chunk, self._first = len(data), True
        self._bytes += self._chunk
        super().data_received(data)
        if self._phase == DONE:
            idle = self.cycle is not None and self.cycle.response_complete and self.timeout_keep_alive_task is None
            if idle and self._timer is None:
                self._arm()  # empty lines between two requests are no request
            return
        if self._phase == HEADERS and self._bytes > MAX_HEADER_BYTES:
            self._refuse(*_TOO_LARGE)
        elif self._phase == BODY and self._bytes > MAX_FRAMING_BYTES + FRAMING_PER_BYTE * self._body_bytes:
            self._refuse(400, "The body's chunks have more framing than content", "Send it with a Content-Length.")
        elif self._timer is None:
            self._arm()

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._phase == DONE:  # the first one began with the connection
            self._phase, self._bytes = HEADERS, self._chunk if self._first else 0
        self._first = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its headers are whole; raises ValueError, which becomes the refusal, where they are too many."""
        if self._bytes > MAX_HEADER_BYTES or self._chunk > MAX_HEADER_BYTES:  # some of it may be the body
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MAX_HEADER_BYTES:
                self._refusal = _TOO_LARGE
                raise ValueError(_TOO_LARGE[1])
        self._phase, self._bytes, self._body_bytes = BODY, 0, 0
        self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        self._phase = DONE
        self._disarm()
        self.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The client is to send next, or to read what is left and to close."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._close_in_time()
        elif not self.pipeline:
            self.waiting[self] = None

    def send_400_response(self, msg: str) -> None:
        """What can't be parsed is refused in the form of every other refusal."""
        status, problem, fix = self._refusal or (400, msg.rstrip("."), "Send HTTP/1.1.")
        self._refuse(status, problem, fix)

    # Limits of time

    def _arm(self) -> None:
        self._disarm()
        self._since = self.loop.time()
        self._timer = self.loop.call_later(BODY_SECONDS if self._phase == BODY else HEADER_SECONDS, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        """The client has not sent what it began, unless it is the service that does not read."""
        self._timer = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self._arm()
        elif self._phase == BODY:
            left = self._since + BODY_SECONDS + self._body_bytes / MIN_BYTES_PER_SECOND - self.loop.time()
            if left > 0:
                self._timer = self.loop.call_later(left + 0.1, self._late)
            else:
                self._refuse(408, "The body did not arrive in time", "Send it again, or in smaller parts.")
        elif self._bytes and self._phase == HEADERS:
            self._refuse(408, "The headers did not arrive in time", "Send the request at once.")
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._close_in_time()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._write_timer is not None and not self.transport.is_closing():
            self._write_timer.cancel()
            self._write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """As uvicorn, and what is not read then is thrown away in time."""
        super().timeout_keep_alive_handler()
        self._close_in_time()

    def _close_in_time(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    # Refusals

    def _refuse(self, status: int, problem: str, fix: str) -> None:
        """Answer, where no answer has begun, and close."""
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
