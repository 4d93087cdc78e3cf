"""The spool: complete lines reach the store exactly once, whatever happens to their file."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import polars as pl

from phaseflow import discovery
from phaseflow.store import Store
from services.serving.spool import Log

TITANIC = discovery.get("titanic")


def labels(count: int, name: str = "a") -> list[tuple[str, int, str, str, str]]:
    return [(f"{name}-{number}", 1_700_000_000_000_000, "1", "ann", "f" * 64) for number in range(count)]


def stored(store: Store) -> list[str]:
    keys = list(store.keys("feedback/titanic"))
    return [identity for key in keys for identity in pl.read_parquet(store.path(key))["id"]]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    log = Log(tmp_path / "spool", store)
    log.append(TITANIC, "feedback", labels(3))
    (file,) = (tmp_path / "spool").glob("*.jsonl")
    with file.open("ab") as torn:
        torn.write(b'{"id":"a-3","time":17')
    log.ship()
    assert stored(store) == ["a-0", "a-1", "a-2"]


def test_unreadable_lines_do_not_take_others_with_them(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    log = Log(tmp_path / "spool", store)
    log.append(TITANIC, "feedback", labels(1))
    (file,) = (tmp_path / "spool").glob("*.jsonl")
    with file.open("ab") as torn:
        torn.write(b'{"id":"x\n\0\0\0\0\n')
    log.append(TITANIC, "feedback", labels(1, "b"))
    log.ship()
    assert stored(store) == ["a-0", "b-0"]


def test_lines_of_an_earlier_release_are_of_nobody_in_particular(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "feedback-titanic-1.jsonl").write_text('{"id":"x","time":1,"label":"1"}\n')
    log = Log(tmp_path / "spool", store)
    log.append(TITANIC, "feedback", labels(1))
    log.ship()
    clients_and_groups = [
        pl.read_parquet(store.path(key)).select("client", "group").rows() for key in store.keys("feedback/titanic")
    ]
    assert sorted(clients_and_groups) == [[("", "")], [("ann", "f" * 64)]]


def test_a_file_shipped_twice_is_one_object(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    log = Log(tmp_path / "spool", store)
    log.append(TITANIC, "feedback", labels(5))
    (file,) = (tmp_path / "spool").glob("*.jsonl")
    content = file.read_bytes()
    log.ship()
    assert not file.exists()
    file.write_bytes(content)  # as if killed between the write to the store and the removal
    Log(tmp_path / "spool", store).ship()
    assert stored(store) == [f"a-{number}" for number in range(5)]
    assert len(list(store.keys("feedback/titanic"))) == 1


def test_another_process_file_is_left_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    log = Log(tmp_path / "spool", store)
    log.append(TITANIC, "feedback", labels(1))
    Log(tmp_path / "spool", store).ship()
    assert stored(store) == []
    log.append(TITANIC, "feedback", labels(1, "b"))
    log.ship()
    assert stored(store) == ["a-0", "b-0"]


def test_a_store_that_cannot_be_written_makes_rows_wait(tmp_path: Path, capsys: object) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    store = Store(str(tmp_path / "store"))
    log = Log(tmp_path / "spool", store)
    log.append(TITANIC, "feedback", labels(4))
    assert log.rows == 4
    log.ship()
    assert log.rows == 4
    (tmp_path / "store").unlink()
    log.append(TITANIC, "feedback", labels(1, "b"))
    log.ship()
    assert log.rows == 0
    assert sorted(stored(store)) == ["a-0", "a-1", "a-2", "a-3", "b-0"]


def test_a_file_of_a_project_that_is_gone_does_not_hold_up_others(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "feedback-atlantis-1.jsonl").write_text('{"id":"x","time":1,"label":"1"}\n')
    log = Log(tmp_path / "spool", store)
    log.append(TITANIC, "feedback", labels(2))
    log.ship()
    assert stored(store) == ["a-0", "a-1"]
    assert log.rows == 1


def test_pixels_reach_the_store_byte_for_byte(tmp_path: Path) -> None:
    store, images = Store(str(tmp_path / "store")), discovery.get("from_scratch")
    log = Log(tmp_path / "spool", store)
    pixels = [bytes(range(start, start + 64)) for start in range(3)]
    log.append(
        images,
        "predictions",
        [(f"a-{n}", 1_700_000_000_000_000, "1", image, "3", 0.9, 1.5) for n, image in enumerate(pixels)],
    )
    log.ship()
    (key,) = store.keys("predictions/from_scratch")
    assert pl.read_parquet(store.path(key))["image"].to_list() == pixels


def test_writers_and_shippers_at_once_lose_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    log, other = Log(tmp_path / "spool", store), Log(tmp_path / "spool", store)
    stop = threading.Event()

    def ship(shipping_log: Log) -> None:
        while not stop.is_set():
            shipping_log.ship()

    shippers = [threading.Thread(target=ship, args=(shipping_log,)) for shipping_log in (log, log, other)]
    for shipper in shippers:
        shipper.start()
    try:
        for number in range(300):
            log.append(TITANIC, "feedback", labels(2, f"n{number}"))
    finally:  # running threads would keep the test process alive
        stop.set()
        for shipper in shippers:
            shipper.join()
    log.ship()
    assert sorted(stored(store)) == sorted(f"n{number}-{row}" for number in range(300) for row in range(2))
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_file_is_seen_only_once_it_is_locked(tmp_path: Path) -> None:
    log = Log(tmp_path / "spool", Store(str(tmp_path / "store")))
    log.append(TITANIC, "feedback", labels(1))
    (file,) = (tmp_path / "spool").glob("*.jsonl")
    with file.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    raise AssertionError("nobody holds it")
