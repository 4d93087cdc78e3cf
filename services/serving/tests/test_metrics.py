"""Metrics stay bounded whatever clients send, and one invalid project does not affect the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import generate_latest

from phaseflow import discovery
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.testing import more_projects
from services.serving import metrics as module
from services.serving.manager import Manager
from services.serving.metrics import SLICE_VALUES, ServiceMetrics

HOUSES = discovery.get("house_prices")


@pytest.fixture
def metrics(tmp_path: Path) -> ServiceMetrics:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path)})
    return ServiceMetrics(Manager(settings, Store(settings.store)), settings, lambda: 0)


def test_a_slice_has_few_values_whatever_is_sent(metrics: ServiceMetrics) -> None:
    (column,) = (part.column for part in HOUSES.gate.slices)
    words = [f"word-{number}" for number in range(1000)]
    metrics.restore((word, ("house_prices", "1", 1.0, (word,))) for word in words)
    for word in words:
        metrics.record_label(HOUSES, word, 3.0)
    values = {value for _, _, _, name, value in metrics.losses if name == column}
    assert len(values) <= SLICE_VALUES + 1
    assert "(other)" in values
    assert metrics.losses["house_prices", "1", "absolute", "all", "all"] == [2000.0, 1000]
    squared = [count for key, (_, count) in metrics.losses.items() if key[2:4] == ("squared", column)]
    assert sum(squared) == 1000


def test_a_label_of_another_projects_answer_counts_for_nobody(metrics: ServiceMetrics) -> None:
    metrics.restore([("a", ("titanic", "1", "0", ("male",)))])
    metrics.record_label(HOUSES, "a", 3.0)
    assert metrics.feedback == {("house_prices", ""): 1}
    metrics.record_label(discovery.get("titanic"), "a", "0")
    assert metrics.feedback["titanic", "1"] == 1


def test_the_newest_answers_are_remembered(metrics: ServiceMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 10)
    metrics.restore((str(number), ("house_prices", "1", 1.0, ("Y",))) for number in range(25))
    for number in range(25):
        metrics.record_label(HOUSES, str(number), 1.0)
    assert metrics.feedback == {("house_prices", ""): 15, ("house_prices", "1"): 10}


def test_a_wrong_declaration_leaves_the_others_their_metrics(
    metrics: ServiceMetrics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "project.py").write_text("project = Project(")
    with more_projects(tmp_path):
        assert "broken" in discovery.names()
        for _ in range(2):
            assert b'phaseflow_drift_threshold{project="titanic"}' in generate_latest(metrics.registry)
    assert caplog.text.count("project broken is skipped: SyntaxError") == 1
