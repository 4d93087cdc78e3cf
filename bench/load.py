"""Clients that ask the service without pause and keep the id of every row that was answered; and the ids that its log holds."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from phaseflow.settings import ROOT, Settings

PAUSE_SECONDS: Final = 0.05
"""The pause after a broken connection, since the service needs a while to return."""
LOGGED: Final = """
import json, sys
from phaseflow import logs
from phaseflow.settings import from_environment
from phaseflow.store import Store
store = Store(from_environment().store)
log = "predictions", sys.argv[1]
batches = (batch for hour in logs.all_hours(store, *log) for batch in logs.batches(store, *log, hour, {"id"}))
json.dump([row for batch in batches for row in batch["id"]], sys.stdout)
"""
"""Runs in the environment `serving`, which reads Parquet."""


@dataclass(slots=True)
class Load:
    """Clients in a thread of their own, between `with` and its end."""

    url: str
    """The project's address, such as `http://127.0.0.1:3000/titanic`."""
    row: dict[str, Any]
    clients: int = 4
    pause: float = 0.0
    """Seconds between two requests of a client."""
    statuses: Counter[int] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    broken: int = 0
    """Connections that ended without a response."""
    versions: set[str] = field(default_factory=set)
    slowest: float = 0.0
    """Seconds of the slowest response."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def sent(self) -> int:
        """Requests that ended, however."""
        return sum(self.statuses.values()) + self.broken

    @property
    def failed(self) -> int:
        """Requests that were not answered by 200."""
        return self.sent - self.statuses[200]

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            await asyncio.gather(*(self._ask(client) for _ in range(self.clients)))

    async def _ask(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            begin = time.monotonic()
            try:
                response = await client.post(f"{self.url}/predict", json=self.row)
            except httpx.HTTPError:
                self.broken += 1
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self.slowest = max(self.slowest, time.monotonic() - begin)
            self.statuses[response.status_code] += 1
            if response.status_code == 200:
                body = response.json()
                self.ids += [prediction["id"] for prediction in body["predictions"]]
                self.versions.add(body["version"])
            await asyncio.sleep(self.pause if response.status_code == 200 else PAUSE_SECONDS)


def logged(settings: Settings, environment: dict[str, str], project: str) -> list[str]:
    """Ids of all rows of the project's prediction log, in a folder's store; raises CalledProcessError where it can't be read."""
    done = subprocess.run(
        [settings.python("serving"), "-c", LOGGED, project],
        env=environment | {"PYTHONPATH": str(ROOT), "PHASEFLOW_STORE": settings.store},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    ids: list[str] = json.loads(done.stdout)
    return ids


def lost(answered: list[str], log: list[str]) -> list[str]:
    """What is wrong with the log: answered ids that it lacks, and ids that it or the answers hold twice."""
    rows = Counter(log)
    missing = [f"{identity} is missing" for identity in answered if identity not in rows]
    twice = [f"{identity} is in the log {count} times" for identity, count in rows.items() if count > 1]
    again = [f"{identity} was answered {count} times" for identity, count in Counter(answered).items() if count > 1]
    return missing + twice + again


def shipped(settings: Settings, ready: Callable[[], bool] = lambda: True) -> bool:
    """Whether the service is there and all its rows are in the store."""
    try:
        text = httpx.get(f"{settings.serving_url}/metrics", timeout=10, trust_env=False).text
    except httpx.HTTPError:
        return False
    waiting = [line for line in text.splitlines() if line.startswith("phaseflow_spool_rows ")]
    spool = list((settings.home / "serving" / "spool").glob("*.jsonl"))
    return bool(waiting) and float(waiting[0].split()[1]) == 0 and not spool and ready()
