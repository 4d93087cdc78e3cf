"""A store and its dumps, saved and brought back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from phaseflow import backup
from phaseflow.errors import PlatformError
from phaseflow.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> tuple[Store, Store, Path]:
    source, target, dumps = Store(str(tmp_path / "store")), Store(str(tmp_path / "kept")), tmp_path / "dumps"
    dumps.mkdir()
    (dumps / "mlflow.dump").write_bytes(b"runs")
    source.write("datasets/a.parquet", b"rows")
    source.write("models/b.onnx", b"model")
    source.write("locks/promote", b"held")
    return source, target, dumps


def test_what_was_lost_comes_back_byte_for_byte(place: tuple[Store, Store, Path], tmp_path: Path) -> None:
    source, target, dumps = place
    done = backup.save(source, target, dumps, 3, NOW)
    assert done == {"backup": "20260102T030405Z", "objects": 2, "copied": 2, "dumps": 1, "removed": 0}
    source.delete("models/b.onnx")
    source.write("datasets/a.parquet", b"other")
    found = backup.restore(source, target, tmp_path / "back", "")
    assert found == {"backup": "20260102T030405Z", "objects": 2, "dumps": 1}
    assert source.read("models/b.onnx") == b"model"
    assert source.read("datasets/a.parquet") == b"rows"
    assert (tmp_path / "back" / "mlflow.dump").read_bytes() == b"runs"


def test_what_did_not_change_is_not_copied_again(place: tuple[Store, Store, Path]) -> None:
    source, target, dumps = place
    backup.save(source, target, dumps, 3, NOW)
    source.write("events/c.json", b"new")
    source.write("events/same.json", b"new")
    assert backup.save(source, target, dumps, 3, NOW + timedelta(days=1))["copied"] == 1


def test_the_last_ones_stay_whole_and_older_contents_go(place: tuple[Store, Store, Path], tmp_path: Path) -> None:
    source, target, dumps = place
    for day in range(4):
        source.write("datasets/a.parquet", f"rows of day {day}".encode())
        backup.save(source, target, dumps, 2, NOW + timedelta(days=day))
    assert backup.backups(target) == ["20260104T030405Z", "20260105T030405Z"]
    assert len(list(target.keys("objects"))) == 3
    backup.restore(source, target, tmp_path / "back", "20260104T030405Z")
    assert source.read("datasets/a.parquet") == b"rows of day 2"


def test_a_backup_that_was_broken_off_is_none(place: tuple[Store, Store, Path]) -> None:
    source, target, dumps = place
    backup.save(source, target, dumps, 2, NOW)
    target.write("backups/20270101T000000Z/mlflow.dump", b"half")
    assert backup.backups(target) == ["20260102T030405Z"]


def test_an_unknown_or_damaged_backup_is_said(place: tuple[Store, Store, Path], tmp_path: Path) -> None:
    source, target, dumps = place
    with pytest.raises(PlatformError, match=r"There is no backup '' in .*; found: none. Name one of them"):
        backup.restore(source, target, tmp_path / "back", "")
    backup.save(source, target, dumps, 2, NOW)
    with pytest.raises(PlatformError, match=r"There is no backup 'x' in .*; found: 20260102T030405Z"):
        backup.restore(source, target, tmp_path / "back", "x")
    for key in target.keys("objects"):
        target.write(key, b"spoilt")
    with pytest.raises(PlatformError, match=r"in the backup 20260102T030405Z is damaged. Restore an older one"):
        backup.restore(source, target, tmp_path / "back", "")


def test_a_target_inside_the_source_does_not_eat_itself(tmp_path: Path) -> None:
    source, target = Store(str(tmp_path)), Store(str(tmp_path / "backup"))
    source.write("store/a", b"a")
    (tmp_path / "dumps-elsewhere").mkdir()
    for day in range(2):
        done = backup.save(source, target, tmp_path / "none", 5, NOW + timedelta(days=day))
        assert done["objects"] == 1


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(str(tmp_path / "s")).write("a", b"a")
    place = [str(tmp_path / name) for name in ("s", "t", "d")]
    assert backup.main(["save", *place]) == 0
    name = json.loads(capsys.readouterr().out)["backup"]
    assert backup.main(["list", *place]) == 0
    assert json.loads(capsys.readouterr().out) == [name]
    assert backup.main(["restore", *place, "--at", "no"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no backup 'no'")
