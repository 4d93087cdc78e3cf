"""Expired objects are removed from a real store. A run that was killed at any step is completed by the next run."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from phaseflow import Keep, PlatformError, discovery
from phaseflow.store import Store
from pipelines.retention import objects
from pipelines.retention.__main__ import main
from pipelines.retention.clean import clean

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PROJECT = dataclasses.replace(discovery.get("titanic"), keep=Keep(log_days=30, snapshots=1, staging_days=7))


class KilledError(BaseException):
    """Stands for the end of the process."""


@dataclass(frozen=True, slots=True)
class Mortal(Store):
    """A store whose user dies before its n-th change."""

    lives: list[int] = field(default_factory=list)

    def _live(self) -> None:
        if self.lives and self.lives[0] == 0:
            raise KilledError
        if self.lives:
            self.lives[0] -= 1

    def delete(self, key: str) -> None:
        self._live()
        Store.delete(self, key)

    def write(self, key: str, content: bytes) -> str:
        self._live()
        return Store.write(self, key, content)


def filled(folder: Path) -> Store:
    """Return a store with old and new objects of each kind."""
    store = Store(str(folder))

    def write(key: str, age: float, content: bytes = b"x" * 10) -> None:
        store.write(key, content)
        time = (NOW - timedelta(days=age)).timestamp()
        os.utime(store.path(key), (time, time))

    for kind in ("predictions", "feedback"):
        write(f"{kind}/titanic/date=2026-01-01/hour=00/a.parquet", 150)
        write(f"{kind}/titanic/date=2026-05-31/hour=00/b.parquet", 1)
    for run, age in (("old", 8), ("new", 1)):
        write(f"staging/titanic/{run}/raw.parquet", age)
    for number, name in enumerate(("s1", "s2", "s3")):
        for file in ("holdout.parquet", "train.parquet"):
            write(f"datasets/titanic/{name}/{file}", 90 - number)
        write(
            f"datasets/titanic/{name}/manifest.json",
            90 - number,
            json.dumps({"snapshot": name, "created": f"2026-03-0{number + 1}T00:00:00+00:00"}).encode(),
        )
    for window in ("20260101T000000Z", "20260102T000000Z"):
        write(f"reports/titanic/{window}/report.json", 1, b'{"snapshot": "s9"}')
        write(f"reports/titanic/{window}/report.html", 1)
    write("predictions/other/date=2026-01-01/hour=00/a.parquet", 150)
    return store


VERSIONS: list[dict[str, Any]] = [{"version": "1", "aliases": ["champion"], "snapshot": "s1", "run": "r"}]
LEFT = [
    *(
        f"datasets/titanic/{name}/{file}"
        for name in ("s1", "s3")
        for file in ("holdout.parquet", "manifest.json", "train.parquet")
    ),
    "feedback/titanic/date=2026-05-31/hour=00/b.parquet",
    "predictions/other/date=2026-01-01/hour=00/a.parquet",
    "predictions/titanic/date=2026-05-31/hour=00/b.parquet",
    "reports/titanic/20260102T000000Z/report.html",
    "reports/titanic/20260102T000000Z/report.json",
    "staging/titanic/new/raw.parquet",
]


def object_keys(store: Store) -> list[str]:
    return [key for key in store.keys("") if not key.startswith("locks/")]


def test_a_dry_run_removes_nothing_and_lists_what_would_be_removed(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = object_keys(store)
    planned = clean(store, PROJECT, VERSIONS, NOW, dry_run=True)
    assert object_keys(store) == before
    assert clean(store, PROJECT, VERSIONS, NOW) == planned
    assert object_keys(store) == LEFT
    removed = {line["what"]: (line["count"], line["bytes"], line["why"]) for line in planned if line["remove"]}
    assert removed["snapshots"][::2] == (3, "beyond the newest 1")
    assert removed["predictions"] == (1, 10, "older than 30 days")
    assert not any(line["remove"] for line in clean(store, PROJECT, VERSIONS, NOW))


def test_empty_folders_are_removed(tmp_path: Path) -> None:
    store = filled(tmp_path)
    clean(store, PROJECT, VERSIONS, NOW)
    assert not (tmp_path / "datasets" / "titanic" / "s2").exists()
    assert not (tmp_path / "predictions" / "titanic" / "date=2026-01-01" / "hour=00").exists()


def test_a_run_killed_before_any_change_is_completed_by_the_next(tmp_path: Path) -> None:
    died, lives = True, 0
    while died:
        root = tmp_path / str(lives)
        store = Mortal(str(filled(root).root), [lives])
        try:
            clean(store, PROJECT, VERSIONS, NOW)
            died = False
        except KilledError:
            pass
        for manifest in (key for key in object_keys(store) if key.endswith("manifest.json")):
            assert (root / manifest).with_name("train.parquet").exists()  # a snapshot with a manifest is complete
        clean(Store(store.root), PROJECT, VERSIONS, NOW)
        assert object_keys(store) == LEFT
        lives += 1
    assert lives > 5


def test_two_processes_do_not_clean_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path)
    monkeypatch.setattr(objects, "PATIENCE", 0.1)
    with objects.locked(store, PROJECT), pytest.raises(PlatformError, match="Another process has held the lock"):
        clean(store, PROJECT, VERSIONS, NOW)
    assert clean(store, PROJECT, VERSIONS, NOW, dry_run=True)


def test_it_runs_while_rows_are_written(tmp_path: Path) -> None:
    store = filled(tmp_path)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            store.write(f"predictions/titanic/date=2026-06-01/hour=12/{number}.parquet", b"row")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            clean(store, PROJECT, VERSIONS, NOW)
    finally:
        stop.set()
        writer.join()
    written = [key for key in object_keys(store) if "date=2026-06-01" in key]
    assert [key for key in object_keys(store) if key not in written] == LEFT


def test_the_command_writes_a_short_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path / "store")
    monkeypatch.setenv("PHASEFLOW_STORE", store.root)
    result = tmp_path / "result.json"
    arguments = ["clean", "--project", "titanic", "--versions", json.dumps(VERSIONS), "--result", str(result)]
    assert main([*arguments, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(arguments) == 0
    removed = json.loads(result.read_text())
    assert removed["predictions"] == {"count": 2, "bytes": 20}  # by today's date and the project's own `Keep`
    assert len(result.read_bytes()) < 4096  # of a pod's termination message
    assert main(["clean", "--project", "titanik"]) == 2
    assert 'Did you mean "titanic"?' in capsys.readouterr().err
