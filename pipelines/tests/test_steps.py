"""The steps as functions: figures, bins, gate."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_tag_name

from phaseflow import Metric, PhaseflowError, PlatformError, registry
from phaseflow.reference import psi
from phaseflow.store import Store
from pipelines.steps import bins, champion, data, gate, metrics, register
from pipelines.steps.metrics import Answers

TITANIC = registry.get("titanic")


def evaluation(mine: float = 0.9, theirs: float | None = None, **changes: Any) -> dict[str, Any]:
    """An evaluation in which every candidate has the same figures, and the champion others."""
    figures = {
        "metrics": {"roc_auc": mine, "accuracy": 0.8, "f1": 0.7, "log_loss": 0.4, "brier": 0.3},
        "slices": {"sex": {"male": {"rows": 100, "value": 0.8}, "female": {"rows": 60, "value": 0.8}}},
        "latency_ms": 1.0,
        "size_mb": 0.1,
    } | changes
    champion = None if theirs is None else {"version": "1", "metrics": {"roc_auc": theirs}}
    return {"candidates": {c.name: figures for c in TITANIC.candidates}, "champion": champion}


def failed(verdict: gate.Verdict) -> list[str]:
    return [check.check for check in verdict.checks if not check.passed]


def test_a_good_first_model_passes() -> None:
    verdict = gate.judge(TITANIC, evaluation())
    assert verdict.passed
    assert verdict.candidate == "logistic_regression"  # ties go to the first


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"mine": 0.5}, "roc_auc"),
        ({"latency_ms": 21.0}, "latency, 99th percentile of one row (ms)"),
        ({"size_mb": 10.1}, "size (MB)"),
        ({"slices": {"sex": {"male": {"rows": 100, "value": 0.5}}}}, "roc_auc where sex is male"),
        ({"theirs": 0.9}, "gain in roc_auc over the champion, same holdout"),
        ({"theirs": 0.8985}, "gain in roc_auc over the champion, same holdout"),
        ({"theirs": 0.95}, "gain in roc_auc over the champion, same holdout"),
    ],
)
def test_each_condition_refuses_alone(changes: dict[str, Any], check: str) -> None:
    assert failed(gate.judge(TITANIC, evaluation(**changes))) == [check]


def test_a_slice_with_few_rows_is_not_judged() -> None:
    assert gate.judge(TITANIC, evaluation(slices={"sex": {"male": {"rows": 39, "value": 0.1}}})).passed


@given(st.floats(0.75, 1), st.floats(0.5, 1))
def test_the_champion_wins_ties_and_is_beaten_only_by_more_than_the_gain(mine: float, theirs: float) -> None:
    assert gate.judge(TITANIC, evaluation(mine, theirs)).passed == (mine - theirs > TITANIC.gate.minimum_gain)


def test_lower_is_better_where_it_says_so() -> None:
    house = registry.get("house_prices")
    found = {
        c.name: {"metrics": {"rmsle": value}} for c, value in zip(house.candidates, (0.2, 0.1, 0.3, 0.2), strict=True)
    }
    assert gate.winner(house, found) == "ridge"


def answers(truth: list[str], scores: list[float]) -> Answers:
    shares = np.array([[1 - score, score] for score in scores])
    said = np.where(np.array(scores) > 0.5, "1", "0")
    return Answers(truth=np.array(truth), predicted=said, probabilities=shares, classes=("0", "1"))


def test_figures_of_a_perfect_and_of_a_useless_model() -> None:
    perfect, useless = answers(["0", "1"] * 20, [0.1, 0.9] * 20), answers(["0", "1"] * 20, [0.5] * 40)
    assert metrics.figures(TITANIC, perfect)["roc_auc"] == 1
    assert metrics.figures(TITANIC, useless)["roc_auc"] == 0.5
    assert metrics.figure(TITANIC, Metric(name="brier"), useless) == pytest.approx(0.25)
    assert metrics.figure(TITANIC, Metric(name="roc_auc"), answers(["1"] * 3, [0.2] * 3)) is None


def test_an_unknown_figure_says_what_is_known() -> None:
    with pytest.raises(
        PhaseflowError,
        match=r"Metric 'ndcg' has no figure of its own; known: accuracy, .*give the project an `evaluate`",
    ):
        metrics.figure(TITANIC, Metric(name="ndcg"), answers(["0", "1"], [0.1, 0.9]))


def test_a_project_judges_by_figures_of_its_own() -> None:
    segments = registry.get("customer_segments")
    rows = pl.DataFrame({name: [10, 11, 9000, 9100] * 5 for name in segments.schema.feature_names})
    rows = rows.with_columns(fresh=pl.Series(range(20)))
    said = {"label": np.array(["small", "small", "large", "large"] * 5, dtype=object)}
    found = Answers(
        truth=np.array([]), predicted=said["label"].astype(str), classes=("small", "large"), said=said, rows=rows
    )
    given = metrics.figures(segments, found)
    assert given["smallest_share"] == 0.5
    assert given["silhouette"] is not None
    assert given["silhouette"] > 0.5
    assert metrics.figures(segments, found.take(np.array([0, 1])))["silhouette"] is None  # one segment
    with pytest.raises(
        PhaseflowError, match=r"customer_segments.model:evaluate gives no 'ndcg'; given: silhouette, sma"
    ):
        metrics.figure(segments, Metric(name="ndcg"), found)


def test_a_project_s_own_figures_are_asked_for_once_a_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = registry.get("customer_segments")
    asked: list[int] = []

    def evaluate(said: Any, rows: pl.DataFrame, project: Any) -> dict[str, float]:
        asked.append(rows.height)
        return {"silhouette": float(said["label"][0]), "smallest_share": 1.0}

    monkeypatch.setattr(registry, "load", lambda _: evaluate)
    values = np.arange(4)
    found = Answers(truth=np.array([]), predicted=values, said={"label": values}, rows=pl.DataFrame({"a": values}))
    drawn = metrics.bootstrap(segments, segments.metrics, found, [np.array([2, 0]), np.array([3])])
    assert drawn["silhouette"].tolist() == [2.0, 3.0]
    assert drawn["smallest_share"].tolist() == [1.0, 1.0]
    assert asked == [2, 1]


def test_an_interval_holds_the_figure_and_narrows_with_rows() -> None:
    random = np.random.default_rng(1)

    def width(count: int) -> float:
        truth = random.choice(["0", "1"], count)
        found = answers(list(truth), list(np.clip((truth == "1") * 0.3 + random.normal(0.35, 0.2, count), 0, 1)))
        span = metrics.interval(
            metrics.bootstrap(TITANIC, [TITANIC.primary], found, metrics.resamples(count, 1))[TITANIC.primary.name]
        )
        value = metrics.figure(TITANIC, TITANIC.primary, found)
        assert span is not None
        assert value is not None
        assert span[0] <= value <= span[1]
        return span[1] - span[0]

    assert width(1600) < width(100)


@given(st.lists(st.floats(allow_nan=False, width=32) | st.none(), min_size=1, max_size=60))
@settings(deadline=None)
def test_bins_hold_every_value_once(values: list[float | None]) -> None:
    found = bins.numeric("age", pl.Series("age", values, dtype=pl.Float64))
    assert sum(found.shares) == pytest.approx(1)
    assert found.shares[-1] == pytest.approx(values.count(None) / len(values))
    assert list(found.edges) == sorted(set(found.edges))
    for value in (*values, math.nan, 1e30, -1e30):
        assert 0 <= found.index(value) < len(found.shares)


@pytest.mark.parametrize("live", [-1.0, 0.5, 2.0])
def test_what_was_always_the_same_drifts_both_ways(live: float) -> None:
    found = bins.numeric("share", pl.Series("share", [0.0] * 100))
    shares = [0.0] * len(found.shares)
    shares[found.index(live)] = 1.0
    assert psi(found.shares, shares) > 5


@given(st.lists(st.text(max_size=3) | st.none(), min_size=1, max_size=60))
@settings(deadline=None)
def test_words_are_binned_by_frequency(values: list[str | None]) -> None:
    found = bins.categorical("sex", pl.Series("sex", values, dtype=pl.String))
    assert sum(found.shares) == pytest.approx(1)
    assert len(found.values) <= bins.MOST_VALUES


def test_notes_become_tags_that_mlflow_takes() -> None:
    found = register.noted({"base model": "of the hub", "prompt short v1 (1a2b)": "7.1"})
    assert found == {"note.base model": "of the hub", "note.prompt short v1 1a2b": "7.1"}
    for name in found:
        _validate_tag_name(name)


def test_the_contract_names_only_figures_that_exist() -> None:
    for project in registry.all_projects():
        if not project.evaluate:
            assert {metric.name for metric in project.metrics} <= metrics.FIGURES.keys()
    with pytest.raises(dataclasses.FrozenInstanceError):
        TITANIC.gate.minimum_gain = 1.0  # type: ignore[misc]  # this is what the line is about


def test_a_champion_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"model")
    about = {"format": 1, "classes": ["0", "1"], "candidate": "linear"}
    (tmp_path / "model.json").write_text(json.dumps(about))
    assert champion.read(TITANIC, "3", tmp_path).candidate == "linear"
    (tmp_path / "model.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(
        PlatformError, match=r"model\.json of titanic 3 has the format 2; this release reads format 1\. Use"
    ):
        champion.read(TITANIC, "3", tmp_path)


def test_a_snapshot_of_another_format_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASEFLOW_STORE", str(tmp_path))
    store, rows = Store(str(tmp_path)), pl.DataFrame({"age": [1.0]})
    rows.write_parquet(tmp_path / "rows")
    store.write("datasets/titanic/abc/train.parquet", (tmp_path / "rows").read_bytes())
    store.write("datasets/titanic/abc/manifest.json", b"{}")  # as the first releases wrote it
    assert data.split(TITANIC, "abc", "train").equals(rows)
    store.write("datasets/titanic/abc/manifest.json", b'{"format": 3}')
    with pytest.raises(
        PlatformError, match=r"The snapshot abc of titanic has the format 3; this release reads format 1 and 2\. Use"
    ):
        data.split(TITANIC, "abc", "train")
