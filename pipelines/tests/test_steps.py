"""The steps as functions: metrics, bins and gate."""

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

from phaseflow import Metric, PhaseflowError, PlatformError, Project, discovery, kinds
from phaseflow.reference import psi
from phaseflow.store import Store
from pipelines.steps import bins, champion, data, gate, metrics, register
from pipelines.steps.metrics import EvalBatch

TITANIC = discovery.get("titanic")


def evaluation(value: float = 0.9, champion: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Return an evaluation of a winner with these metrics and of a champion."""
    figures = {
        "metrics": {"roc_auc": value, "accuracy": 0.8, "f1": 0.7, "log_loss": 0.4, "brier": 0.3},
        "slices": {"sex": {"male": {"rows": 100, "value": 0.8}, "female": {"rows": 60, "value": 0.8}}},
        "calibration": 0.04,
        "latency_ms": 1.0,
        "size_mb": 0.1,
    } | changes
    return {
        "candidates": {"random_forest": figures},
        "winner": "random_forest",
        "source": "sample",
        "champion": champion,
        "look": champion and {"number": 1},
    }


def champion_of(low: float | None = -0.01, **changes: Any) -> dict[str, Any]:
    """Return a champion within its bounds on the newest rows; the winner's gain over it is at least `low`."""
    fine = {"winner": 0.9, "winner_at_best": 0.92, "champion": 0.85, "champion_at_best": 0.9}
    return {
        "version": "3",
        "metrics": {"roc_auc": 0.88},
        "latency_ms": 1.0,
        "size_mb": 0.1,
        "gain": {"value": 0.02, "low": low, "high": 0.05, "level": 0.025},
        "newest": {"rows": 100, "metrics": {"roc_auc": fine, "accuracy": fine}},
        "trusted": None,
    } | changes


GAIN = "gain in roc_auc over the champion, same holdout, at least"
TRUSTED = "on the 60 rows whose labels are trusted, at best"


def trusted(high: float = 0.01, roc_auc: float = 0.9, accuracy: float = 0.8) -> dict[str, Any]:
    best = {"roc_auc": {"winner_at_best": roc_auc, "gain_high": high}, "accuracy": {"winner_at_best": accuracy}}
    return {"rows": 60, "metrics": best}


def failed_checks(verdict: gate.Verdict) -> list[str]:
    return [check.check for check in verdict.checks if not check.passed]


def test_every_metric_of_a_kind_is_computed() -> None:
    promised = {name for kind in kinds.KINDS.values() if kind.prediction for name in kind.prediction.metrics}
    assert promised == metrics.FIGURES.keys() == metrics.WEIGHTED.keys()


def test_a_good_first_model_passes() -> None:
    verdict = gate.judge(TITANIC, evaluation())
    assert (verdict.passed, verdict.reason, verdict.candidate) == (True, "first", "random_forest")
    assert verdict.why == "It is the first version, and within every bound."


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"value": 0.5}, "roc_auc"),
        ({"latency_ms": 21.0}, "latency, 99th percentile of one row (ms)"),
        ({"size_mb": 10.1}, "size (MB)"),
        ({"slices": {"sex": {"male": {"rows": 100, "value": 0.5}}}}, "roc_auc where sex is male"),
        ({"calibration": 0.3}, "expected calibration error"),
        ({"champion": champion_of(low=0.0019)}, GAIN),
        ({"champion": champion_of(low=None)}, GAIN),
        ({"champion": champion_of(low=0.01, trusted=trusted(high=-0.051))}, f"gain in roc_auc {TRUSTED}"),
        ({"champion": champion_of(low=0.01, trusted=trusted(roc_auc=0.73))}, f"roc_auc {TRUSTED}"),
        ({"champion": champion_of(low=0.01, trusted=trusted(accuracy=0.64))}, f"accuracy {TRUSTED}"),
    ],
)
def test_each_condition_refuses_alone(changes: dict[str, Any], check: str) -> None:
    verdict = gate.judge(TITANIC, evaluation(**changes))
    assert failed_checks(verdict) == [check]
    assert not verdict.reason


def test_a_slice_with_few_rows_is_not_judged() -> None:
    assert gate.judge(TITANIC, evaluation(slices={"sex": {"male": {"rows": 39, "value": 0.1}}})).passed


