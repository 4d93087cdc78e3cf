"""The retention plan: which items are removed and which stay."""

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


def plan_items(
    *entries: Entry,
    keep: Keep = KEEP,
    needs: Needs = NO_NEEDS,
    manifests: Mapping[str, Mapping[str, Any]] | None = None,
    reports: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Item]:
    groups: dict[str, list[Entry]] = {}
    for item in entries:
        groups.setdefault(item.key.split("/")[0], []).append(item)
    items = plan(groups, keep, needs, NOW, manifests=manifests or {}, reports=reports or {})
    return {f"{item.kind} {item.name}": item for item in items}


def snapshots(*names: str) -> tuple[list[Entry], dict[str, dict[str, Any]]]:
    """Create complete snapshots, each a day older than the next. The last is the newest and thirty days old."""
    entries, manifests = [], {}
    for age, name in enumerate(reversed(names), start=30):
        entries += [
            entry(f"datasets/toy/{name}/{file}", age) for file in ("holdout.parquet", "manifest.json", "train.parquet")
        ]
        manifests[name] = {"created": (NOW - timedelta(days=age)).isoformat()}
    return entries, manifests


def test_an_hour_of_the_log_is_removed_when_its_end_is_too_old() -> None:
    items = plan_items(
        entry("predictions/toy/date=2026-05-02/hour=11/a.parquet"),
        entry("predictions/toy/date=2026-05-02/hour=11/b.parquet"),
        # The last rows of this hour are half an hour younger than 30 days.
        entry("predictions/toy/date=2026-05-02/hour=12/c.parquet"),
        entry("feedback/toy/date=2026-05-02/hour=11/d.parquet"),
        keep=Keep(log_days=30),
    )
    assert items["predictions 2026-05-02T11"].keys == (
        "predictions/toy/date=2026-05-02/hour=11/a.parquet",
        "predictions/toy/date=2026-05-02/hour=11/b.parquet",
    )
    assert items["predictions 2026-05-02T11"].why == "older than 30 days"
    assert not items["predictions later hours"].remove
    assert items["feedback 2026-05-02T11"].remove


def test_objects_of_other_programs_stay() -> None:
    items = plan_items(
        entry("predictions/toy/notes.txt", 999),
        entry("predictions/toy/date=2026-02-30/hour=11/a.parquet", 999),
        entry("datasets/toy/readme.md", 999),
        entry("staging/toy/stray.parquet", 999),
    )
    assert not any(item.remove for item in items.values())


def test_the_age_is_the_time_in_the_name_or_of_the_last_write() -> None:
    items = plan_items(
        entry("staging/toy/old/raw.parquet", 9),
        entry("staging/toy/old/valid.parquet", 8),
        entry("staging/toy/retried/raw.parquet", 9),
        entry("staging/toy/retried/valid.parquet", 1),
        entry("quarantine/toy/old.parquet", 31),
        entry("events/toy/20250101T000000.000000Z-run-1.json", 0),
        # The time in its name counts, not that of the file.
        entry("events/toy/20260501T000000.000000Z-run-2.json", 999),
        entry("reports/toy/20260101T000000Z/report.html"),
        entry("reports/toy/20260101T000000Z/report.json"),
    )
    removed = {name for name, item in items.items() if item.remove}
    assert removed == {"staging old", "quarantine old", "events 20250101T000000.000000Z-run-1"}
    assert items["reports 20260101T000000Z"].why == "the newest"


def test_the_main_file_of_a_report_is_removed_first() -> None:
    items = plan_items(
        *(entry(f"reports/toy/20260{month}01T000000Z/{file}") for month in (1, 5) for file in ("a.html", "report.json"))
    )
    assert items["reports 20260101T000000Z"].keys == (
        "reports/toy/20260101T000000Z/report.json",
        "reports/toy/20260101T000000Z/a.html",
    )


def test_snapshots_that_are_needed_stay() -> None:
    entries, manifests = snapshots("a", "b", "c", "d", "e", "f")
    items = plan_items(
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
    why = {name: items[f"snapshots {name}"].why for name in manifests}
    assert why == {
        "a": "the alias champion (version 7) needs it",
        "b": "beyond the newest 2",
        "c": "the report 20260531T000000Z needs it",
        "d": "beyond the newest 2",
        "e": "one of the newest 2",
        "f": "the newest",
    }
    assert {name for name in manifests if items[f"snapshots {name}"].remove} == {"b", "d"}
    assert items["snapshots b"].keys[0] == "datasets/toy/b/manifest.json"


def test_without_a_response_of_mlflow_everything_that_an_alias_may_need_stays() -> None:
    entries, manifests = snapshots("a", "b")
    items = plan_items(
        *entries,
        entry("runs/toy/r1/verdict.json", 999),
        entry("staging/toy/r1/raw.parquet", 999),
        keep=Keep(snapshots=1),
        needs=needs_of(None),
        manifests=manifests,
    )
    assert {name for name, item in items.items() if item.remove} == {"staging r1"}
    assert items["snapshots a"].why == items["runs r1"].why == "MLflow did not say which ones its aliases need"


def test_the_newest_state_stays_in_whichever_snapshot_it_is() -> None:
    entries, manifests = snapshots("a", "b")
    items = plan_items(
        *entries,
        entry("datasets/toy/a/state-20260501T100000000000Z.state", 31),  # the source returned to the rows of a
        entry("datasets/toy/b/state-20260430T100000000000Z.state", 32),
        entry("datasets/toy/a/state-20260429T100000000000Z.state", 0.5),
        keep=Keep(snapshots=1),
        manifests=manifests,
    )
    states = {name.rpartition("-")[2][:8]: (item.remove, item.why) for name, item in items.items() if "state" in name}
    assert states == {
        "20260501": (False, "the next snapshot extends it"),
        "20260430": (True, "a newer one is extended"),
        "20260429": (False, "younger than a day: a run may read it"),
    }
    assert items["snapshots a"].keys == tuple(
        f"datasets/toy/a/{file}" for file in ("manifest.json", "holdout.parquet", "train.parquet")
    )


def test_an_incomplete_snapshot_is_removed_after_a_day() -> None:
    items = plan_items(
        entry("datasets/toy/young/train.parquet", 0.5),
        entry("datasets/toy/old/train.parquet", 1.5),
        entry("datasets/toy/rewritten/erased.json", 99),  # the forward to the new snapshot
    )
    assert items["snapshots young"].why == "younger than a day: a step may be writing it"
    assert items["snapshots old"].remove
    assert "snapshots rewritten" not in items


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.integers(1, 5), st.sampled_from("abcdefgh"))
def test_the_newest_snapshots_and_those_of_aliases_always_stay(names: set[str], limit: int, needed: str) -> None:
    entries, manifests = snapshots(*sorted(names))
    items = plan_items(
        *entries, keep=Keep(snapshots=limit), needs=Needs(snapshots={needed: "why"}), manifests=manifests
    )
    retained = {name for name in names if not items[f"snapshots {name}"].remove}
    newest = sorted(names)[-limit:]
    assert retained == set(newest) | ({needed} & names)


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
