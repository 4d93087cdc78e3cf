"""Extract, validate, snapshot on right and on wrong data."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phaseflow import DataError, events, logs, registry
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source
from phaseflow.toolkit.holdout import in_holdout, keys, sides
from pipelines.etl.caps import allowed
from pipelines.etl.extract import extract, parquet
from pipelines.etl.parts import COLUMNS
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import refused, validate

TITANIC = registry.get("titanic")
TITANIC = dataclasses.replace(
    TITANIC, source=dataclasses.replace(TITANIC.source, sha256="")
)  # these files are the tests' own


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    return from_environment(
        {"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1", "PHASEFLOW_DATA_MIRROR": str(tmp_path)}
    )


def run(place: Settings, content: bytes, name: str = "r1") -> dict[str, Any]:
    """All three steps on a file in the mirror."""
    (place.home / "titanic.csv").write_bytes(content)
    store = Store(place.store)
    found = extract(TITANIC, name, place, store)
    return found | validate(TITANIC, name, store) | snapshot(TITANIC, name, store, found)


def changed(**changes: Any) -> bytes:
    """The sample with a header renamed (`rename`), cells of a column replaced (`column`, `value`, `rows`), or rows kept (`keep`)."""
    lines = list(csv.reader(io.StringIO(registry.load(TITANIC.source.sample)(1).decode())))
    header, rows = lines[0], lines[1:]
    if "column" in changes:
        place = header.index(changes["column"])
        for row in rows[: changes.get("rows", len(rows))]:
            row[place] = changes["value"]
    header = [changes.get("rename", {}).get(name, name) for name in header]
    rows = [row for row in rows if changes.get("keep", lambda _: True)(row)]
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    return out.getvalue().encode()


def test_the_whole_way_is_idempotent(place: Settings) -> None:
    first = run(place, changed())
    again = run(place, changed(), name="r2")
    assert first["source"] == "mirror"
    assert first["new"]
    assert not again["new"]
    assert first["snapshot"] == again["snapshot"]
    assert first["train_rows"] + first["holdout_rows"] == first["rows"]
    recorded = events.read(Store(place.store), "titanic")
    assert [event["type"] for event in recorded] == ["dev.phaseflow.snapshot"]
    manifest = json.loads(Store(place.store).read(f"datasets/titanic/{first['snapshot']}/manifest.json"))
    assert {"source", "sha256", "rows", "schema", "created", "parent"} <= manifest.keys()
    assert manifest["format"] == 2
    assert {"watermark", "state"} <= manifest.keys()


def test_images_go_the_whole_way_and_a_torn_one_is_in_quarantine(tmp_path: Path) -> None:
    project = registry.get("from_scratch")
    place = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    store = Store(place.store)
    found = extract(project, "r1", place, store)
    raw = pl.read_parquet(store.read(found["raw"]))
    torn = raw.with_columns(image=pl.Series([b"short", *raw["image"][1:].to_list()], dtype=pl.Binary))
    store.write(found["raw"], parquet(torn))
    checked = validate(project, "r1", store)
    assert (checked["rows"], checked["quarantined"]) == (1796, 1)
    reason = pl.read_parquet(store.read(checked["quarantine"]))["reason"][0]
    assert reason == "image: 5 bytes is not an image of 8 x 8 x 1, which has 64 bytes"
    first = snapshot(project, "r1", store, found)
    again = snapshot(project, "r1", store, found)
    assert first["snapshot"] == again["snapshot"]
    kept = pl.read_parquet(store.read(f"datasets/from_scratch/{first['snapshot']}/train.parquet"))
    assert kept["image"].dtype == pl.Binary
    assert set(kept["image"].to_list()) < set(raw["image"].to_list())


def test_without_a_truth_every_logged_row_comes_back(tmp_path: Path) -> None:
    project = registry.get("customer_segments")
    place = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    store = Store(place.store)
    rows = pl.DataFrame(
        {"id": ["a-0", "b-0"], "time": [datetime(2026, 1, 1, tzinfo=UTC)] * 2, "version": ["1"] * 2}
        | {name: [5, 6] for name in project.schema.feature_names}
        | {"prediction": ["much milk"] * 2}
    )
    store.write("predictions/customer_segments/date=2026-01-01/hour=00/x.parquet", parquet(rows))
    found = extract(project, "r1", place, store)
    validate(project, "r1", store)
    made = snapshot(project, "r1", store, found)
    assert made["feedback_rows"] == 2
    folder = f"datasets/customer_segments/{made['snapshot']}"
    kept = pl.concat([pl.read_parquet(store.read(f"{folder}/{side}.parquet")) for side in ("train", "holdout")])
    assert kept.columns == [*project.schema.feature_names, *COLUMNS]
    assert sorted(kept.filter(pl.col("_origin") == "feedback")["milk"]) == [5, 6]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "The CSV holds nothing. Get the file again."),
        (b"PassengerId,Survived\n", "The CSV holds a header and no rows. Get the file again."),
        (b"\xff\xfe\x00a", "The file is not UTF-8: byte 0 is 0xff. Convert it to UTF-8."),
    ],
)
def test_an_empty_or_foreign_file_is_named(place: Settings, content: bytes, text: str) -> None:
    with pytest.raises(DataError) as caught:
        run(place, content)
    assert str(caught.value) == text


def test_a_truncated_file_is_named(place: Settings) -> None:
    whole = changed()
    with pytest.raises(
        DataError, match=r"last row has \d+ cells, the header 12\. Get the file again: it looks truncated\."
    ):
        run(place, whole[: whole.rindex(b",")])
    with pytest.raises(DataError, match=r"breaks off at line \d+: .*it looks truncated\."):
        run(place, whole + b'900,1,1,"Braund, Mr')


def test_a_renamed_column_gets_a_suggestion(place: Settings) -> None:
    with pytest.raises(DataError) as caught:
        run(place, changed(rename={"Fare": "Fares"}))
    assert "The source of titanic lacks a column" in str(caught.value)
    assert str(caught.value).endswith('Did you mean "Fares"?')


def test_a_retyped_column_fails_the_run_and_loses_nothing(place: Settings) -> None:
    with pytest.raises(DataError) as caught:
        run(place, changed(column="Fare", value="cheap"))
    assert (
        "891 of 891 rows of titanic are refused, the first is row 1: fare: 'cheap' is not a number; allowed: 5%"
        in str(caught.value)
    )
    kept = pl.read_parquet(Store(place.store).path("quarantine/titanic/r1.parquet"))
    assert kept.height == 891
    assert kept["reason"][0].startswith("fare: 'cheap' is not a number")


def test_a_few_bad_rows_are_quarantined_with_their_reason(place: Settings) -> None:
    found = run(place, changed(column="Pclass", value="9", rows=10))
    assert (found["quarantined"], found["rows"]) == (10, 881)
    kept = pl.read_parquet(Store(place.store).path(found["quarantine"]))
    assert kept["row"].to_list() == list(range(10))
    assert all(reason.startswith("pclass: '9' fails isin") for reason in kept["reason"])


def test_a_target_of_one_class_fails_the_run(place: Settings) -> None:
    with pytest.raises(DataError) as caught:
        run(place, changed(column="Survived", value="1"))
    assert (
        str(caught.value) == "The target survived of titanic holds one class: ['1']. Give rows of at least two classes."
    )


def test_too_few_rows_fail_the_run(place: Settings) -> None:
    with pytest.raises(DataError, match=r"The mirror of titanic holds 9 rows; allowed: 200 or more"):
        run(place, changed(keep=lambda row: int(row[0]) < 10))


def test_the_command_ends_with_2_and_the_error_last(place: Settings, tmp_path: Path) -> None:
    (tmp_path / "titanic.csv").write_bytes(b"")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipelines.etl",
            "extract",
            "--project",
            "titanic",
            "--run",
            "r",
            "--result",
            str(tmp_path / "x"),
        ],
        env=os.environ
        | {"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_DATA_MIRROR": str(tmp_path), "PHASEFLOW_OFFLINE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        f"error: {tmp_path}/titanic.csv has SHA-256 {hashlib.sha256(b'').hexdigest()}; the source of titanic says "
        f"{registry.get('titanic').source.sha256}. Put the file with that checksum there; if this one is right, name its checksum "
        "in Source.mirror_sha256 of the project."
    )
    assert not (tmp_path / "x").exists()


def part(kind: str, name: str = "a", project: str = "titanic") -> str:
    """A file that arrives now."""
    return f"{logs.folder(kind, project, datetime.now(UTC))}/{name}.parquet"


def log(place: Settings, truths: dict[str, str], age: float = 50.0) -> None:
    """Predictions r0, r1, … and their truths, as the service ships them."""
    now = datetime.now(UTC)
    ids = sorted(truths)
    columns: dict[str, Any] = {name: [TITANIC.example.get(name)] * len(ids) for name in TITANIC.schema.feature_names}
    columns["age"] = [age + number for number in range(len(ids))]
    predictions = pl.DataFrame({"id": ids, "time": [now] * len(ids), "version": ["1"] * len(ids), **columns})
    feedback = pl.DataFrame({"id": ids, "time": [now] * len(ids), "truth": [truths[name] for name in ids]})
    store = Store(place.store)
    store.write(part("predictions"), parquet(predictions))
    store.write(part("feedback", "a"), parquet(feedback))


def test_truths_that_came_back_join_the_next_snapshot(place: Settings) -> None:
    before = run(place, changed())
    log(place, {"r0": "1", "r1": "0", "r2": "1"})
    store = Store(place.store)
    stranger = pl.DataFrame({"id": ["nobody"], "time": [datetime.now(UTC)], "truth": ["1"]})
    store.write(part("feedback", "b"), parquet(stranger))
    corrected = pl.DataFrame({"id": ["r0"], "time": [datetime.now(UTC)], "truth": ["0"]})
    store.write(part("feedback", "c"), parquet(corrected))
    store.write(part("feedback", "torn"), b"PAR1 torn")
    after = run(place, changed(), name="r2")
    assert after["feedback_rows"] == 3
    assert after["snapshot"] != before["snapshot"]
    folder = f"datasets/titanic/{after['snapshot']}"
    rows = pl.concat([pl.read_parquet(store.path(f"{folder}/{side}.parquet")) for side in ("train", "holdout")])
    back = rows.filter(pl.col("_origin") == "feedback").sort("age")
    assert back["survived"].to_list() == ["0", "0", "1"]  # the last truth of r0 counts
    manifest = json.loads(store.read(f"{folder}/manifest.json"))
    assert manifest["parent"] == before["snapshot"]


def told(store: Store, rows: dict[str, list[Any]], kind: str = "a") -> None:
    """Predictions and their truths of clients, as the service ships them: `client` and `survived` of each row."""
    count, begin = len(rows["client"]), datetime.now(UTC)
    times = [begin + timedelta(microseconds=number) for number in range(count)]
    ids = [f"{kind}{number}" for number in range(count)]
    columns: dict[str, Any] = {name: [TITANIC.example.get(name)] * count for name in TITANIC.schema.feature_names}
    columns["fare"] = [float(number) for number in range(count)]  # each is another row
    predictions = pl.DataFrame({"id": ids, "time": times, "version": ["1"] * count, **columns})
    store.write(part("predictions", kind), parquet(predictions))
    feedback = pl.DataFrame({"id": ids, "time": times, "truth": rows["survived"], "client": rows["client"]})
    if "group" in rows:
        feedback = feedback.with_columns(group=pl.Series(rows["group"], dtype=pl.String))
    store.write(part("feedback", kind), parquet(feedback))


def split(store: Store, found: dict[str, Any], project: str = "titanic") -> dict[str, pl.DataFrame]:
    """Both sides of a snapshot."""
    folder = f"datasets/{project}/{found['snapshot']}"
    return {side: pl.read_parquet(store.read(f"{folder}/{side}.parquet")) for side in ("train", "holdout")}


def test_false_labels_of_one_client_stay_below_the_cap_on_both_sides(place: Settings) -> None:
    """5,000 of them, against 891 base rows."""
    store, plain = Store(place.store), run(place, changed())
    told(store, {"client": ["mallory"] * 5000, "survived": ["1"] * 5000})
    first, again = run(place, changed(), name="r2"), run(place, changed(), name="r3")
    assert first["snapshot"] == again["snapshot"]
    before, after = split(store, plain), split(store, first)
    for side, rows in after.items():
        back = rows.filter(pl.col("_origin") == "feedback")
        base = rows.filter(pl.col("_origin") == "base")
        assert base.equals(before[side])  # what is trusted, and judged apart, is what it was
        assert back.height == base.height  # a half, and the cap is used up
        assert back["fare"].mean() == pytest.approx(2500, rel=0.15)  # of the old ones as many as of the new ones
        assert base["_trusted"].all()
        assert not back["_trusted"].any()
    assert first["feedback_rows"] == 891


def test_a_group_that_was_told_with_a_truth_decides_the_side_and_a_named_client_is_trusted(
    place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(place.store)
    monkeypatch.setattr(sys.modules[__name__], "TITANIC", dataclasses.replace(TITANIC, trusted_clients=("shop",)))
    groups = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(60)]
    told(store, {"client": ["shop", ""] * 30, "survived": ["1", "0"] * 30, "group": groups})
    sides_found = split(store, run(place, changed()))
    for side, rows in sides_found.items():
        back = rows.filter(pl.col("_origin") == "feedback")
        assert back.height > 5
        assert all(in_holdout(group, 0.25) == (side == "holdout") for group in back["_group"])
        assert set(back["_group"]) <= set(groups)
        assert back["_trusted"].equals(back["_client"] == "shop", check_names=False)


def test_nobody_in_particular_is_one_client_and_all_together_have_a_cap(place: Settings) -> None:
    store = Store(place.store)
    names = ["", "ann", "ben", "eve"]
    told(store, {"client": [names[number % 4] for number in range(8000)], "survived": ["1"] * 8000})
    sides_found = split(store, run(place, changed()))
    for rows in sides_found.values():
        assert (rows["_origin"] == "feedback").mean() == pytest.approx(0.8, abs=0.005)
        assert (rows["_origin"] == "feedback").mean() <= 0.8


def test_who_floods_does_not_push_out_those_who_are_within_their_share(place: Settings) -> None:
    store = Store(place.store)
    few = {"client": ["ann"] * 100 + [""] * 5000, "survived": ["0"] * 100 + ["1"] * 5000}
    told(store, few)
    after = split(store, run(place, changed()))
    kept = pl.concat(after.values()).filter(pl.col("_origin") == "feedback")
    assert kept.filter(pl.col("fare") < 100).height == 100
    assert (kept["survived"] == "1").sum() <= (kept.height + 891) / 2


def test_old_logs_without_a_client_are_read_as_of_nobody_in_particular(place: Settings) -> None:
    log(place, {f"r{number}": "1" for number in range(30)})
    told(Store(place.store), {"client": ["ann"] * 5, "survived": ["0"] * 5}, kind="b")
    assert run(place, changed())["feedback_rows"] == 35


def test_of_a_history_the_caps_hold_on_both_sides(tmp_path: Path) -> None:
    project = registry.get("recommender")
    place = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    store = Store(place.store)
    found = extract(project, "r1", place, store)
    validate(project, "r1", store)
    base = pl.read_parquet(store.read("staging/recommender/r1/valid.parquet"))
    count, target = 3 * base.height, project.schema.target
    assert target is not None
    again = base.sample(count, with_replacement=True, seed=1)
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number) for number in range(count)]
    ids = [f"a{number}" for number in range(count)]
    features = again.select(project.schema.feature_names)
    hour = "recommender/date=2026-01-01/hour=00/a.parquet"
    store.write(f"predictions/{hour}", parquet(features.with_columns(id=pl.Series(ids), time=pl.Series(times))))
    truths = [f'["new-{number}"]' for number in range(count)]
    feedback = pl.DataFrame({"id": ids, "time": times, "truth": truths, "client": ["mallory"] * count})
    store.write(f"feedback/{hour}", parquet(feedback))
    first = snapshot(project, "r1", store, found)
    assert snapshot(project, "r1", store, found)["snapshot"] == first["snapshot"]
    for rows in split(store, first, "recommender").values():
        assert 0 < (rows["_origin"] == "feedback").mean() <= 0.5


def test_without_a_truth_only_the_cap_of_all_rows_holds(tmp_path: Path) -> None:
    project = registry.get("customer_segments")
    place = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    store, count = Store(place.store), 5000
    rows = pl.DataFrame(
        {"id": [f"a-{number}" for number in range(count)], "time": [datetime(2026, 1, 1, tzinfo=UTC)] * count}
        | {name: list(range(count)) for name in project.schema.feature_names}
    )
    store.write("predictions/customer_segments/date=2026-01-01/hour=00/x.parquet", parquet(rows))
    found = extract(project, "r1", place, store)
    validate(project, "r1", store)
    for rows in split(store, snapshot(project, "r1", store, found), "customer_segments").values():
        assert (rows["_origin"] == "feedback").mean() == pytest.approx(0.8, abs=0.01)


@given(
    st.integers(0, 300),
    st.dictionaries(st.sampled_from(["", "a", "b", "c", "d"]), st.integers(1, 500), min_size=1),
    st.floats(0, 1),
    st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_the_caps_agree_and_are_used_up(base: int, counts: dict[str, int], share: float, each: float) -> None:
    most, per_client = allowed(base, counts, share, each)
    kept = {name: min(count, per_client) for name, count in counts.items()}
    assert 0 <= most <= sum(kept.values())
    assert most <= share * (base + most) + 1e-6 or share == 1
    assert per_client <= each * (base + most) + 1e-6
    if most < min(sum(kept.values()), 0 if share == 1 else math.floor(base * share / (1 - share))):
        raise AssertionError("more would have been allowed")


def test_no_row_changes_sides_when_rows_are_added(place: Settings) -> None:
    def sides(found: dict[str, Any]) -> dict[str, str]:
        store = Store(place.store)
        return {
            key: side
            for side in ("train", "holdout")
            for key in pl.read_parquet(store.path(f"datasets/titanic/{found['snapshot']}/{side}.parquet"))["_key"]
        }

    before = sides(run(place, changed()))
    log(place, {f"r{number}": "1" for number in range(40)})
    after = sides(run(place, changed(), name="r2"))
    assert before.items() <= after.items()
    assert set(after.values()) == {"train", "holdout"}


@given(st.floats(0.05, 0.5), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_holdout_has_its_share_and_grows_with_it(share: float, seed: int) -> None:
    digests = [hashlib.sha256(f"{seed} {number}".encode()).hexdigest() for number in range(4000)]
    held = [key for key in digests if in_holdout(key, share)]
    assert len(held) / len(digests) == pytest.approx(share, abs=0.04)
    assert all(in_holdout(key, share + 0.1) for key in held)


def history(users: list[str], share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both sides of a history in which every row is another one."""
    rows = pl.DataFrame(
        {"user": users, "_key": [hashlib.sha256(f"{place}".encode()).hexdigest() for place in range(len(users))]}
    ).with_row_index("place")
    return sides(rows, SimpleNamespace(history="user", holdout_share=share))  # type: ignore[arg-type]


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=60), st.floats(0.05, 0.5))
@settings(max_examples=40, deadline=None)
def test_of_a_history_the_newest_rows_are_held_out_and_none_comes_back(users: list[str], share: float) -> None:
    train, holdout = history(users, share)
    assert train.height + holdout.height == len(users)
    for user in set(users):
        mine, held = (side.filter(pl.col("user") == user)["place"].to_list() for side in (train, holdout))
        assert not mine or not held or max(mine) < min(held)
        assert len(held) >= share * len(mine + held) or len(mine + held) == 1
    before = history(users[:-1], share)[0]["place"].to_list()
    assert set(before) <= set(train["place"].to_list())


