"""Compaction: readers see every row exactly once, whatever happens at any time."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from phaseflow import erasure, logs
from phaseflow.settings import ROOT
from phaseflow.store import Store
from phaseflow.toolkit import histograms
from pipelines.etl import compact as module
from pipelines.etl.compact import compact
from pipelines.etl.tests.world import TITANIC, World, parquet

DAY = timedelta(days=1)


def filled(root: Path, minutes: float = 100) -> World:
    """Return two hours of predictions and labels in many files, with some labels twice, after `minutes`."""
    world = World(Store(str(root)))
    for number in range(12):
        ids = world.predict(3)
        world.pass_(0.5)
        world.label(ids, str(number % 2), "ann")
        world.pass_(9)
        world.label(ids[:1], "1", "ben")
    world.pass_(minutes)
    return world


def read_logs(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """Read both logs as readers do: rows in order, each id once."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for kind in logs.KINDS:
        batches = list(logs.window(world.store, kind, "titanic", world.now - DAY, world.now))
        rows[kind] = logs.last(pl.concat(batches, how="diagonal_relaxed")).rows() if batches else []
    return rows


def files(world: World) -> list[str]:
    return [key for key in world.store.keys("") if key.endswith(".parquet")]


def test_a_finished_hour_becomes_one_sorted_file_per_log(tmp_path: Path) -> None:
    world = filled(tmp_path)
    before = read_logs(world)
    assert len(files(world)) == 36
    totals = compact(TITANIC, world.store, world.now)
    hours = {logs.hour_of(key) for key in files(world)}
    assert totals == {"hours": 2 * len(hours), "files": 36, "rows": 36 + 48}
    assert len(files(world)) == 2 * len(hours)
    assert read_logs(world) == before
    for key in files(world):
        rows = pl.read_parquet(world.store.path(key))
        assert rows.equals(rows.sort("time", "id"))
    assert compact(TITANIC, world.store, world.now) == {"hours": 0, "files": 0, "rows": 0}


def test_an_hour_into_which_files_may_still_come_is_left_alone(tmp_path: Path) -> None:
    world = World(Store(str(tmp_path)))
    world.predict(3)
    world.predict(3)
    world.now = logs.floor(world.now) + timedelta(minutes=79)
    assert compact(TITANIC, world.store, world.now)["hours"] == 0
    world.pass_(1)
    assert compact(TITANIC, world.store, world.now)["hours"] == 1


def test_late_files_count_at_once_and_are_merged_by_the_next_run(tmp_path: Path) -> None:
    world = filled(tmp_path)
    late = world.predict(3, hold=True)
    world.pass_(3 * 60)
    compact(TITANIC, world.store, world.now)
    world.release()
    before = read_logs(world)
    assert {row[0] for row in before["predictions"]} >= set(late)
    compact(TITANIC, world.store, world.now)
    assert read_logs(world) == before
    assert all(logs.is_compacted(key) for key in files(world))


def test_a_late_label_stands_in_the_hour_of_its_arrival_and_a_late_prediction_in_its_own(tmp_path: Path) -> None:
    world = World(Store(str(tmp_path)))
    begin = world.now
    ids = world.predict(2, hold=True)
    world.label(ids, "1", "ann", hold=True)
    world.pass_(3 * 24 * 60)
    world.release()
    assert [logs.hour_of(key) for key in world.store.keys("predictions")] == [logs.floor(begin)]
    assert [logs.hour_of(key) for key in world.store.keys("feedback")] == [logs.floor(world.now)]


def test_a_file_that_is_shipped_again_after_its_hour_was_merged_counts_once(tmp_path: Path) -> None:
    world = filled(tmp_path)
    key = next(iter(world.store.keys("predictions")))
    content = world.store.read(key)
    before = read_logs(world)
    compact(TITANIC, world.store, world.now)
    world.store.write(key, content)
    hour = logs.hour_of(key)
    assert hour is not None
    assert [entry.key for entry in logs.listed(world.store, "predictions", "titanic", hour).covered] == [key]
    assert read_logs(world) == before
    compact(TITANIC, world.store, world.now)
    assert not world.store.exists(key)
    assert read_logs(world) == before


class Ended(BaseException):
    """Stands for the end of the process."""


def killed_at(world: World, step: int, patch: pytest.MonkeyPatch, *, after: bool) -> bool:
    """Compact until before (or after) the `step`-th change of the store. Returns whether that step was reached."""
    count = 0
    for name in ("write", "delete"):
        change = getattr(Store, name)

        def ending(self: Store, *arguments: Any, change: Any = change) -> Any:
            nonlocal count
            count += 1
            if count == step and not after:
                raise Ended
            result = change(self, *arguments)
            if count == step:
                raise Ended
            return result

        patch.setattr(Store, name, ending)
    try:
        compact(TITANIC, world.store, world.now)
    except Ended:
        return True
    finally:
        patch.undo()
    return False


@pytest.mark.parametrize("after", [False, True])
def test_a_run_killed_at_any_change_loses_no_row_and_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    world = filled(tmp_path)
    before, step = read_logs(world), 1
    while killed_at(world, step, monkeypatch, after=after):  # each time from the state that the last run left
        assert read_logs(world) == before, step
        step += 1 if step < 3 else 2
    assert step > 3
    assert read_logs(world) == before
    compact(TITANIC, world.store, world.now)
    assert all(logs.is_compacted(key) for key in files(world))
    assert len(files(world)) == 2 * len({logs.hour_of(key) for key in files(world)})
    assert read_logs(world) == before


