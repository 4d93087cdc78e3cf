"""An erased row is in no log, no snapshot and no report, whatever arrives later."""

from __future__ import annotations

import io
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from phaseflow import PermanentError, discovery, erasure
from phaseflow.settings import Settings, from_environment
from phaseflow.store import Store
from pipelines.etl import state as states
from pipelines.etl.extract import extract, parquet
from pipelines.etl.snapshot import latest, snapshot
from pipelines.etl.validate import validate
from pipelines.retention.__main__ import main
from pipelines.retention.clean import clean
from pipelines.retention.forget import forget
from pipelines.retention.tests.test_clean import KilledError, Mortal

TITANIC = discovery.get("titanic")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TIME = datetime(2026, 5, 20, 7, 30, tzinfo=UTC)
HOUR = "date=2026-05-20/hour=07"
ROWS = 20
DAMAGED = b"PAR1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})


def identity(number: int) -> str:
    return f"{number:032x}-0"


def predictions(numbers: range, ages: float = 30.0) -> pl.DataFrame:
    example = dict(TITANIC.example)
    rows = [
        {"id": identity(n), "time": TIME + timedelta(seconds=n), "version": "1"}
        | example
        | {"age": ages + n, "deck": "C", "prediction": "0", "score": 0.6, "latency_ms": 1.0}
        for n in numbers
    ]
    return pl.DataFrame(rows).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))


def feedback(numbers: range) -> pl.DataFrame:
    rows = [
        {"id": identity(n), "time": TIME + timedelta(hours=1, seconds=n), "label": str(n % 2), "client": ""}
        for n in numbers
    ]
    return pl.DataFrame(rows).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))


def filled(settings: Settings) -> tuple[Store, str]:
    """Return a store with a log, a snapshot of it and reports of two hours, and the name of the snapshot."""
    store = Store(settings.store)
    half = ROWS // 2
    for part, numbers in enumerate((range(half), range(half, ROWS))):
        store.write(f"predictions/titanic/{HOUR}/{part}.parquet", parquet(predictions(numbers)))
    store.write("feedback/titanic/date=2026-05-20/hour=08/a.parquet", parquet(feedback(range(ROWS))))
    extracted = extract(TITANIC, "r1", settings, store)
    validate(TITANIC, "r1", store)
    name = str(snapshot(TITANIC, "r1", store, extracted)["snapshot"])
    for hour in (8, 23):
        end = TIME.replace(hour=hour)
        about = {"time": end.timestamp(), "seconds": 3600, "snapshot": "another"}
        store.write(f"reports/titanic/{end:%Y%m%dT%H%M%SZ}/report.json", json.dumps(about).encode())
        store.write(f"reports/titanic/{end:%Y%m%dT%H%M%SZ}/report.html", b"<html>")
    return store, name


def as_format_1(store: Store, name: str) -> None:
    """Convert a snapshot to the format of earlier releases: without ids and without a state."""
    folder = f"datasets/titanic/{name}"
    for side in ("train", "holdout"):
        rows = pl.read_parquet(store.read(f"{folder}/{side}.parquet"))
        store.write(f"{folder}/{side}.parquet", parquet(rows.drop("_id", "_client")))
    about = json.loads(store.read(f"{folder}/manifest.json"))
    store.write(f"{folder}/manifest.json", json.dumps(about | {"format": 1}).encode())
    for key in list(store.keys(folder)):
        if key.endswith(".state"):
            store.delete(key)


def frames(store: Store, *prefixes: str) -> dict[str, pl.DataFrame]:
    """Return the rows of the readable files by key."""
    return {
        key: pl.read_parquet(store.read(key))
        for prefix in prefixes
        for key in store.keys(f"{prefix}/titanic")
        if key.endswith(".parquet") and store.read(key) != DAMAGED
    }


def traces(store: Store, number: int) -> list[str]:
    """Return where the row still is: by its id in the logs, by its age in the snapshots."""
    logs = [key for key, rows in frames(store, "predictions", "feedback").items() if identity(number) in rows["id"]]
    aged = pl.col("age") == 30.0 + number
    is_feedback = pl.col("_origin") == "feedback"
    return logs + [key for key, rows in frames(store, "datasets").items() if rows.filter(aged & is_feedback).height]


def state(store: Store) -> dict[str, Any]:
    """Return all objects, frames as rows."""
    return {
        key: pl.read_parquet(content).rows() if key.endswith(".parquet") else content
        for key in store.keys("")
        if not key.startswith(("locks/", "erased/", "events/"))
        for content in [store.read(key)]
    }


