"""A store and its dumps are saved and restored."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from phaseflow.errors import PermanentError
from phaseflow.store import CHUNK, Store
from services.backup import __main__ as backup
from tests import stores

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def stores_and_dumps(tmp_path: Path) -> tuple[Store, Store, Path]:
    source, target, dumps = Store(str(tmp_path / "store")), Store(str(tmp_path / "kept")), tmp_path / "dumps"
    dumps.mkdir()
    (dumps / "mlflow.dump").write_bytes(b"runs")
    source.write("datasets/a.parquet", b"rows")
    source.write("models/b.onnx", b"model")
    source.write("locks/promote", b"held")
    return source, target, dumps


def test_what_was_lost_comes_back_byte_for_byte(stores_and_dumps: tuple[Store, Store, Path], tmp_path: Path) -> None:
    source, target, dumps = stores_and_dumps
    result = backup.save(source, target, dumps, NOW)
    assert result == {"backup": "20260102T030405Z", "objects": 2, "copied": 2, "dumps": 1}
    source.delete("models/b.onnx")
    source.write("datasets/a.parquet", b"other")
    restored = backup.restore(source, target, tmp_path / "back", "")
    assert restored == {"backup": "20260102T030405Z", "objects": 2, "dumps": 1}
    assert source.read("models/b.onnx") == b"model"
    assert source.read("datasets/a.parquet") == b"rows"
    assert (tmp_path / "back" / "mlflow.dump").read_bytes() == b"runs"


def test_what_did_not_change_is_not_copied_again(stores_and_dumps: tuple[Store, Store, Path]) -> None:
    source, target, dumps = stores_and_dumps
    backup.save(source, target, dumps, NOW)
    source.write("events/c.json", b"new")
    source.write("events/same.json", b"new")
    assert backup.save(source, target, dumps, NOW + timedelta(days=1))["copied"] == 1


def test_the_last_backups_stay_complete_and_older_contents_are_removed(
    stores_and_dumps: tuple[Store, Store, Path], tmp_path: Path
) -> None:
    source, target, dumps = stores_and_dumps
    for day in range(4):
        source.write("datasets/a.parquet", f"rows of day {day}".encode())
        backup.save(source, target, dumps, NOW + timedelta(days=day))
    assert len(backup.backups(target)) == 4  # saving removes nothing
    target.write("backups/20260103T030500Z/mlflow.dump", b"of one that was broken off")
    assert backup.prune(target, 2) == {"backups": 2, "removed": 2, "contents": 2}
    assert backup.prune(target, 2) == {"backups": 2, "removed": 0, "contents": 0}
    assert {key.split("/")[1] for key in target.keys("backups")} == set(backup.backups(target))
    assert backup.backups(target) == ["20260104T030405Z", "20260105T030405Z"]
    assert len(list(target.keys("objects"))) == 3
    backup.restore(source, target, tmp_path / "back", "20260104T030405Z")
    assert source.read("datasets/a.parquet") == b"rows of day 2"


def test_an_interrupted_backup_is_not_listed(stores_and_dumps: tuple[Store, Store, Path]) -> None:
    source, target, dumps = stores_and_dumps
    backup.save(source, target, dumps, NOW)
    target.write("backups/20270101T000000Z/mlflow.dump", b"half")
    assert backup.backups(target) == ["20260102T030405Z"]


def test_an_unknown_or_damaged_backup_is_reported(stores_and_dumps: tuple[Store, Store, Path], tmp_path: Path) -> None:
    source, target, dumps = stores_and_dumps
    with pytest.raises(PermanentError, match=r"There is no backup '' in .*; found: none. Name one of these backups"):
        backup.restore(source, target, tmp_path / "back", "")
    backup.save(source, target, dumps, NOW)
    with pytest.raises(PermanentError, match=r"There is no backup 'x' in .*; found: 20260102T030405Z"):
        backup.restore(source, target, tmp_path / "back", "x")
    for key in target.keys("objects"):
        target.write(key, b"spoilt")
    with pytest.raises(PermanentError, match=r"in the backup 20260102T030405Z is damaged. Restore an older backup"):
        backup.restore(source, target, tmp_path / "back", "")


def test_a_target_inside_the_source_is_not_backed_up(tmp_path: Path) -> None:
    source, target = Store(str(tmp_path)), Store(str(tmp_path / "backup"))
    source.write("store/a", b"a")
    (tmp_path / "dumps-elsewhere").mkdir()
    for day in range(2):
        result = backup.save(source, target, tmp_path / "none", NOW + timedelta(days=day))
        assert result["objects"] == 1


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(str(tmp_path / "s")).write("a", b"a")
    paths = [str(tmp_path / name) for name in ("s", "t", "d")]
    assert backup.main(["save", *paths]) == 0
    name = json.loads(capsys.readouterr().out)["backup"]
    assert backup.main(["list", paths[1]]) == 0
    assert json.loads(capsys.readouterr().out) == [name]
    assert backup.main(["prune", paths[1], "--keep", "1"]) == 0
    assert json.loads(capsys.readouterr().out) == {"backups": 1, "removed": 0, "contents": 0}
    assert backup.main(["restore", *paths, "--at", "no"]) == 2
    assert capsys.readouterr().err.splitlines()[0].partition(" ERROR backup: ")[2].startswith("There is no backup 'no'")


@pytest.mark.parametrize("action", ["save", "restore", "prune"])
def test_two_at_once_are_refused_with_a_clear_message(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backup, "PATIENCE", 0.1)
    source, target, dumps = (str(tmp_path / name) for name in ("s", "t", "d"))
    assert backup.main(["save", source, target, dumps]) == 0
    capsys.readouterr()
    arguments = [action, target] if action == "prune" else [action, source, target, dumps]
    with Store(target).lock("backup"):
        assert backup.main(arguments) == 1  # a retry may help
    assert capsys.readouterr().err.splitlines()[0].partition(" ERROR backup: ")[2] == (
        f"Another process has held the lock {tmp_path}/t/locks/backup for 0 s. Wait for it, or end it."
    )
    assert backup.main(arguments) == 0


@pytest.mark.parametrize("action", ["save", "restore", "prune"])
def test_an_unknown_format_is_refused_by_name(
    action: str, stores_and_dumps: tuple[Store, Store, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, dumps = stores_and_dumps
    for day in range(2):
        backup.save(source, target, dumps, NOW + timedelta(days=day))
    manifest = json.loads(target.read("backups/20260103T030405Z/manifest.json"))
    target.write("backups/20260103T030405Z/manifest.json", json.dumps(manifest | {"format": 2}).encode())
    keys = sorted(target.keys(""))
    arguments = [target.root, "--keep", "1"] if action == "prune" else [source.root, target.root, str(dumps)]
    assert backup.main([action, *arguments]) == 2  # a retry would not help
    assert capsys.readouterr().err.splitlines()[0].partition(" ERROR backup: ")[2] == (
        f"The backup 20260103T030405Z in {target.root} has the format 2; this release reads format 1. "
        "Use the release that wrote it or a newer one, or make it again with this one."
    )
    assert [key for key in sorted(target.keys("")) if not key.startswith("locks/")] == [
        key for key in keys if not key.startswith("locks/")
    ]


def test_a_missing_content_is_reported(stores_and_dumps: tuple[Store, Store, Path], tmp_path: Path) -> None:
    source, target, dumps = stores_and_dumps
    backup.save(source, target, dumps, NOW)
    for key in list(target.keys("objects")):
        target.delete(key)
    with pytest.raises(
        PermanentError, match=r"in the backup 20260102T030405Z is missing. Restore an older backup with `--at`"
    ):
        backup.restore(source, target, tmp_path / "back", "")


def test_a_damaged_content_replaces_nothing(stores_and_dumps: tuple[Store, Store, Path], tmp_path: Path) -> None:
    source, target, dumps = stores_and_dumps
    backup.save(source, target, dumps, NOW)
    for key in list(target.keys("objects")):
        target.write(key, b"spoilt")
    with pytest.raises(PermanentError):
        backup.restore(source, target, tmp_path / "back", "")
    assert source.read("datasets/a.parquet") == b"rows"
    assert sorted(path.name for path in (tmp_path / "store" / "datasets").iterdir()) == ["a.parquet"]


def test_a_large_object_and_a_large_dump_pass_in_pieces(tmp_path: Path) -> None:
    large = os.urandom(1 << 20) * 96
    source, back, target = Store(str(tmp_path / "s")), Store(str(tmp_path / "b")), str(tmp_path / "t")
    source.write("models/large.onnx", large)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mlflow.dump").write_bytes(large)
    for action, root, dumps in (("save", source.root, "d"), ("restore", back.root, "e")):
        arguments = [action, root, target, str(tmp_path / dumps)]
        completed, growth = stores.measured("services.backup", *arguments, environment=os.environ)
        assert completed.returncode == 0, completed.stderr
        assert growth < 6 * CHUNK
    assert back.read("models/large.onnx") == large
    assert (tmp_path / "e" / "mlflow.dump").read_bytes() == large
