"""Simulates traffic: sends rows of a project's data as requests, optionally drifted, and the labels afterwards.

`python -m cli.traffic PROJECT …` runs in the project's environment and prints JSON lines: the progress every second,
and the summary at the end. It never repeats a request, so that dropped requests are counted as failures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import numpy as np
import polars as pl

from phaseflow import discovery, prediction_types
from phaseflow.access import named_tokens
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import client as clients
from phaseflow.toolkit import source
from phaseflow.toolkit.draws import draws

PROGRESS_SECONDS: Final = 1.0
LABELS: Final = 20
"""Labels per feedback request."""
CONNECTIONS: Final = 8


@dataclass(slots=True)
class Tally:
    """Counts and latencies of the requests so far."""

    sent: int = 0
    failed: int = 0
    labels: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    started_at: float = field(default_factory=time.time)

    def summary(self, *, completed: bool) -> dict[str, Any]:
        """The counts as JSON-serializable data. Latencies are in milliseconds, and None before the first response."""
        return {
            "done": completed,
            "sent": self.sent,
            "failed": self.failed,
            "labels": self.labels,
            "versions": dict(self.versions),
            "errors": dict(self.errors),
            "p50_ms": self._percentile(0.50),
            "p99_ms": self._percentile(0.99),
            "seconds": round(time.time() - self.started_at, 2),
        }

    def _percentile(self, share: float) -> float | None:
        """Percentile of the latencies by the nearest-rank method."""
        if not self.milliseconds:
            return None
        ordered = sorted(self.milliseconds)
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)


def rows(project: Project, settings: Settings, *, count: int, drift: bool, seed: int) -> Iterator[pl.DataFrame]:
    """Yield batches of rows with the schema's columns and `_group`, as `draws` returns them; endless if `count` is 0.

    Raises PlatformError if `drift` is set and the project declares no drift scenario.
    """
    if drift and not project.drift.scenario:
        raise PlatformError(
            f"{project.name} declares no drift scenario",
            fix="Set Drift.scenario in its project.py, or omit --drift",
        )
    data = source.grouped_rows(source.load(project, settings, Store(settings.store)), project, settings)
    remaining = count or math.inf
    for batch in draws(data, project, np.random.default_rng(seed), drift=drift):
        yield batch.head(int(min(remaining, batch.height)))
        remaining -= batch.height
        if remaining <= 0:
            return


async def send(
    project: Project,
    url: str,
    batches: Iterator[pl.DataFrame],
    *,
    rate: float,
    feedback: bool,
    tally: Tally,
    stop: asyncio.Event,
    token: str = "",
) -> None:
    """Send one request per row until the batches end or `stop` is set.

    `rate` is in rows per second; 0 sends as fast as the service responds. With `feedback`, the label of each row is
    sent after its prediction, with the row's group, so that the row stays on its side of the split, and with the
    client's `token` if it is not empty. Pending requests are awaited and counted.
    """
    target = project.schema.target
    if feedback and target is None:
        raise PlatformError(f"{project.name} has no target, so it has no labels to send", fix="Omit --feedback")
    labels: list[dict[str, Any]] = []
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    free_connections = asyncio.Semaphore(CONNECTIONS)
    pending: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(
        base_url=f"{url}/{project.name}", timeout=10, limits=limits, trust_env=False
    ) as client:

        async def send_row(row: dict[str, Any], label: object, group: str) -> None:
            try:
                identity = await _predict(client, row, tally)
                if feedback and identity is not None:
                    labels.append({"id": identity, "label": label} | ({"group": group} if group else {}))
                    if len(labels) >= LABELS:
                        await _send_labels(client, labels, tally, token)
            finally:
                free_connections.release()

        due = time.perf_counter()
        for row, label, group in (request for batch in batches for request in _requests(batch, project)):
            if stop.is_set():
                break
            await free_connections.acquire()
            pending.add(task := asyncio.create_task(send_row(row, label, group)))
            task.add_done_callback(pending.discard)
            if rate:
                due = max(due + 1 / rate, time.perf_counter() - 1)  # after a pause, catch up at most one second
                await asyncio.sleep(due - time.perf_counter())
        await asyncio.gather(*pending)
        if labels:
            await _send_labels(client, labels, tally, token)


def _requests(batch: pl.DataFrame, project: Project) -> Iterator[tuple[dict[str, Any], Any, str]]:
    """Yield the request body, the label and the group of each row; the label is None if the project has no target."""
    target = project.schema.target
    labels = (
        [prediction_types.parse(value, target) for value in batch[target.name]] if target else [None] * batch.height
    )
    yield from zip(clients.sent(batch, project.schema), labels, batch["_group"], strict=True)


async def _predict(client: httpx.AsyncClient, row: dict[str, Any], tally: Tally) -> str | None:
    """Request one prediction; return the ID of its row, or None if the request fails."""
    start = time.perf_counter()
    tally.sent += 1
    try:
        response = await client.post("/predict", json=row)
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}: {response.text[:200]}")
        body = response.json()
        identity = str(body["predictions"][0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
        tally.failed += 1
        tally.errors[f"{type(error).__name__}: {error}"[:200]] += 1
        return None
    tally.milliseconds.append((time.perf_counter() - start) * 1000)
    tally.versions[str(body["version"])] += 1
    return identity


async def _send_labels(client: httpx.AsyncClient, labels: list[dict[str, Any]], tally: Tally, token: str) -> None:
    """Send the pending labels, and empty the list. A rejected request counts as failed."""
    batch, labels[:] = list(labels), []
    try:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        response = await client.post("/feedback", json={"labels": batch}, headers=headers)
        response.raise_for_status()
    except httpx.HTTPError as error:
        tally.failed += 1
        tally.errors[f"feedback: {type(error).__name__}: {error}"[:200]] += 1
    else:
        tally.labels += len(batch)


def feedback_token(settings: Settings) -> str:
    """The token of the client `default`, else of the first client, in the secret `feedback_tokens`.

    It is empty if there is no such secret. Raises PlatformError if the secret is malformed.
    """
    try:
        text = settings.secret("feedback_tokens")
    except PlatformError:  # the service requires no token
        return ""
    try:
        tokens = named_tokens(text)
    except ValueError as error:
        raise PlatformError(
            f"The secret feedback_tokens is malformed: {error}", fix="Write a line `name token` for each client"
        ) from error
    return tokens.get("default") or next(iter(tokens.values()), "")


async def _send_traffic(project: Project, settings: Settings, args: argparse.Namespace) -> Tally:
    tally = Tally()
    batches = rows(project, settings, count=args.rows, drift=args.drift, seed=args.seed)
    stop = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    sending = asyncio.create_task(
        send(
            project,
            settings.serving(project.name),
            batches,
            rate=args.rate,
            feedback=args.feedback,
            tally=tally,
            stop=stop,
            token=feedback_token(settings) if args.feedback else "",
        )
    )
    while not sending.done():
        await asyncio.wait({sending}, timeout=PROGRESS_SECONDS)
        print(json.dumps(tally.summary(completed=False)), flush=True)
    await sending
    return tally


def main(arguments: list[str] | None = None) -> int:
    """Send the traffic, and print the summary. Returns 1 if a request failed, and 2 if nothing could be sent."""
    parser = argparse.ArgumentParser(prog="cli.traffic", description=__doc__)
    parser.add_argument("project")
    parser.add_argument("--rows", type=int, default=0, help="number of rows; 0 sends until it is stopped")
    parser.add_argument(
        "--rate", type=float, default=20.0, help="rows per second; 0 sends as fast as the service responds"
    )
    parser.add_argument("--drift", action="store_true")
    parser.add_argument("--feedback", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    try:
        tally = asyncio.run(_send_traffic(discovery.get(args.project), from_environment(), args))
    except PhaseflowError as error:
        print(json.dumps({"problem": error.problem, "fix": error.fix}), flush=True)
        return 2
    print(json.dumps(tally.summary(completed=True)), flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
