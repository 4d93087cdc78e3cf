"""What is counted does not grow by what strangers send, nor fall with one wrong project."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import generate_latest

import projects
from phaseflow import registry
from phaseflow.settings import from_environment
from phaseflow.store import Store
from services.serving import observed as module
from services.serving.manager import Manager
from services.serving.observed import SLICE_VALUES, Observed

HOUSES = registry.get("house_prices")


@pytest.fixture
def observed(tmp_path: Path) -> Observed:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    return Observed(Manager(settings, Store(settings.store)), settings, lambda: 0)


def test_a_slice_has_few_values_whatever_is_sent(observed: Observed) -> None:
    (column,) = (part.column for part in HOUSES.gate.slices)
    words = [f"word-{number}" for number in range(1000)]
    observed.recall((word, ("house_prices", "1", 1.0, (word,))) for word in words)
    for word in words:
        observed.truth(HOUSES, word, 3.0)
    values = {value for _, _, _, name, value in observed.losses if name == column}
    assert len(values) <= SLICE_VALUES + 1
    assert "(other)" in values
    assert observed.losses["house_prices", "1", "absolute", "all", "all"] == [2000.0, 1000]
    squared = [count for key, (_, count) in observed.losses.items() if key[2:4] == ("squared", column)]
    assert sum(squared) == 1000


def test_a_truth_of_another_projects_answer_counts_for_nobody(observed: Observed) -> None:
    observed.recall([("a", ("titanic", "1", "0", ("male",)))])
    observed.truth(HOUSES, "a", 3.0)
    assert observed.feedback == {("house_prices", ""): 1}
    observed.truth(registry.get("titanic"), "a", "0")
    assert observed.feedback["titanic", "1"] == 1


def test_the_newest_answers_are_remembered(observed: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    observed.recall((str(number), ("house_prices", "1", 1.0, ("Y",))) for number in range(25))
    for number in range(25):
        observed.truth(HOUSES, str(number), 1.0)
    assert observed.feedback == {("house_prices", ""): 15, ("house_prices", "1"): 10}


def test_a_wrong_declaration_leaves_the_others_their_metrics(
    observed: Observed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "project.py").write_text("project = Project(")
    monkeypatch.setattr(projects, "__path__", [*projects.__path__, str(tmp_path)])
    assert "broken" in registry.names()
    for _ in range(2):
        assert b'phaseflow_drift_threshold{project="titanic"}' in generate_latest(observed.registry)
    assert caplog.text.count("broken is left out: SyntaxError") == 1
