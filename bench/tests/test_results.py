"""The table of projects: which run it shows, and of whom."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import results
from phaseflow import registry
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT
from phaseflow.store import Store

METRIC = registry.get("titanic").primary.name


def ran(store: Store, run: str, created: str, value: float, champion: float | None = None, **changed: Any) -> None:
    """A run's verdict in the store."""
    figures = {"metrics": {METRIC: value}, "seconds": 1.0, "latency_ms": 0.5, "size_mb": 0.01}
    verdict = {
        "run": run,
        "created": created,
        "passed": True,
        "candidate": "ridge",
        "champion": None if champion is None else "1",
        "metrics": {METRIC: value},
        "champion_metrics": None if champion is None else {METRIC: champion},
        "candidates": {"logistic_regression": figures, "ridge": figures},
    }
    store.write(f"runs/titanic/{run}/verdict.json", json.dumps(verdict | changed).encode())


def test_a_first_training_and_the_answer_to_an_alert_are_told_apart(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    ran(store, "manual__1", "2026-01-01T00:00:00", 0.7)
    ran(store, "retrain__2", "2026-01-02T00:00:00", 0.9, champion=0.6)
    ran(store, "manual__3", "2026-01-03T00:00:00", 0.8)  # on a fresh platform
    ran(store, "manual__4", "2026-01-04T00:00:00", 0.95, champion=0.8)  # asked for by a person: no alert
    ran(store, "retrain__5", "2026-01-05T00:00:00", 0.5, champion=0.8, passed=False)
    found = results.last(store, registry.get("titanic"))
    assert found["first"]["candidates"]["ridge"]["metrics"] == {METRIC: 0.8}
    assert found["retrained"] == {"champion": 0.6, "winner": 0.9, "day": "2026-01-02"}
    assert "| 0.8 (ridge) | 0.6 | 0.9 |" in results.table({"titanic": found})


def test_what_has_no_run_here_stays_as_it_is_known(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    ran(store, "manual__1", "2026-01-01T00:00:00", 0.7)
    known = {"titanic": {"retrained": {"champion": 0.1}}, "house_prices": {"first": {"winner": "ridge"}}}
    found = results.collect(store, known)
    assert found["titanic"].keys() == {"first", "retrained"}
    assert found["house_prices"] == known["house_prices"]


def test_a_store_without_a_run_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"There is no run in .*bin/phaseflow demo"):
        results.collect(Store(str(tmp_path)), {})


def test_every_row_is_of_a_project_and_of_a_candidate_that_it_declares() -> None:
    known = json.loads(results.FILE.read_text())
    assert known
    for name, both in known.items():
        declared = [candidate.name for candidate in registry.get(name).candidates]
        assert sorted(both["first"]["candidates"]) == sorted(declared)
        assert both["first"]["winner"] in declared


def test_every_project_has_its_figures_of_both_worlds() -> None:
    """Of every project that is committed: one that someone has just begun needs none yet."""
    listed = subprocess.run(
        ["git", "ls-files", "projects/*/project.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {Path(line).parent.name for line in listed.stdout.splitlines()}
    assert len(names) >= 10
    known = json.loads(results.FILE.read_text())
    missing = sorted(name for name in names if {"first", "retrained"} - known.get(name, {}).keys())
    assert missing == [], "run `bin/phaseflow demo NAME` for each, then `.venvs/command/bin/python -m bench.results`"
