"""Load on the service: clients record the id of every predicted row, to compare them with the prediction log."""

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
"""Pause after a broken connection or an error, because the service needs time to recover."""
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
"""This script runs in the environment `serving`, which can read Parquet."""


@dataclass(slots=True)
class Load:
    """Clients that send requests from a background thread for the duration of a `with` block."""

    url: str
    """URL of the project, such as `http://127.0.0.1:3000/titanic`."""
    row: dict[str, Any]
    clients: int = 4
    pause: float = 0.0
    """Seconds between two requests of one client."""
    statuses: Counter[int] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    broken: int = 0
    """Number of requests without a response."""
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
        """Number of completed requests, successful or not."""
        return sum(self.statuses.values()) + self.broken

    @property
    def failed(self) -> int:
        """Number of requests without a response of status 200."""
        return self.sent - self.statuses[200]

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            await asyncio.gather(*(self._send_requests(client) for _ in range(self.clients)))

    async def _send_requests(self, client: httpx.AsyncClient) -> None:
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
    """Ids of all rows in the project's prediction log. Raises CalledProcessError if the log can't be read."""
    completed = subprocess.run(
        [settings.python("serving"), "-c", LOGGED, project],
        env=environment | {"PYTHONPATH": str(ROOT), "PHASEFLOW_STORE": settings.store},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    ids: list[str] = json.loads(completed.stdout)
    return ids


def lost(response_ids: list[str], logged_ids: list[str]) -> list[str]:
    """Describe ids that are missing from the log, and ids that the log or the responses contain more than once."""
    rows = Counter(logged_ids)
    missing = [f"{row_id} is missing" for row_id in response_ids if row_id not in rows]
    duplicated = [f"{row_id} is in the log {count} times" for row_id, count in rows.items() if count > 1]
    repeated = [f"{row_id} is in {count} responses" for row_id, count in Counter(response_ids).items() if count > 1]
    return missing + duplicated + repeated


def shipped(settings: Settings, ready: Callable[[], bool] = lambda: True) -> bool:
    """Whether the service is up and all its rows are in the store."""
    try:
        text = httpx.get(f"{settings.serving_url}/metrics", timeout=10, trust_env=False).text
    except httpx.HTTPError:
        return False
    waiting = [line for line in text.splitlines() if line.startswith("phaseflow_spool_rows ")]
    spool = list((settings.home / "serving" / "spool").glob("*.jsonl"))
    return bool(waiting) and float(waiting[0].split()[1]) == 0 and not spool and ready()
