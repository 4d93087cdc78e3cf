"""Plays the world: rows of a project's own data as requests, drifted if told, and the truth afterwards.

`python -m phaseflow.traffic PROJECT …` runs in the project's family and prints JSON lines: progress now and then, the
summary at the end. A request is never sent twice: one that is dropped has to be seen.
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

from phaseflow import answers, registry
from phaseflow.access import named_tokens
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import client as clients
from phaseflow.toolkit import source
from phaseflow.toolkit.draws import draws

PROGRESS_SECONDS: Final = 1.0
TRUTHS: Final = 20
"""Truths told in one request."""
CONNECTIONS: Final = 8


@dataclass(slots=True)
class Tally:
    """What happened so far."""

    sent: int = 0
    failed: int = 0
    truths: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    begun: float = field(default_factory=time.time)

    def summary(self, *, done: bool) -> dict[str, Any]:
        """Plain data; latencies in milliseconds, null before the first answer."""
        return {
            "done": done,
            "sent": self.sent,
            "failed": self.failed,
            "truths": self.truths,
            "versions": dict(self.versions),
            "errors": dict(self.errors),
            "p50_ms": self._percentile(0.50),
            "p99_ms": self._percentile(0.99),
            "seconds": round(time.time() - self.begun, 2),
        }

    def _percentile(self, share: float) -> float | None:
        """By the nearest rank."""
        if not self.milliseconds:
            return None
        ordered = sorted(self.milliseconds)
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)


def rows(project: Project, settings: Settings, *, count: int, drift: bool, seed: int) -> Iterator[pl.DataFrame]:
    """Batches of rows of the schema's columns and `_group`, as `draws` makes them; without end where `count` is 0.

    Raises PlatformError when drift is asked of a project that has no scenario.
    """
    if drift and not project.drift.scenario:
        raise PlatformError(
            f"{project.name} declares no drifted world",
            fix="Set Drift.scenario in its project.py, or leave --drift out",
        )
    known = source.grouped_rows(source.load(project, settings, Store(settings.store)), project, settings)
    left = count or math.inf
    for batch in draws(known, project, np.random.default_rng(seed), drift=drift):
        yield batch.head(int(min(left, batch.height)))
        left -= batch.height
        if left <= 0:
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
    """Send each row, a request a row, at `rate` a second (0 is as fast as answers come), until the end or `stop`.

    With `feedback` the truth of a row is told after its answer, and its group, so that it stays on its side of the split, with the
    client's `token` where there is one. What was sent is waited for and counted.
    """
    target = project.schema.target
    if feedback and target is None:
        raise PlatformError(f"{project.name} has no target, so no truth to tell", fix="Leave --feedback out")
    told: list[dict[str, Any]] = []
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    free = asyncio.Semaphore(CONNECTIONS)
    pending: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(
        base_url=f"{url}/{project.name}", timeout=10, limits=limits, trust_env=False
    ) as client:

        async def one(row: dict[str, Any], truth: object, group: str) -> None:
            try:
                identity = await _ask(client, row, tally)
                if feedback and identity is not None:
                    told.append({"id": identity, "truth": truth} | ({"group": group} if group else {}))
                    if len(told) >= TRUTHS:
                        await _tell(client, told, tally, token)
            finally:
                free.release()

        due = time.perf_counter()
        for row, truth, group in (line for batch in batches for line in _told(batch, project)):
            if stop.is_set():
                break
            await free.acquire()
            pending.add(task := asyncio.create_task(one(row, truth, group)))
            task.add_done_callback(pending.discard)
            if rate:
                due = max(due + 1 / rate, time.perf_counter() - 1)  # after a pause, at most a second is caught up
                await asyncio.sleep(due - time.perf_counter())
        await asyncio.gather(*pending)
        if told:
            await _tell(client, told, tally, token)


def _told(batch: pl.DataFrame, project: Project) -> Iterator[tuple[dict[str, Any], Any, str]]:
    """Rows as they are sent, and the truth and the group of each, where it has one."""
    target = project.schema.target
    truths = [answers.read(one, target) for one in batch[target.name]] if target else [None] * batch.height
    yield from zip(clients.sent(batch, project.schema), truths, batch["_group"], strict=True)


async def _ask(client: httpx.AsyncClient, row: dict[str, Any], tally: Tally) -> str | None:
    """One prediction; gives the id of its row."""
    begun = time.perf_counter()
    tally.sent += 1
    try:
        answer = await client.post("/predict", json=row)
        if answer.status_code != 200:
            raise ValueError(f"status {answer.status_code}: {answer.text[:200]}")
        said = answer.json()
        identity = str(said["predictions"][0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
        tally.failed += 1
        tally.errors[f"{type(error).__name__}: {error}"[:200]] += 1
        return None
    tally.milliseconds.append((time.perf_counter() - begun) * 1000)
    tally.versions[str(said["version"])] += 1
    return identity


async def _tell(client: httpx.AsyncClient, told: list[dict[str, Any]], tally: Tally, token: str) -> None:
    """The truths that are waiting; one that is refused counts as a failed request."""
    batch, told[:] = list(told), []
    try:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = await client.post("/feedback", json={"truths": batch}, headers=headers)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        tally.failed += 1
        tally.errors[f"feedback: {type(error).__name__}: {error}"[:200]] += 1
    else:
        tally.truths += len(batch)


def feedback_token(settings: Settings) -> str:
    """The token of the client `default`, else of the first one, in the secret `feedback_tokens`; empty where there is no such secret.

    Raises PlatformError when the secret is malformed.
    """
    try:
        text = settings.secret("feedback_tokens")
    except PlatformError:  # nobody is asked for one
        return ""
    try:
        tokens = named_tokens(text)
    except ValueError as error:
        raise PlatformError(
            f"The secret feedback_tokens is malformed: {error}", fix="Write a line `name token` for each client"
        ) from error
    return tokens.get("default") or next(iter(tokens.values()), "")


async def _play(project: Project, settings: Settings, told: argparse.Namespace) -> Tally:
    tally = Tally()
    batches = rows(project, settings, count=told.rows, drift=told.drift, seed=told.seed)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sending = asyncio.create_task(
        send(
            project,
            settings.serving(project.name),
            batches,
            rate=told.rate,
            feedback=told.feedback,
            tally=tally,
            stop=stop,
            token=feedback_token(settings) if told.feedback else "",
        )
    )
    while not sending.done():
        await asyncio.wait({sending}, timeout=PROGRESS_SECONDS)
        print(json.dumps(tally.summary(done=False)), flush=True)
    await sending
    return tally


def main(arguments: list[str] | None = None) -> int:
    """Send, and print the summary; 1 where a request failed, 2 where nothing could be sent."""
    parser = argparse.ArgumentParser(prog="phaseflow.traffic", description=__doc__)
    parser.add_argument("project")
    parser.add_argument("--rows", type=int, default=0, help="how many; 0 goes on until it is stopped")
    parser.add_argument("--rate", type=float, default=20.0, help="rows a second; 0 is as fast as answers come")
    parser.add_argument("--drift", action="store_true")
    parser.add_argument("--feedback", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args(arguments)
    try:
        tally = asyncio.run(_play(registry.get(told.project), from_environment(), told))
    except PhaseflowError as error:
        print(json.dumps({"problem": error.problem, "fix": error.fix}), flush=True)
        return 2
    print(json.dumps(tally.summary(done=True)), flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