@given(st.floats(-0.5, 0.5))
def test_a_gain_counts_by_the_lower_end_of_its_interval_whatever_its_estimate(low: float) -> None:
    verdict = gate.judge(TITANIC, evaluation(champion=champion_of(low)))
    assert verdict.passed == (low > TITANIC.gate.minimum_gain)
    assert verdict.reason == ("better" if verdict.passed else "")


def test_why_a_version_stays_challenger_is_one_sentence() -> None:
    verdict = gate.judge(TITANIC, evaluation(champion=champion_of()))
    assert verdict.why == (
        "It is not certainly better: its gain in roc_auc is 0.02, with 0.975 confidence at least -0.01; required: above 0.002."
    )
    vetoed = gate.judge(TITANIC, evaluation(size_mb=11.0, champion=champion_of(low=0.01)))
    assert vetoed.why == "It must not be served: size (MB) is 11, allowed <= 10."


def failing(**changes: float) -> dict[str, Any]:
    """Return a champion that is certainly beyond its accuracy bound on the newest rows."""
    about = {"winner": 0.8, "winner_at_best": 0.85, "champion": 0.5, "champion_at_best": 0.6, "gain_low": -0.1}
    champion = champion_of()
    champion["newest"]["metrics"] = champion["newest"]["metrics"] | {"accuracy": about | changes}
    return champion


def test_a_champion_that_fails_on_the_newest_rows_is_replaced_by_what_does_not() -> None:
    verdict = gate.judge(TITANIC, evaluation(champion=failing()))
    assert (verdict.passed, verdict.reason) == (True, "champion_failed")
    assert verdict.why == (
        "The champion (version 3) fails on the newest 100 rows: its accuracy is 0.5, the bound 0.65; that of this version is 0.8."
    )
    for changes in ({"champion_at_best": 0.65}, {"winner_at_best": 0.64}, {"winner": 0.5}, {"champion": 0.66}):
        assert failed_checks(gate.judge(TITANIC, evaluation(champion=failing(**changes)))) == [GAIN]
    # The champion may fail by chance, but the other model is certainly better there.
    beaten = failing(champion_at_best=0.7, gain_low=0.01)
    assert gate.judge(TITANIC, evaluation(champion=beaten)).reason == "champion_failed"


def test_a_champion_that_holds_on_changed_rows_is_confirmed() -> None:
    def judge(
        project: Project = TITANIC,
        withstood: int = 1,
        psi: float = 0.3,
        winner: dict[str, Any] | None = None,
        **changes: Any,
    ) -> gate.Verdict:
        drift = {"feature": "fare", "psi": psi, "rows": 300}
        champion = champion_of() | {"drift": drift, "withstood": withstood} | changes
        return gate.judge(project, evaluation(champion=champion, **(winner or {})))

    verdict = judge()
    assert (verdict.passed, verdict.reason, verdict.confirmed) == (False, "", True)
    assert verdict.why == (
        "It is not certainly better: its gain in roc_auc is 0.02, with 0.975 confidence at least -0.01; required: above 0.002. "
        "The champion (version 3) is within its bounds on the newest 100 rows, although fare has drifted from its reference "
        "(PSI 0.3): it stays, and the newest rows are its reference from now on."
    )
    by_origin = tuple(dataclasses.replace(metric, threshold={"sample": 0.7}) for metric in TITANIC.metrics[:1])
    assert judge(dataclasses.replace(TITANIC, metrics=by_origin)).confirmed
    assert judge(winner={"size_mb": 11.0}).confirmed  # the reason for refusing the challenger does not matter
    beyond = failing(winner_at_best=0.64)["newest"]
    better = champion_of(low=0.01)["gain"]
    for refused in (
        judge(withstood=0),
        judge(psi=TITANIC.drift.psi),
        judge(drift=None),
        judge(newest=beyond),
        judge(gain=better),
        judge(gain=better, winner={"size_mb": 11.0}),
    ):
        assert not refused.confirmed


def test_a_small_slice_keeps_a_failing_champion_only_with_certainty() -> None:
    def slices(best: float) -> dict[str, Any]:
        return {"sex": {"female": {"rows": 60, "value": 0.5, "at_best": best}}}

    name = "roc_auc where sex is female"
    assert gate.judge(TITANIC, evaluation(slices=slices(0.6), champion=failing())).passed
    assert failed_checks(gate.judge(TITANIC, evaluation(slices=slices(0.54), champion=failing()))) == [
        f"{name}, at best"
    ]
    assert failed_checks(gate.judge(TITANIC, evaluation(slices=slices(0.6), champion=champion_of(low=0.01)))) == [name]


