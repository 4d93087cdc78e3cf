"""What the demo does before it plays, and how it counts; the whole story is played in `tests/`."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from phaseflow import registry
from phaseflow.cli import __main__, demo
from phaseflow.cli.stage import PROJECT, Stage
from phaseflow.errors import PlatformError
from phaseflow.settings import from_environment


def stage(home: Path, **environment: str) -> Stage:
    def nothing(*_: Any) -> NoReturn:
        raise AssertionError("the place is not asked")

    return Stage(
        settings=from_environment({"PHASEFLOW_HOME": str(home), **environment}),
        start=nothing,
        log=nothing,
        tail=nothing,
        memory_mb=nothing,
        again="",
    )


def test_a_project_without_a_changed_world_is_refused_before_anything_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path))
    (tmp_path / "store").mkdir()
    known = registry.get(PROJECT)
    still = dataclasses.replace(known, drift=dataclasses.replace(known.drift, scenario=""))
    for play in (lambda: demo.play(still, quiet=True), lambda: demo.on(stage(tmp_path), still, quiet=True)):
        with pytest.raises(PlatformError, match=r"titanic declares no drifted world") as caught:
            play()
        assert caught.value.fix == "Set Drift.scenario in its project.py"
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize(
    ("latency_ms", "rate"),
    [(0.3, 40.0), (20.0, 25.0), (50.0, 800 / 60), (5000.0, 800 / 60)],
    ids=["quick: no more than a laptop bears", "half a core", "enough for a judgement", "slow"],
)
def test_requests_keep_half_a_core_busy_and_suffice_for_a_judgement(
    tmp_path: Path, latency_ms: float, rate: float
) -> None:
    place = stage(tmp_path, PHASEFLOW_DRIFT_WINDOW_SECONDS="60", PHASEFLOW_DRIFT_MINIMUM_ROWS="400")
    story = demo.Story(place, registry.get(PROJECT), quiet=True)
    assert story._rate(latency_ms) == pytest.approx(rate)


def test_half_a_line_of_an_ended_traffic_changes_nothing() -> None:
    read = threading.Event()

    def lines() -> Iterator[str]:
        yield json.dumps({"sent": 7, "failed": 0})
        yield '{"sent": 8, "fai'
        yield "\n"
        read.set()

    world = demo.World(lines())
    assert read.wait(5)
    assert world.ended() == {"sent": 7, "failed": 0}


def test_a_story_that_ends_early_says_why_and_nothing_of_its_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    def lines() -> Iterator[str]:
        yield json.dumps({"sent": 7, "failed": 0})
        raise ValueError("I/O operation on closed file")

    assert demo.World(lines()).ended() == {"sent": 7, "failed": 0}
    assert raised == []


@pytest.mark.parametrize(("command", "kept"), [("demo", None), ("up", "7")])
def test_a_demo_takes_no_setting_of_the_home_that_it_moves_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, kept: str | None
) -> None:
    (tmp_path / "environment").write_text("PHASEFLOW_DRIFT_MINIMUM_ROWS=7\n")
    monkeypatch.setattr(os, "environ", {"PHASEFLOW_HOME": str(tmp_path)})
    monkeypatch.setattr(sys, "argv", ["phaseflow", command])
    __main__._home_settings()
    assert os.environ.get("PHASEFLOW_DRIFT_MINIMUM_ROWS") == kept
