"""Extract, validate and snapshot on valid and invalid data."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from phaseflow import DataError, discovery, events
from phaseflow.settings import ROOT, Settings, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source
from pipelines.etl.extract import extract, parquet
from pipelines.etl.parts import COLUMNS
from pipelines.etl.snapshot import snapshot
from pipelines.etl.tests.steps import TITANIC, run, sample_csv
from pipelines.etl.validate import refused, validate


def test_the_three_steps_are_idempotent(settings: Settings) -> None:
    first = run(settings, sample_csv())
    again = run(settings, sample_csv(), name="r2")
    assert first["source"] == "mirror"
    assert first["new"]
    assert not again["new"]
    assert first["snapshot"] == again["snapshot"]
    assert first["train_rows"] + first["holdout_rows"] == first["rows"]
    recorded = events.read(Store(settings.store), "titanic")
    assert [event["type"] for event in recorded] == ["dev.phaseflow.snapshot"]
    manifest = json.loads(Store(settings.store).read(f"datasets/titanic/{first['snapshot']}/manifest.json"))
    assert {"source", "sha256", "rows", "schema", "created", "parent"} <= manifest.keys()
    assert manifest["format"] == 2
    assert {"watermark", "state"} <= manifest.keys()


def test_images_become_a_snapshot_and_a_truncated_one_is_quarantined(tmp_path: Path) -> None:
    project = discovery.get("from_scratch")
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    store = Store(settings.store)
    extracted = extract(project, "r1", settings, store)
    raw = pl.read_parquet(store.read(extracted["raw"]))
    torn = raw.with_columns(image=pl.Series([b"short", *raw["image"][1:].to_list()], dtype=pl.Binary))
    store.write(extracted["raw"], parquet(torn))
    checked = validate(project, "r1", store)
    assert (checked["rows"], checked["quarantined"]) == (1796, 1)
    reason = pl.read_parquet(store.read(checked["quarantine"]))["reason"][0]
    assert reason == "image: 5 bytes is not an image of 8 x 8 x 1, which has 64 bytes"
    first = snapshot(project, "r1", store, extracted)
    again = snapshot(project, "r1", store, extracted)
    assert first["snapshot"] == again["snapshot"]
    train = pl.read_parquet(store.read(f"datasets/from_scratch/{first['snapshot']}/train.parquet"))
    assert train["image"].dtype == pl.Binary
    assert set(train["image"].to_list()) < set(raw["image"].to_list())


def test_without_a_target_every_logged_row_is_feedback(tmp_path: Path) -> None:
    project = discovery.get("customer_segments")
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    store = Store(settings.store)
    rows = pl.DataFrame(
        {"id": ["a-0", "b-0"], "time": [datetime(2026, 1, 1, tzinfo=UTC)] * 2, "version": ["1"] * 2}
        | {name: [5, 6] for name in project.schema.feature_names}
        | {"prediction": ["much milk"] * 2}
    )
    store.write("predictions/customer_segments/date=2026-01-01/hour=00/x.parquet", parquet(rows))
    extracted = extract(project, "r1", settings, store)
    validate(project, "r1", store)
    result = snapshot(project, "r1", store, extracted)
    assert result["feedback_rows"] == 2
    folder = f"datasets/customer_segments/{result['snapshot']}"
    snapshot_rows = pl.concat(
        [pl.read_parquet(store.read(f"{folder}/{side}.parquet")) for side in ("train", "holdout")]
    )
    assert snapshot_rows.columns == [*project.schema.feature_names, *COLUMNS]
    assert sorted(snapshot_rows.filter(pl.col("_origin") == "feedback")["milk"]) == [5, 6]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "The CSV holds nothing. Get the file again."),
        (b"PassengerId,Survived\n", "The CSV holds a header and no rows. Get the file again."),
        (b"\xff\xfe\x00a", "The file is not UTF-8: byte 0 is 0xff. Convert it to UTF-8."),
    ],
)
def test_an_empty_or_foreign_file_is_named(settings: Settings, content: bytes, text: str) -> None:
    with pytest.raises(DataError) as caught:
        run(settings, content)
    assert str(caught.value) == text


def test_a_truncated_file_is_named(settings: Settings) -> None:
    whole = sample_csv()
    with pytest.raises(
        DataError, match=r"last row has \d+ cells, the header 12\. Get the file again: it looks truncated\."
    ):
        run(settings, whole[: whole.rindex(b",")])
    with pytest.raises(DataError, match=r"breaks off at line \d+: .*it looks truncated\."):
        run(settings, whole + b'900,1,1,"Braund, Mr')


def test_a_renamed_column_gets_a_suggestion(settings: Settings) -> None:
    with pytest.raises(DataError) as caught:
        run(settings, sample_csv(rename={"Fare": "Fares"}))
    assert "The source of titanic lacks a column" in str(caught.value)
    assert str(caught.value).endswith('Did you mean "Fares"?')


def test_a_retyped_column_fails_the_run_and_loses_nothing(settings: Settings) -> None:
    with pytest.raises(DataError) as caught:
        run(settings, sample_csv(column="Fare", value="cheap"))
    assert (
        "891 of 891 rows of titanic are refused, the first is row 1: fare: 'cheap' is not a number; allowed: 5%"
        in str(caught.value)
    )
    quarantine = pl.read_parquet(Store(settings.store).path("quarantine/titanic/r1.parquet"))
    assert quarantine.height == 891
    assert quarantine["reason"][0].startswith("fare: 'cheap' is not a number")


def test_a_few_bad_rows_are_quarantined_with_their_reason(settings: Settings) -> None:
    result = run(settings, sample_csv(column="Pclass", value="9", rows=10))
    assert (result["quarantined"], result["rows"]) == (10, 881)
    quarantine = pl.read_parquet(Store(settings.store).path(result["quarantine"]))
    assert quarantine["row"].to_list() == list(range(10))
    assert all(reason.startswith("pclass: '9' fails isin") for reason in quarantine["reason"])


def test_a_target_of_one_class_fails_the_run(settings: Settings) -> None:
    with pytest.raises(DataError) as caught:
        run(settings, sample_csv(column="Survived", value="1"))
    assert (
        str(caught.value) == "The target survived of titanic holds one class: ['1']. Give rows of at least two classes."
    )


def test_too_few_rows_fail_the_run(settings: Settings) -> None:
    with pytest.raises(DataError, match=r"The mirror of titanic holds 9 rows; allowed: 200 or more"):
        run(settings, sample_csv(keep=lambda row: int(row[0]) < 10))


def test_the_command_ends_with_2_and_the_error_last(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "titanic.csv").write_bytes(b"")
    completed = subprocess.run(
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
    assert completed.returncode == 2
    assert completed.stderr.strip().splitlines()[-2].partition(" ERROR etl: ")[2] == (
        f"{tmp_path}/titanic.csv has SHA-256 {hashlib.sha256(b'').hexdigest()}; the source of titanic says "
        f"{discovery.get('titanic').source.sha256}. Put the file with that checksum there; if this one is right, name its checksum "
        "in Source.mirror_sha256 of the project."
    )
    assert not (tmp_path / "x").exists()


@given(st.lists(st.text(max_size=8), min_size=1, max_size=30))
@hypothesis_settings(max_examples=40, deadline=None)
def test_any_cell_is_either_kept_or_refused_with_its_text(cells: list[str]) -> None:
    typical = {name: None if value is None else str(value) for name, value in TITANIC.example.items()}
    rows = pl.DataFrame({name: pl.Series([typical[name]] * len(cells), dtype=pl.String) for name in typical})
    rows = rows.with_columns(fare=pl.Series(cells, dtype=pl.String), survived=pl.lit("1"))
    reasons = refused(rows, TITANIC.schema)
    conformed = source.conform(rows, TITANIC.schema)
    for index, cell in enumerate(cells):
        value = conformed["fare"][index]
        right = value is not None and 0 <= value <= 10_000
        assert right == (index not in reasons), cell
        assert right or "fare" in reasons[index]


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
@hypothesis_settings(max_examples=40, deadline=None)
def test_csv_reads_what_csv_writes(rows: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([["a", "b", "c"], *rows])
    assert [list(row) for row in source.read_csv(out.getvalue().encode()).iter_rows()] == rows