def test_the_row_is_gone_and_the_others_are_as_before(settings: Settings) -> None:
    store, old = filled(settings)
    before = frames(store, "datasets")
    rows = sum(frame.height for frame in before.values())
    assert len(traces(store, 3)) == 3
    result = forget(store, TITANIC, identity(3), NOW)
    assert traces(store, 3) == []
    new = result["snapshots"][old]
    assert (result["log"], result["rows"], result["reports"]) == (2, 2, ["20260520T083000Z"])
    assert sum(frame.height for frame in frames(store, "predictions").values()) == ROWS - 1
    after = frames(store, "datasets")
    assert set(after) == {f"datasets/titanic/{new}/{side}.parquet" for side in ("train", "holdout")}
    assert sum(frame.height for frame in after.values()) == rows - 1
    manifest = json.loads(store.read(f"datasets/titanic/{new}/manifest.json"))
    assert manifest["erased_from"] == old
    assert not [key for key in store.keys("datasets") if key.endswith(".state")]  # removed with the old name
    assert manifest["snapshot"] == new == latest(store, "titanic")
    assert manifest["rows"] == manifest["train_rows"] + manifest["holdout_rows"] == rows - 1
    assert manifest["feedback_rows"] == ROWS - 1
    assert list(store.keys(f"datasets/titanic/{old}")) == [f"datasets/titanic/{old}/erased.json"]
    assert [key.split("/")[2] for key in store.keys("reports/titanic")] == ["20260520T233000Z"] * 2
    assert any("backups" in text for text in result["unreached"])