def test_two_runs_at_once_without_a_lock_lose_and_repeat_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run executes completely within the first, before its first change."""
    world = filled(tmp_path)
    before = read_logs(world)
    nested = False
    for name in ("write", "delete"):
        change = getattr(Store, name)

        def interrupted(self: Store, *arguments: Any, change: Any = change) -> Any:
            nonlocal nested
            if not nested:
                nested = True
                compact(TITANIC, world.store, world.now)
                assert read_logs(world) == before
            return change(self, *arguments)

        monkeypatch.setattr(Store, name, interrupted)
    names = iter(range(1000))
    monkeypatch.setattr(module, "locked", lambda store, project: store.lock(f"test-{next(names)}"))
    compact(TITANIC, world.store, world.now)
    monkeypatch.undo()
    assert nested
    assert read_logs(world) == before
    compact(TITANIC, world.store, world.now)
    assert read_logs(world) == before
    assert all(logs.is_compacted(key) for key in files(world))


def test_a_reader_goes_on_while_its_files_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = filled(tmp_path)
    before = read_logs(world)
    read = Store.read
    merged = False

    def reading(self: Store, key: str) -> bytes:
        nonlocal merged
        if not merged and key.endswith(".parquet"):
            merged = True
            compact(TITANIC, world.store, world.now)
        return read(self, key)

    monkeypatch.setattr(Store, "read", reading)
    assert read_logs(world) == before
    assert merged


def test_an_unreadable_file_is_named_and_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = filled(tmp_path)
    before = read_logs(world)
    torn = next(iter(world.store.keys("feedback"))).rpartition("/")[0] + "/torn.parquet"
    world.store.write(torn, b"PAR1 torn")
    compact(TITANIC, world.store, world.now)
    assert f"{torn} is left out" in caplog.text
    assert world.store.exists(torn)
    assert read_logs(world) == before


def test_an_hour_that_is_too_large_for_the_memory_gets_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = filled(tmp_path)
    before = read_logs(world)
    monkeypatch.setattr(module, "PART_BYTES", 1000)
    monkeypatch.setattr(module, "FULL_BYTES", 100)
    monkeypatch.setattr(module, "GROUP_FILES", 2)
    compact(TITANIC, world.store, world.now)
    assert len(files(world)) > 2 * len({logs.hour_of(key) for key in files(world)})
    assert read_logs(world) == before
    assert compact(TITANIC, world.store, world.now)["files"] == 0


def test_feedback_of_an_earlier_version_is_read_and_merged(tmp_path: Path) -> None:
    """Version 0.1.0 called the column of the label `truth`."""
    expected, world = filled(tmp_path / "new"), filled(tmp_path / "old")
    feedback = [key for key in files(world) if key.startswith("feedback/")]
    for key in feedback[::2]:
        rows = pl.read_parquet(world.store.path(key))
        world.store.write(key, parquet(rows.rename({"label": "truth"})))
    assert read_logs(world) == read_logs(expected)
    totals = compact(TITANIC, world.store, world.now)
    assert totals == compact(TITANIC, expected.store, expected.now)
    assert read_logs(world) == read_logs(expected)
    merged = [pl.read_parquet_schema(world.store.path(key)) for key in files(world) if key.startswith("feedback/")]
    assert all("label" in schema and "truth" not in schema for schema in merged)


def test_an_erased_row_is_not_merged(tmp_path: Path) -> None:
    world = filled(tmp_path)
    identity = world.ids[0]
    erasure.record(world.store, "titanic", identity, world.now)
    compact(TITANIC, world.store, world.now)
    assert all(identity not in pl.read_parquet(world.store.path(key))["id"] for key in files(world))


def test_the_statistics_beside_an_hour_are_those_of_its_rows(tmp_path: Path) -> None:
    world = World(Store(str(tmp_path)))
    for _ in range(4):
        world.predict(50)
    hour = logs.floor(world.now)
    rows = logs.frame(world.store, "predictions", "titanic", hour)
    world.pass_(100)
    compact(TITANIC, world.store, world.now)
    key = f"{logs.folder('predictions', 'titanic', hour)}/{logs.STATISTICS}"
    statistics = histograms.from_json(world.store.read(key), key)
    assert statistics == {"1": histograms.of_rows(TITANIC, rows)}
    assert statistics["1"][""].counts["rows"] == 200
    ages = statistics["1"]["fare"]
    assert sum(ages.counts.values()) == 200
    assert histograms.difference(ages, ages) == 0
    world.store.delete(key)  # as if a run had ended before it wrote them
    compact(TITANIC, world.store, world.now)
    assert histograms.from_json(world.store.read(key), key) == statistics


def test_the_command_merges_every_project_s_log(tmp_path: Path) -> None:
    world = World(Store(str(tmp_path / "store")))
    world.now -= timedelta(days=1)
    world.predict(2)
    world.store.write(
        f"{logs.folder('predictions', 'titanic', world.now)}/more.parquet",
        parquet(pl.DataFrame({"id": [], "time": []}, schema={"id": pl.String, "time": logs.TIME})),
    )
    result = tmp_path / "result.json"
    completed = subprocess.run(
        [sys.executable, "-m", "pipelines.etl.compact", "--result", str(result)],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PHASEFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    assert json.loads(result.read_text()) == {"titanic": {"hours": 1, "files": 2, "rows": 2}}