def test_false_labels_may_fail_the_champion_and_yet_not_replace_it() -> None:
    verdict = gate.judge(TITANIC, evaluation(champion=failing() | {"trusted": trusted(high=-0.2)}))
    assert failed_checks(verdict) == [f"gain in roc_auc {TRUSTED}"]


def test_an_equal_and_cheaper_model_wins_if_the_project_has_a_margin() -> None:
    with_margin = dataclasses.replace(TITANIC, gate=dataclasses.replace(TITANIC.gate, margin=0.02))
    cheap, dear = evaluation(latency_ms=0.4, champion=champion_of()), evaluation(latency_ms=0.6, champion=champion_of())
    verdict = gate.judge(with_margin, cheap)
    assert (verdict.passed, verdict.reason) == (True, "cheaper")
    assert verdict.why == "It is as good as the champion within 0.02 of roc_auc, and its latency is 60% less."
    assert failed_checks(gate.judge(TITANIC, cheap)) == [GAIN]  # the project has no margin
    assert failed_checks(gate.judge(with_margin, dear)) == [GAIN]  # only slightly cheaper
    assert failed_checks(gate.judge(with_margin, evaluation(latency_ms=0.4, champion=champion_of(low=-0.02)))) == [GAIN]
    assert failed_checks(gate.judge(with_margin, evaluation(latency_ms=0.4, size_mb=0.2, champion=champion_of()))) == [
        GAIN
    ]


def test_bounds_are_those_of_the_data_s_origin() -> None:
    by_origin = Metric(name="roc_auc", threshold={"sample": 0.95, "public": 0.7})
    project = dataclasses.replace(TITANIC, metrics=(by_origin,), gate=dataclasses.replace(TITANIC.gate, slices=()))
    passed = {
        source: gate.judge(project, evaluation() | {"source": source}).passed
        for source in ("sample", "package", "public", "mirror", "cache")
    }
    assert passed == {"sample": False, "package": True, "public": True, "mirror": True, "cache": True}


def eval_batch(label: list[str], scores: list[float]) -> EvalBatch:
    shares = np.array([[1 - score, score] for score in scores])
    predicted = np.where(np.array(scores) > 0.5, "1", "0")
    return EvalBatch(labels=np.array(label), predicted=predicted, probabilities=shares, classes=("0", "1"))


def test_figures_of_a_perfect_and_of_a_useless_model() -> None:
    perfect, useless = eval_batch(["0", "1"] * 20, [0.1, 0.9] * 20), eval_batch(["0", "1"] * 20, [0.5] * 40)
    assert metrics.figures(TITANIC, perfect)["roc_auc"] == 1
    assert metrics.figures(TITANIC, useless)["roc_auc"] == 0.5
    assert metrics.figure(TITANIC, Metric(name="brier"), useless) == pytest.approx(0.25)
    assert metrics.figure(TITANIC, Metric(name="roc_auc"), eval_batch(["1"] * 3, [0.2] * 3)) is None


def test_an_unknown_metric_error_lists_the_known_ones() -> None:
    with pytest.raises(
        PhaseflowError,
        match=r"Metric 'ndcg' is not built in; known: accuracy, .*give the project an `evaluate`",
    ):
        metrics.figure(TITANIC, Metric(name="ndcg"), eval_batch(["0", "1"], [0.1, 0.9]))


def test_a_project_evaluates_its_own_metrics() -> None:
    segments = discovery.get("customer_segments")
    rows = pl.DataFrame({name: [10, 11, 9000, 9100] * 5 for name in segments.schema.feature_names})
    rows = rows.with_columns(fresh=pl.Series(range(20)))
    outputs = {"label": np.array(["small", "small", "large", "large"] * 5, dtype=object)}
    batch = EvalBatch(
        labels=np.array([]),
        predicted=outputs["label"].astype(str),
        classes=("small", "large"),
        outputs=outputs,
        rows=rows,
    )
    figures = metrics.figures(segments, batch)
    assert figures["smallest_share"] == 0.5
    assert figures["silhouette"] is not None
    assert figures["silhouette"] > 0.5
    assert metrics.figures(segments, batch.take(np.array([0, 1])))["silhouette"] is None  # one segment
    with pytest.raises(
        PhaseflowError, match=r"customer_segments.model:evaluate gives no 'ndcg'; given: silhouette, sma"
    ):
        metrics.figure(segments, Metric(name="ndcg"), batch)