def test_the_old_name_leads_to_the_new_one(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.steps import data

    store, old = filled(settings)
    monkeypatch.setenv("PHASEFLOW_STORE", store.root)
    forget(store, TITANIC, identity(3), NOW)
    forget(store, TITANIC, identity(4), NOW)
    train = data.split(TITANIC, old, "train")
    assert data.manifest(TITANIC, old)["feedback_rows"] == ROWS - 2
    assert train.equals(data.split(TITANIC, erasure.current(store, "titanic", old), "train"))


def test_a_second_erasure_changes_nothing(settings: Settings) -> None:
    store, _ = filled(settings)
    forget(store, TITANIC, identity(3), NOW)
    before = state(store)
    again = forget(store, TITANIC, identity(3), NOW)
    assert (again["log"], again["rows"], again["snapshots"], again["reports"]) == (0, 0, {}, [])
    assert state(store) == before


def test_an_unknown_id_is_refused(settings: Settings) -> None:
    store, _ = filled(settings)
    with pytest.raises(PermanentError, match=r"holds the id 'nobody'\. Take the id from the service's answer"):
        forget(store, TITANIC, "nobody", NOW)
    assert not list(store.keys("erased/titanic"))


def test_late_copies_of_the_row_are_not_read_and_clean_removes_them(settings: Settings) -> None:
    store, _ = filled(settings)
    forget(store, TITANIC, identity(3), NOW)
    store.write(f"predictions/titanic/{HOUR}/late.parquet", parquet(predictions(range(3, 4))))
    store.write("feedback/titanic/date=2026-05-20/hour=09/late.parquet", parquet(feedback(range(3, 4))))
    extracted = extract(TITANIC, "r2", settings, store)
    validate(TITANIC, "r2", store)
    assert snapshot(TITANIC, "r2", store, extracted)["feedback_rows"] == ROWS - 1
    lines = clean(store, TITANIC, None, NOW)
    assert [(line["what"], line["count"]) for line in lines if "written again" in line["why"]] == [
        ("rows of the log", 2)
    ]
    assert traces(store, 3) == []


def test_clean_rewrites_a_snapshot_that_was_being_written(settings: Settings) -> None:
    store, old = filled(settings)
    folder = f"datasets/titanic/{old}"
    contents = {key: store.read(key) for key in store.keys(folder)}
    with_ids = {  # as in later formats
        key: parquet(
            pl.read_parquet(content).with_columns(
                pl.when(pl.col("_origin") == "feedback")
                .then((pl.col("age") - 30).cast(pl.Int64, strict=False).map_elements(identity, return_dtype=pl.String))
                .alias("_id")
            )
        )
        if key.endswith(".parquet")
        else content
        for key, content in contents.items()
    }
    forget(store, TITANIC, identity(3), NOW)
    for key, content in with_ids.items():
        store.write(key.replace(old, "being_made"), content.replace(old.encode(), b"being_made"))
    assert len(traces(store, 3)) == 1
    clean(store, TITANIC, None, NOW)
    assert traces(store, 3) == []


def test_the_row_is_erased_from_states(settings: Settings) -> None:
    store, old = filled(settings)
    (key,) = [key for key in store.keys("datasets") if key.endswith(".state")]
    elsewhere = key.replace(old, "another")
    store.write(elsewhere, store.read(key))
    assert identity(3) in pl.read_parquet(store.read(elsewhere))["_id"]
    forget(store, TITANIC, identity(3), NOW)
    rest = pl.read_parquet(store.read(elsewhere))["_id"]
    assert identity(3) not in rest
    assert rest.len() == ROWS - 1
    assert states.from_parquet(store.read(elsewhere), elsewhere).rows.height == ROWS - 1


def test_a_snapshot_without_ids_is_matched_by_features_and_time(settings: Settings) -> None:
    store, old = filled(settings)
    as_format_1(store, old)
    assert len(traces(store, 3)) == 3
    assert list(forget(store, TITANIC, identity(3), NOW)["snapshots"]) == [old]
    assert traces(store, 3) == []


def test_a_snapshot_with_ids_is_searched_without_the_log(settings: Settings) -> None:
    store, old = filled(settings)
    for side in ("train", "holdout"):
        key = f"datasets/titanic/{old}/{side}.parquet"
        rows = pl.read_parquet(store.read(key))
        ids = pl.when(pl.col("_origin") == "feedback").then(pl.format("{}-0", (pl.col("age") - 30).cast(pl.Int64)))
        store.write(key, parquet(rows.with_columns(ids.alias("_id"))))
    for key in [*store.keys("predictions/titanic"), *store.keys("feedback/titanic")]:
        store.delete(key)
    result = forget(store, TITANIC, "3-0", NOW)
    assert list(result["snapshots"]) == [old]
    assert result["reports"] == ["20260520T083000Z"]  # the row's time is in the snapshot
    assert traces(store, 3) == []


def test_a_snapshot_without_ids_and_without_the_log_is_reported(settings: Settings) -> None:
    store, old = filled(settings)
    as_format_1(store, old)
    erasure.record(store, "titanic", identity(3), NOW)
    for key in [*store.keys("predictions/titanic"), *store.keys("feedback/titanic")]:
        store.delete(key)
    assert forget(store, TITANIC, identity(3), NOW)["unknown"] == [old]


def test_a_run_killed_before_any_change_is_completed_by_the_next(settings: Settings) -> None:
    whole, _ = filled(settings)

    def copied(name: str) -> str:
        return str(shutil.copytree(whole.root, settings.home / name))

    ended = Store(copied("ended"))
    forget(ended, TITANIC, identity(3), NOW)
    expected, died, lives = state(ended), True, 0
    while died:
        store = Mortal(copied(str(lives)), [lives])
        inner = Store(store.root)
        try:
            forget(store, TITANIC, identity(3), NOW)
            died = False
        except KilledError:
            pass
        forget(inner, TITANIC, identity(3), NOW)
        assert traces(inner, 3) == []
        assert state(inner) == expected
        lives += 1
    assert lives > 8


def test_the_file_keeps_its_metadata(settings: Settings) -> None:
    store, _ = filled(settings)
    output = io.BytesIO()
    predictions(range(100, 102)).write_parquet(output, metadata={"phaseflow": "merged"})
    key = f"predictions/titanic/{HOUR}/merged.parquet"
    store.write(key, output.getvalue())
    forget(store, TITANIC, identity(100), NOW)
    assert pl.read_parquet_metadata(io.BytesIO(store.read(key)))["phaseflow"] == "merged"
    assert pl.read_parquet(store.read(key))["id"].to_list() == [identity(101)]


def test_a_damaged_file_does_not_stop_the_erasure(settings: Settings) -> None:
    store, _ = filled(settings)
    store.write(f"predictions/titanic/{HOUR}/damaged.parquet", DAMAGED)
    for file in ("train.parquet", "holdout.parquet"):
        store.write(f"datasets/titanic/damaged/{file}", DAMAGED)
    store.write("datasets/titanic/damaged/manifest.json", b"{}")
    result = forget(store, TITANIC, identity(3), NOW)
    assert result["unknown"] == ["damaged"]
    assert traces(store, 3) == []
    assert store.read(f"predictions/titanic/{HOUR}/damaged.parquet") == DAMAGED


@hypothesis_settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_a_marker_names_its_id_and_no_other(tmp_path_factory: pytest.TempPathFactory, first: str, second: str) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    erasure.record(store, "toy", first, NOW)
    erased = erasure.erasures(store, "toy")
    assert first in erased
    assert (second in erased) == (first == second)
    rows = pl.DataFrame({"id": [first, second, None]})
    assert erased.without(rows)["id"].to_list() == [value for value in (first, second, None) if value != first]


def test_the_command_erases_a_row(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = filled(settings)
    monkeypatch.setenv("PHASEFLOW_STORE", store.root)
    assert main(["forget", "--project", "titanic", "--id", identity(3)]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 2
    assert main(["forget", "--project", "titanic", "--id", "nobody"]) == 2
    with pytest.raises(SystemExit):
        main(["forget", "--project", "titanic"])
