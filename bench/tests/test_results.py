"""Tests of the selection of runs and of the rendered tables."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import results
from phaseflow import discovery
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT
from phaseflow.store import Store

METRIC = discovery.get("titanic").primary.name


def write_verdict(
    store: Store, run: str, created: str, value: float, champion: float | None = None, **overrides: Any
) -> None:
    """Write the verdict of a run to the store."""
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
    store.write(f"runs/titanic/{run}/verdict.json", json.dumps(verdict | overrides).encode())


def test_first_trainings_and_retrainings_after_an_alert_are_separate(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_verdict(store, "manual__1", "2026-01-01T00:00:00", 0.7)
    write_verdict(store, "retrain__2", "2026-01-02T00:00:00", 0.9, champion=0.6)
    write_verdict(store, "manual__3", "2026-01-03T00:00:00", 0.8)  # on a fresh platform
    write_verdict(store, "manual__4", "2026-01-04T00:00:00", 0.95, champion=0.8)  # started by a person, not by an alert
    write_verdict(store, "retrain__5", "2026-01-05T00:00:00", 0.5, champion=0.8, passed=False)
    result = results.last(store, discovery.get("titanic"))
    assert result["first"]["candidates"]["ridge"]["metrics"] == {METRIC: 0.8}
    assert result["retrained"] == {"champion": 0.6, "winner": 0.9, "day": "2026-01-02"}
    assert "| 0.8 (ridge) | 0.6 | 0.9 |" in results.table({"titanic": result})


def test_a_project_page_has_one_row_per_trained_candidate_and_keeps_its_other_text(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_verdict(store, "manual__1", "2026-01-01T00:00:00", 0.7)
    project = discovery.get("titanic")
    table = results.figures(project, {"titanic": results.last(store, project)})
    assert table.splitlines()[0].startswith("| candidate | roc auc | accuracy |")
    assert table.splitlines()[2:] == ["| `logistic_regression` | 0.7 |  |  |  |  |"]  # there is no candidate `ridge`
    page = f"before\n{results.BEGIN_FIGURES}old\n{results.END_FIGURES}after\n"
    new_page = results.between(page, results.BEGIN_FIGURES, results.END_FIGURES, table)
    assert new_page == f"before\n{results.BEGIN_FIGURES}{table}{results.END_FIGURES}after\n"
    assert results.between("a page without marks", results.BEGIN_FIGURES, results.END_FIGURES, table) is None


def test_the_table_has_the_strong_baseline() -> None:
    figures = {"metrics": {METRIC: 0.9}, "seconds": 1.0, "latency_ms": 0.5, "size_mb": 0.01}
    first, second, *_ = (candidate.name for candidate in discovery.get("titanic").candidates)
    run = {"winner": first, "candidates": {first: figures, second: figures | {"metrics": {METRIC: 0.8}}}}
    assert "| 0.9 (logistic regression) | 0.8 (average) | 0.9 (log" in results.table({"titanic": {"first": run}})


def test_every_project_page_is_current_and_names_its_strong_baseline() -> None:
    contents = results.pages(json.loads(results.FILE.read_text()))
    assert len(contents) >= 11
    assert [path for path, page in contents.items() if page != path.read_text()] == []
    assert [
        path for path, page in contents.items() if path != results.README and "**The strong baseline" not in page
    ] == []


def test_projects_without_a_run_keep_their_previous_results(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_verdict(store, "manual__1", "2026-01-01T00:00:00", 0.7)
    previous = {"titanic": {"retrained": {"champion": 0.1}}, "house_prices": {"first": {"winner": "ridge"}}}
    collected = results.collect(store, previous)
    assert collected["titanic"].keys() == {"first", "retrained"}
    assert collected["house_prices"] == previous["house_prices"]


def test_the_error_for_a_store_without_runs_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"There is no run in .*bin/phaseflow demo"):
        results.collect(Store(str(tmp_path)), {})


def test_the_results_match_the_declared_projects_and_candidates() -> None:
    recorded = json.loads(results.FILE.read_text())
    assert recorded
    for name, runs in recorded.items():
        candidates = [candidate.name for candidate in discovery.get(name).candidates]
        assert sorted(runs["first"]["candidates"]) == sorted(candidates)
        assert runs["first"]["winner"] in candidates


def test_every_committed_project_has_a_first_training_and_a_retraining() -> None:
    """A new project needs results only when it is committed."""
    completed = subprocess.run(
        ["git", "ls-files", "projects/*/project.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {Path(line).parent.name for line in completed.stdout.splitlines()}
    assert len(names) >= 10
    recorded = json.loads(results.FILE.read_text())
    missing = sorted(name for name in names if {"first", "retrained"} - recorded.get(name, {}).keys())
    assert missing == [], "run `bin/phaseflow demo NAME` for each, then `.venvs/command/bin/python -m bench.results`"
