"""What goes and what stays, decided from a listing alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from phaseflow import Keep
from phaseflow.retention import Item, Needs, needs_of, plan, summary
from phaseflow.store import Entry

KEEP, NO_NEEDS = Keep(), Needs()
NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)


def entry(key: str, days: float = 0.0, size: int = 10) -> Entry:
    return Entry(key, (NOW - timedelta(days=days)).timestamp(), "", size)


def decided(
    *entries: Entry,
    keep: Keep = KEEP,
    needs: Needs = NO_NEEDS,
    manifests: Mapping[str, Mapping[str, Any]] | None = None,
    reports: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Item]:
    groups: dict[str, list[Entry]] = {}
    for one in entries:
        groups.setdefault(one.key.split("/")[0], []).append(one)
    items = plan(groups, keep, needs, NOW, manifests=manifests or {}, reports=reports or {})
    return {f"{item.kind} {item.name}": item for item in items}


def snapshots(*names: str) -> tuple[list[Entry], dict[str, dict[str, Any]]]:
    """Whole ones, each a day older than the next; the last is the newest, thirty days old."""
    entries, manifests = [], {}
    for age, name in enumerate(reversed(names), start=30):
        entries += [
            entry(f"datasets/toy/{name}/{file}", age) for file in ("holdout.parquet", "manifest.json", "train.parquet")
        ]
        manifests[name] = {"created": (NOW - timedelta(days=age)).isoformat()}
    return entries, manifests


def test_an_hour_of_the_log_goes_when_its_end_is_too_old() -> None:
    found = decided(
        entry("predictions/toy/date=2026-05-02/hour=11/a.parquet"),
        entry("predictions/toy/date=2026-05-02/hour=11/b.parquet"),
        entry("predictions/toy/date=2026-05-02/hour=12/c.parquet"),  # its last rows are 30 days old less half an hour
        entry("feedback/toy/date=2026-05-02/hour=11/d.parquet"),
        keep=Keep(log_days=30),
    )
    assert found["predictions 2026-05-02T11"].keys == (
        "predictions/toy/date=2026-05-02/hour=11/a.parquet",
        "predictions/toy/date=2026-05-02/hour=11/b.parquet",
    )
    assert found["predictions 2026-05-02T11"].why == "older than 30 days"
    assert not found["predictions later hours"].remove
    assert found["feedback 2026-05-02T11"].remove


def test_what_the_platform_did_not_write_stays() -> None:
    found = decided(
        entry("predictions/toy/notes.txt", 999),
        entry("predictions/toy/date=2026-02-30/hour=11/a.parquet", 999),
        entry("datasets/toy/readme.md", 999),
        entry("staging/toy/stray.parquet", 999),
    )
    assert not any(item.remove for item in found.values())


def test_what_is_aged_goes_by_its_last_write_or_by_its_name() -> None:
    found = decided(
        entry("staging/toy/old/raw.parquet", 9),
        entry("staging/toy/old/valid.parquet", 8),
        entry("staging/toy/retried/raw.parquet", 9),
        entry("staging/toy/retried/valid.parquet", 1),
        entry("quarantine/toy/old.parquet", 31),
        entry("events/toy/20250101T000000.000000Z-run-1.json", 0),
        entry("events/toy/20260501T000000.000000Z-run-2.json", 999),  # its name is the time, whatever a copy's is
        entry("reports/toy/20260101T000000Z/report.html"),
        entry("reports/toy/20260101T000000Z/report.json"),
    )
    removed = {name for name, item in found.items() if item.remove}
    assert removed == {"staging old", "quarantine old", "events 20250101T000000.000000Z-run-1"}
    assert found["reports 20260101T000000Z"].why == "the newest"


def test_a_report_loses_first_what_makes_it_one() -> None:
    found = decided(
        *(entry(f"reports/toy/20260{month}01T000000Z/{file}") for month in (1, 5) for file in ("a.html", "report.json"))
    )
    assert found["reports 20260101T000000Z"].keys == (
        "reports/toy/20260101T000000Z/report.json",
        "reports/toy/20260101T000000Z/a.html",
    )


def test_snapshots_that_something_needs_stay() -> None:
    entries, manifests = snapshots("a", "b", "c", "d", "e", "f")
    found = decided(
        *entries,
        entry("reports/toy/20260531T000000Z/report.json"),
        keep=Keep(snapshots=2),
        needs=needs_of(
            [
                {"version": "7", "aliases": ["champion"], "snapshot": "a", "run": "r7"},
                {"version": "8", "aliases": [], "snapshot": "b", "run": "r8"},
            ]
        ),
        manifests=manifests,
        reports={"20260531T000000Z": {"snapshot": "c"}},
    )
    why = {name: found[f"snapshots {name}"].why for name in manifests}
    assert why == {
        "a": "the alias champion (version 7) needs it",
        "b": "beyond the newest 2",
        "c": "the report 20260531T000000Z needs it",
        "d": "beyond the newest 2",
        "e": "one of the newest 2",
        "f": "the newest",
    }
    assert {name for name in manifests if found[f"snapshots {name}"].remove} == {"b", "d"}
    assert found["snapshots b"].keys[0] == "datasets/toy/b/manifest.json"


def test_without_an_answer_of_mlflow_nothing_goes_that_an_alias_may_need() -> None:
    entries, manifests = snapshots("a", "b")
    found = decided(
        *entries,
        entry("runs/toy/r1/verdict.json", 999),
        entry("staging/toy/r1/raw.parquet", 999),
        keep=Keep(snapshots=1),
        needs=needs_of(None),
        manifests=manifests,
    )
    assert {name for name, item in found.items() if item.remove} == {"staging r1"}
    assert found["snapshots a"].why == found["runs r1"].why == "MLflow did not say which ones its aliases need"


def test_of_the_states_that_snapshots_extend_the_newest_stays_wherever_it_is() -> None:
    entries, manifests = snapshots("a", "b")
    found = decided(
        *entries,
        entry("datasets/toy/a/state-20260501T100000000000Z.state", 31),  # the source went back to the rows of a
        entry("datasets/toy/b/state-20260430T100000000000Z.state", 32),
        entry("datasets/toy/a/state-20260429T100000000000Z.state", 0.5),
        keep=Keep(snapshots=1),
        manifests=manifests,
    )
    states = {name.rpartition("-")[2][:8]: (item.remove, item.why) for name, item in found.items() if "state" in name}
    assert states == {
        "20260501": (False, "the next snapshot extends it"),
        "20260430": (True, "a newer one is extended"),
        "20260429": (False, "younger than a day: a run may read it"),
    }
    assert found["snapshots a"].keys == tuple(
        f"datasets/toy/a/{file}" for file in ("manifest.json", "holdout.parquet", "train.parquet")
    )


def test_half_a_snapshot_goes_after_a_day() -> None:
    found = decided(
        entry("datasets/toy/young/train.parquet", 0.5),
        entry("datasets/toy/old/train.parquet", 1.5),
        entry("datasets/toy/gone/erased.json", 99),  # it says under which hash the rows are now
    )
    assert found["snapshots young"].why == "younger than a day: a step may be writing it"
    assert found["snapshots old"].remove
    assert "snapshots gone" not in found


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.integers(1, 5), st.sampled_from("abcdefgh"))
def test_no_plan_removes_the_newest_or_what_an_alias_needs(names: set[str], most: int, needed: str) -> None:
    entries, manifests = snapshots(*sorted(names))
    found = decided(*entries, keep=Keep(snapshots=most), needs=Needs(snapshots={needed: "why"}), manifests=manifests)
    stay = {name for name in names if not found[f"snapshots {name}"].remove}
    newest = sorted(names)[-most:]
    assert stay == set(newest) | ({needed} & names)


def test_the_summary_counts_by_reason() -> None:
    items = [
        Item(kind="staging", name=f"r{number}", count=2, size=100, remove=True, why="older than 7 days")
        for number in range(5)
    ]
    assert summary([*items, Item(kind="staging", name="r9", size=1, why="within 7 days")]) == [
        {
            "what": "staging",
            "remove": True,
            "count": 10,
            "bytes": 500,
            "why": "older than 7 days",
            "names": ["r0", "r1", "r2"],
        },
        {"what": "staging", "remove": False, "count": 1, "bytes": 1, "why": "within 7 days", "names": ["r9"]},
    ]
