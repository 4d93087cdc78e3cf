"""Evidently's runs of a window: which there are, which tests they hold, and what they contain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from phaseflow import discovery
from services.monitor import evaluation
from services.monitor.evaluation import Labels, Run, Window

ROWS = 200
TIME = datetime(2026, 1, 1)  # noqa: DTZ001  # Evidently's times have no zone
LABELS = Labels(window="20260101T000000Z", time=TIME, metadata={"snapshot": "s1"}, source="sample")
TITANIC = discovery.get("titanic")
CLASSES = ["0", "1"] * (ROWS // 2)
PRICES = np.random.default_rng(1).normal(2e5, 3e4, ROWS).tolist()


def quality(name: str, prediction: Sequence[Any], target: Sequence[Any]) -> Run | None:
    labelled = pl.DataFrame({"prediction": prediction, "target": target})
    return evaluation.quality(discovery.get(name), labelled, LABELS)


def measured(name: str, prediction: Sequence[Any], target: Sequence[Any]) -> Run:
    run = quality(name, prediction, target)
    assert run is not None
    return run


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """Titanic's passengers in which only the age has drifted, and predictions that are all right."""
    random = np.random.default_rng(0)

    def rows(age: float) -> pl.DataFrame:
        columns = {name: [TITANIC.example.get(name)] * ROWS for name in TITANIC.schema.feature_names}
        return pl.DataFrame(columns | {"age": random.normal(age, 5, ROWS).tolist()})

    labelled = pl.DataFrame({"prediction": CLASSES, "target": CLASSES})
    window = Window(current=rows(60), reference=rows(30), labelled=labelled)
    return {run.name: run for run in evaluation.evaluate(TITANIC, window, LABELS)}


def test_drift_is_tested_per_column_and_the_summary_has_no_tests(runs: dict[str, Run]) -> None:
    assert list(runs) == ["drift", "summary", "quality"]
    assert runs["drift"].failed() == ["Value Drift for column age"]
    scores = evaluation.scores(runs["drift"])
    assert [name for name, score in scores.items() if score > TITANIC.drift.psi] == ["age"]
    assert runs["drift"].counts() == {"success": len(scores), "fail": 1}  # one more: the share of drifted columns
    assert not runs["summary"].tests


def test_a_run_is_stored_without_what_no_page_shows(runs: dict[str, Run]) -> None:
    for run in runs.values():
        content = json.loads(run.content)
        assert content["tags"] == [run.name]
        assert content["metadata"] == {"snapshot": "s1"}
        assert datetime.fromisoformat(content["timestamp"]) == TIME
        assert content["widgets"]
        assert not any("widget" in result for result in content["metric_results"].values())
        assert '"template"' not in run.content.decode()
        assert len(run.content) < 200_000


def test_classes_are_tested_against_the_thresholds_of_the_contract(runs: dict[str, Run]) -> None:
    assert runs["quality"].counts() == {"success": 1}
    half = measured("titanic", ["1"] * ROWS, CLASSES)
    assert half.failed() == ["Accuracy metric: Greater or Equal 0.650"]  # titanic declares 0.65
    values = {metric["config"]["type"].rpartition(":")[2]: metric["value"] for metric in half.metrics}
    assert values["Accuracy"] == 0.5
    assert values["Precision"] == 0.5  # of the class "1", the last one
    assert values["Recall"] == 1.0


def test_classes_may_be_booleans() -> None:
    truth = [False, True] * (ROWS // 2)
    assert measured("titanic", truth, truth).counts() == {"success": 1}


def test_without_two_classes_or_enough_labels_there_is_no_quality() -> None:
    assert quality("titanic", ["1"] * ROWS, ["1"] * ROWS) is None
    assert quality("titanic", CLASSES[:18], CLASSES[:18]) is None


def test_numbers_are_tested_against_the_thresholds_of_the_contract() -> None:
    assert measured("house_prices", [value * 1.01 for value in PRICES], PRICES).counts() == {"success": 1}
    far = measured("house_prices", [value * 1.5 for value in PRICES], PRICES)
    assert far.failed() == ["R2 Score: Greater or Equal 0.750"]  # house_prices declares 0.75


def test_what_evidently_cannot_plot_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert quality("house_prices", [value + 1e5 for value in PRICES], PRICES) is None
    assert "Evidently can't compute the quality of house_prices: ValueError" in caplog.text


@pytest.mark.parametrize(
    ("prediction", "last"),
    [
        (["a", "b"], {"PrecisionTopK": 0.5, "HitRate": 1.0, "MRR": 0.5}),
        (["b", "e"], {"PrecisionTopK": 1.0, "HitRate": 1.0, "MRR": 1.0}),
    ],
)
def test_rankings_are_compared_with_what_was_taken(prediction: list[str], last: dict[str, float]) -> None:
    run = measured("recommender", [json.dumps(prediction)] * 30, [json.dumps(["b", "e"])] * 30)
    assert last == {
        metric["config"]["type"].rpartition(":")[2]: metric["value"]["value"][1]
        for metric in run.metrics
        if "k" in metric["config"] and isinstance(metric["value"], dict)
    }
    assert quality("recommender", [json.dumps(prediction)] * 30, [json.dumps(["x"])] * 30) is None