def test_a_project_s_own_metrics_are_computed_once_per_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = discovery.get("customer_segments")
    row_counts: list[int] = []

    def evaluate(outputs: Any, rows: pl.DataFrame, project: Any) -> dict[str, float]:
        row_counts.append(rows.height)
        return {"silhouette": float(outputs["label"][0]), "smallest_share": 1.0}

    monkeypatch.setattr(discovery, "load", lambda _: evaluate)
    values = np.arange(4)
    batch = EvalBatch(
        labels=np.array([]), predicted=values, outputs={"label": values}, rows=pl.DataFrame({"a": values})
    )
    drawn = metrics.bootstrap(
        segments, segments.metrics, batch, metrics.Resamples.of(np.array(["a", "a", "b", "b"]), count=50, seed=1)
    )
    assert set(drawn["silhouette"].tolist()) == {0.0, 2.0}  # a sample begins with a whole group
    assert drawn["smallest_share"].tolist() == [1.0] * 50
    assert row_counts[-50:] == [4] * 50


def test_an_interval_holds_the_figure_and_narrows_with_rows() -> None:
    random = np.random.default_rng(1)

    def width(count: int) -> float:
        label = random.choice(["0", "1"], count)
        batch = eval_batch(list(label), list(np.clip((label == "1") * 0.3 + random.normal(0.35, 0.2, count), 0, 1)))
        resamples = metrics.Resamples.of(np.arange(count), count=200, seed=1)
        span = metrics.interval(metrics.bootstrap(TITANIC, [TITANIC.primary], batch, resamples)[TITANIC.primary.name])
        value = metrics.figure(TITANIC, TITANIC.primary, batch)
        assert span is not None
        assert value is not None
        assert span[0] <= value <= span[1]
        return span[1] - span[0]

    assert width(1600) < width(100)


@given(st.lists(st.floats(allow_nan=False, width=32) | st.none(), min_size=1, max_size=60))
@settings(deadline=None)
def test_bins_hold_every_value_once(values: list[float | None]) -> None:
    feature_bins = bins.numeric("age", pl.Series("age", values, dtype=pl.Float64))
    assert sum(feature_bins.shares) == pytest.approx(1)
    assert feature_bins.shares[-1] == pytest.approx(values.count(None) / len(values))
    assert list(feature_bins.edges) == sorted(set(feature_bins.edges))
    for value in (*values, math.nan, 1e30, -1e30):
        assert 0 <= feature_bins.index(value) < len(feature_bins.shares)


@pytest.mark.parametrize("live", [-1.0, 0.5, 2.0])
def test_a_constant_feature_drifts_both_ways(live: float) -> None:
    feature_bins = bins.numeric("share", pl.Series("share", [0.0] * 100))
    shares = [0.0] * len(feature_bins.shares)
    shares[feature_bins.index(live)] = 1.0
    assert psi(feature_bins.shares, shares) > 5


@given(st.lists(st.text(max_size=3) | st.none(), min_size=1, max_size=60))
@settings(deadline=None)
def test_words_are_binned_by_frequency(values: list[str | None]) -> None:
    feature_bins = bins.categorical("sex", pl.Series("sex", values, dtype=pl.String))
    assert sum(feature_bins.shares) == pytest.approx(1)
    assert len(feature_bins.values) <= bins.MAX_VALUES


def test_notes_become_tags_that_mlflow_takes() -> None:
    tags = register.note_tags({"base model": "of the hub", "prompt short v1 (1a2b)": "7.1"})
    assert tags == {"note.base model": "of the hub", "note.prompt short v1 1a2b": "7.1"}
    for name in tags:
        _validate_tag_name(name)


def test_the_contract_names_only_figures_that_exist() -> None:
    for project in discovery.all_projects():
        if not project.evaluate:
            assert {metric.name for metric in project.metrics} <= metrics.FIGURES.keys()
    with pytest.raises(dataclasses.FrozenInstanceError):
        TITANIC.gate.minimum_gain = 1.0  # type: ignore[misc]  # the assignment must fail


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