def test_a_repeated_row_of_a_history_counts_once() -> None:
    rows = pl.DataFrame({"user": ["a"] * 5, "_key": ["1" * 64, "2" * 64, "1" * 64, "3" * 64, "2" * 64]})
    train, holdout = sides(rows, SimpleNamespace(history="user", holdout_share=0.2))  # type: ignore[arg-type]
    assert train["_key"].to_list() == ["1" * 64, "2" * 64]
    assert holdout["_key"].to_list() == ["3" * 64]


@given(st.lists(st.tuples(st.floats(0, 120) | st.none(), st.sampled_from(["male", "female"])), min_size=2, max_size=20))
@settings(max_examples=30, deadline=None)
def test_equal_rows_have_equal_keys_and_others_have_not(cells: list[tuple[float | None, str]]) -> None:
    count = len(cells)
    rows = pl.DataFrame(
        {
            column.name: pl.Series(
                [TITANIC.example.get(column.name)] * count, dtype=source.DTYPES.get(column.kind, pl.String)
            )
            for column in TITANIC.schema.features
        }
    ).with_columns(age=pl.Series([age for age, _ in cells], dtype=pl.Float64), sex=pl.Series([sex for _, sex in cells]))
    found = keys(rows, TITANIC).to_list()
    for left in range(count):
        for right in range(count):
            assert (found[left] == found[right]) == (cells[left] == cells[right])


@given(st.lists(st.text(max_size=8), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_any_cell_is_either_kept_or_refused_with_its_text(cells: list[str]) -> None:
    typical = {name: None if value is None else str(value) for name, value in TITANIC.example.items()}
    rows = pl.DataFrame({name: pl.Series([typical[name]] * len(cells), dtype=pl.String) for name in typical})
    rows = rows.with_columns(fare=pl.Series(cells, dtype=pl.String), survived=pl.lit("1"))
    reasons = refused(rows, TITANIC.schema)
    kept = source.conform(rows, TITANIC.schema)
    for place, cell in enumerate(cells):
        value = kept["fare"][place]
        right = value is not None and 0 <= value <= 10_000
        assert right == (place not in reasons), cell
        assert right or "fare" in reasons[place]


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=6),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
def test_csv_reads_what_csv_writes(rows: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([["a", "b", "c"], *rows])
    assert [list(row) for row in source.read_csv(out.getvalue().encode()).iter_rows()] == rows
