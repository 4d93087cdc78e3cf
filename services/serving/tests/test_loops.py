"""Background loops: health pages, heartbeats, and the restored predictions."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from phaseflow import discovery
from phaseflow.errors import PlatformError
from phaseflow.loops import Loops
from phaseflow.settings import from_environment
from phaseflow.store import Store
from services.serving import protocol, replay
from services.serving.app import page
from services.serving.state import Service


def test_a_loop_that_hangs_makes_health_and_readiness_false_and_names_it(tmp_path: Path) -> None:
    now = 1000.0
    service = Service(from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_ONLY": "titanic"}))
    service.loops = Loops(end=lambda: pytest.fail("the process must go on"), clock=lambda: now)
    service.metrics.last_iterations = service.loops.last_iterations
    service.manager._cached = True  # a champion is known

    async def main() -> None:
        nonlocal now

        async def hang() -> None:
            await asyncio.Event().wait()

        service.loops.start("follow", hang, seconds=1, max_age=60)
        service.loops.start("ship", hang, seconds=2, max_age=60)
        for path in ("/healthz", "/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
            response = page(service, path)
            assert response is not None
            assert response[0] == 200, path
        now += 61
        service.loops.beat("ship")
        for path, body in (
            ("/healthz", {"status": "failing", "overdue": ["follow"]}),
            ("/livez", {"status": "failing", "overdue": ["follow"]}),
            ("/readyz", {"ready": False, "overdue": ["follow"]}),
        ):
            response = page(service, path)
            assert response is not None
            assert (response[0], json.loads(response[1])) == (503, body)
        assert protocol.get(service, "health/live") == (503, {"live": False})
        assert protocol.get(service, "health/ready") == (503, {"ready": False})
        metrics = generate_latest(service.metrics.registry).decode()
        for name in ("follow", "ship"):
            assert f'phaseflow_loop_last_iteration_timestamp_seconds{{loop="{name}"}} 1.' in metrics
        await service.loops.stop()

    asyncio.run(main())


def test_a_long_backlog_beats_after_each_file(tmp_path: Path) -> None:
    service = Service(from_environment({"PHASEFLOW_HOME": str(tmp_path)}))
    folder = tmp_path / "serving" / "spool"
    folder.mkdir(parents=True)
    for number in range(5):
        (folder / f"feedback-titanic-{number}.jsonl").write_text('{"id":"a","time":1,"label":"1"}\n')
    beats: list[int] = []
    service.log.ship(lambda: beats.append(len(list(folder.iterdir()))))
    assert beats == [5, 4, 3, 2, 1]
    assert len(list(service.store.keys("feedback/titanic"))) == 5


class Away(Store):
    """A store whose listing works and whose reads fail."""

    def read(self, key: str) -> bytes:
        raise PlatformError(f"{key} can't be read", fix="Look at the object store")


def test_recall_keeps_the_newest_and_outlives_a_store_that_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    titanic = discovery.get("titanic")
    service = Service(from_environment({"PHASEFLOW_HOME": str(tmp_path)}))
    example = tuple(titanic.example.get(name) for name in titanic.schema.feature_names)
    now = time.time_ns() // 1000
    for part in range(4):
        begin = now - (5 - part) * 1_000_000
        rows = [(f"{part}-{n}", begin + n, "1", *example, "0", 0.5, 1.0) for n in range(10)]
        service.log.append(titanic, "predictions", rows)
        service.log.ship()
    service.log.append(titanic, "feedback", [("3-9", now, "0", "", "")])
    service.log.ship()
    newest = [identity for identity, _ in replay.recent(service.store, titanic, 15)]
    assert newest == [f"2-{n}" for n in range(5, 10)] + [f"3-{n}" for n in range(9)]
    logging.getLogger("phaseflow").propagate = True
    assert list(replay.recent(Away(service.store.root), titanic)) == []
    assert "earlier predictions of titanic could not be restored" in caplog.text
