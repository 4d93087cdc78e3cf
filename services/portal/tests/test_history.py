from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phaseflow import events
from phaseflow.store import Store
from services.portal import history

CHECKS = [
    {"check": "roc_auc", "observed": 0.8714123, "required": ">= 0.74", "passed": True},
    {"check": "gain", "observed": -0.0041, "required": ">= 0.002", "passed": False},
]
VERDICT = {
    "project": "titanic",
    "run": "manual__1",
    "passed": False,
    "candidate": "random_forest",
    "version": "4",
    "champion": "3",
    "metrics": {"roc_auc": 0.86},
    "champion_metrics": {"roc_auc": 0.87},
    "checks": CHECKS,
    "created": "2026-11-24T10:00:00+00:00",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_the_latest_events_come_first_up_to_the_limit(store: Store) -> None:
    for number in range(5):
        events.record(store, "titanic", "promotion", {"version": str(number)}, source="test")
    latest = history.events(store, "titanic", 2)
    assert [event.summary for event in latest] == ["version 4 is champion", "version 3 is champion"]
    assert latest[0].time >= latest[1].time > 1e9


def test_many_alerts_hide_no_promotion(store: Store) -> None:
    events.record(store, "titanic", "promotion", {"version": "3"}, source="test")
    for _ in range(5):
        events.record(store, "titanic", "alert", {"alert": "FeatureDrift"}, source="test")
    assert [e.type for e in history.events(store, "titanic", 2)] == ["alert", "alert"]
    assert [e.type for e in history.events(store, "titanic", 2, without=frozenset({"alert"}))] == ["promotion"]
    newest = history.latest(store, "titanic", "promotion")
    assert newest is not None
    assert newest.summary == "version 3 is champion"
    assert history.latest(store, "titanic", "rollback") is None


@pytest.mark.parametrize(
    ("kind", "data", "summary", "tone"),
    [
        ("promotion", {"version": "3", "previous": "2"}, "version 3 is champion, was version 2", "ok"),
        ("rollback", {"version": "2", "reason": "it errs"}, "back to version 2: it errs", "warn"),
        (
            "verdict",
            VERDICT,
            "random_forest (version 4) did not pass the gate: gain is -0.0041, allowed >= 0.002",
            "warn",
        ),
        ("retraining", {"outcome": "triggered", "reason": "PSI 0.5"}, "triggered: PSI 0.5", "active"),
        ("snapshot", {"snapshot": "datasets/titanic/8c31", "train_rows": 668}, "8c31: 668 for training", ""),
        ("alert", {"alert": "FeatureDrift", "status": "resolved"}, "FeatureDrift resolved", "ok"),
        ("swap", {"from": "1", "to": "2"}, "the service now serves version 2", "ok"),
        ("run", {"run": "manual__1", "state": "failed", "reason": "by hand"}, "manual__1 failed", "bad"),
        ("swing", {"reason": "music", "nested": {}}, "reason music", ""),
    ],
)
def test_an_event_is_a_sentence(kind: str, data: dict[str, Any], summary: str, tone: str) -> None:
    assert history.describe(kind, data) == (summary, tone)


def test_verdicts_are_read_completely_and_newest_first(store: Store) -> None:
    store.write("runs/titanic/manual__1/verdict.json", json.dumps(VERDICT).encode())
    newer = VERDICT | {"run": "manual__2", "created": "2026-11-24T11:00:00+00:00", "champion_metrics": None}
    store.write("runs/titanic/manual__2/verdict.json", json.dumps(newer).encode())
    second, first = history.verdicts(store, "titanic", 5)
    assert (second.run, first.run) == ("manual__2", "manual__1")
    assert second.champion_metrics == {}
    assert first.checks[0] == history.Check(check="roc_auc", observed="0.8714", required=">= 0.74", passed=True)


def test_unreadable_files_are_skipped(store: Store) -> None:
    for content in (b"", b"[]", b'{"run": 1}', b"\xff", json.dumps(VERDICT | {"checks": [1]}).encode()):
        store.write(f"runs/titanic/r{len(content)}/verdict.json", content)
        store.write(f"events/titanic/2026-{len(content)}-x.json", content)
    assert history.verdicts(store, "titanic", 9) == []
    assert history.events(store, "titanic", 9) == []
    assert history.events(Store("s3://bucket"), "titanic", 9) == []


def test_the_last_report(store: Store) -> None:
    assert history.last_report(store, "titanic") is None
    for window in ("20261124T100000Z", "20261123T100000Z"):
        store.write(f"reports/titanic/{window}/report.json", b"x")
    assert history.last_report(store, "titanic") == ("20261124T100000Z", 1795514400.0)
