"""Clients that send requests without pause."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Response:
    """The response to one request."""

    begin: float
    end: float
    status: int
    version: str
    ids: tuple[str, ...]


@dataclass(slots=True)
class Load:
    """Six clients in one thread that send requests while the context is active."""

    url: str
    body: Any
    responses: list[Response] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Errors of connections that ended without a response."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=20) as client:
            await asyncio.gather(*(self._ask(client) for _ in range(6)))

    async def _ask(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            try:
                response = await client.post(self.url, json=self.body)
            except httpx.TransportError as error:
                self.broken.append(repr(error))
                await asyncio.sleep(0.05)  # the service is down for a while
                continue
            content = response.json() if response.status_code == 200 else {"version": "", "predictions": []}
            ids = tuple(row["id"] for row in content["predictions"])
            self.responses.append(Response(begin, time.monotonic(), response.status_code, content["version"], ids))

    @property
    def ids(self) -> list[str]:
        """The ids of all predicted rows."""
        return [identity for response in self.responses for identity in response.ids]
