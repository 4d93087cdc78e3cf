"""Clients that ask without pause."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer."""

    begin: float
    end: float
    status: int
    version: str
    ids: tuple[str, ...]


@dataclass(slots=True)
class Load:
    """Six clients in a thread of their own, between `with` and its end."""

    url: str
    body: Any
    answers: list[Answered] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Connections that ended without an answer."""
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
                said = await client.post(self.url, json=self.body)
            except httpx.TransportError as error:
                self.broken.append(repr(error))
                await asyncio.sleep(0.05)  # the service is gone for a while
                continue
            content = said.json() if said.status_code == 200 else {"version": "", "predictions": []}
            ids = tuple(one["id"] for one in content["predictions"])
            self.answers.append(Answered(begin, time.monotonic(), said.status_code, content["version"], ids))

    @property
    def ids(self) -> list[str]:
        """Of every row that was answered."""
        return [identity for answer in self.answers for identity in answer.ids]
