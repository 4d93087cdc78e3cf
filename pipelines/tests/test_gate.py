"""The gate on trained models: selection, intervals, error budget and promotion rates."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bench import gate as bench
from bench import retrainings
from bench.retrainings import PAIR, World
from phaseflow import Candidate, Metric, Project, discovery, logs
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit.model import Trained
from pipelines.etl.extract import extract, parquet
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import validate
from pipelines.steps import budget, evaluate, gate, metrics, selection
from pipelines.steps.metrics import EvalBatch, Resamples

TITANIC = discovery.get("titanic")
HOUSES = discovery.get("house_prices")
SEGMENTS = discovery.get("customer_segments")
RECOMMENDER = discovery.get("recommender")


# Selection


def select_winner(figures: dict[str, tuple[float | None, list[float]]]) -> str:
    """Return the winner for the given values and draws."""
    about = {name: {"selection": {"value": value, "draws": draws}} for name, (value, draws) in figures.items()}
    return selection.winner(TITANIC, about)


def test_the_best_inside_the_training_rows_wins_and_ties_within_an_error_go_to_the_first() -> None:
    noise = [0.0, 0.01, -0.01, 0.02, -0.02]
    first = [0.80 + value for value in noise]
    assert select_winner({"logistic_regression": (0.80, first), "random_forest": (0.85, [0.85] * 5)}) == "random_forest"
    assert (
        select_winner({"logistic_regression": (0.80, first), "random_forest": (0.81, [0.81] * 5)})
        == "logistic_regression"
    )
    # The error is that of the paired difference: rows that are hard for both cancel out.
    paired = [value + 0.01 for value in first]
    assert select_winner({"logistic_regression": (0.80, first), "random_forest": (0.81, paired)}) == "random_forest"
    assert select_winner({"logistic_regression": (None, []), "random_forest": (0.6, [0.6] * 5)}) == "random_forest"


def test_lower_is_better_in_selection_too() -> None:
    about = {
        candidate.name: {"selection": {"value": value, "draws": [value] * 3}}
        for candidate in HOUSES.candidates
        for value in [0.1 if candidate.name == "ridge" else 0.2]
    }
    assert selection.winner(HOUSES, about) == "ridge"


def frame(groups: list[str]) -> pl.DataFrame:
    keys = [f"{index:064x}" for index in range(len(groups))]
    return pl.DataFrame({"_key": keys, "_group": groups})


def test_folds_hold_every_row_once_and_never_divide_a_group() -> None:
    rows = frame([str(index // 4) for index in range(200)])
    scheme, parts = selection.folds(rows, TITANIC)
    assert scheme == "5 folds of the training rows"
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    part_groups = [set(rows["_group"][part].to_list()) for part in parts]
    assert sum(map(len, part_groups)) == len(set().union(*part_groups)) == 50
    assert max(map(len, parts)) - min(map(len, parts)) <= 4
    _, without = selection.folds(rows.drop("_group"), TITANIC)
    assert sorted(np.concatenate(without).tolist()) == list(range(200))


def test_a_network_has_one_validation_part_and_a_history_its_newest_rows() -> None:
    digits = discovery.get("digits")
    scheme, (part,) = selection.folds(frame([str(index) for index in range(100)]), digits)
    assert (scheme, len(part)) == ("one validation part of 20% of the training rows", 20)
    visits = pl.DataFrame({"user": ["a"] * 10 + ["b"] * 10, "items": [f'["{index}"]' for index in range(20)]})
    scheme, (part,) = selection.folds(visits, RECOMMENDER)
    assert scheme == "the newest 4 of the training rows"
    assert part.tolist() == [8, 9, 18, 19]


def test_a_candidate_that_remembers_its_rows_is_not_chosen_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selection evaluates predictions for rows that the model was not trained on."""
    row_counts: list[tuple[int, int]] = []
    rows = frame([str(index) for index in range(100)]).with_columns(survived=pl.lit("1"))

    def fit(train: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
        row_counts.append((train.height, len(set(train["_key"].to_list()))))
        return Trained(onnx=b"", classes=("0", "1"))

    def predict(project: Project, model: Any, classes: tuple[str, ...], validation: pl.DataFrame) -> EvalBatch:
        label = np.array(["0", "1"] * (validation.height // 2))
        sure = np.where(label == "1", 0.9, 0.1)
        return EvalBatch(labels=label, predicted=label, probabilities=np.stack([1 - sure, sure], 1), classes=classes)

    monkeypatch.setattr(selection, "fit", fit)
    monkeypatch.setattr(selection.graph, "session", lambda _: None)
    monkeypatch.setattr(selection.predictions, "predict", predict)
    result = selection.select(rows, TITANIC, TITANIC.candidates[0])
    assert row_counts == [(80, 80)] * 5
    assert (result["value"], result["folds"], result["interval"]) == (1.0, 5, [1.0, 1.0])
    assert len(result["draws"]) == selection.DRAWS


# Intervals


def classification_batch(count: int, classes: tuple[str, ...], seed: int) -> EvalBatch:
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.ones(len(classes)), count).round(2) + 0.01  # with ties
    shares /= shares.sum(axis=1, keepdims=True)
    label = np.array(classes)[random.integers(0, len(classes), count)]
    return EvalBatch(labels=label, predicted=np.array(classes)[shares.argmax(1)], probabilities=shares, classes=classes)


def regression_batch(count: int, seed: int) -> EvalBatch:
    random = np.random.default_rng(seed)
    label = random.lognormal(3, 1, count)
    return EvalBatch(labels=label, predicted=label * random.lognormal(0, 0.2, count))


@pytest.mark.parametrize("name", sorted(metrics.FIGURES))
@given(seed=st.integers(0, 10_000), count=st.integers(8, 60), three=st.booleans())
@hypothesis_settings(deadline=None, max_examples=8)
def test_a_metric_of_many_samples_is_scikit_learn_s_of_each(name: str, seed: int, count: int, three: bool) -> None:
    regression = name in {"mae", "mape", "rmse", "rmsle", "r2"}
    batch = (
        regression_batch(count, seed)
        if regression
        else classification_batch(count, ("a", "b", "c") if three else ("0", "1"), seed)
    )
    project, resamples = HOUSES if regression else TITANIC, Resamples.of(np.arange(count) // 2, count=5, seed=seed)
    drawn = metrics.bootstrap(project, [Metric(name=name)], batch, resamples)[name]
    (weights,) = resamples.weights()
    for value, sample in zip(drawn, weights, strict=True):
        expected = metrics.figure(
            project, Metric(name=name), batch.take(np.repeat(np.arange(count), sample.astype(int)))
        )
        assert value == pytest.approx(expected if expected is not None else np.nan, nan_ok=True, rel=1e-9)
    assert metrics.WEIGHTED.keys() == metrics.FIGURES.keys()


def test_rows_of_one_group_are_drawn_together_so_that_the_interval_is_wider() -> None:
    values = np.repeat(np.random.default_rng(1).normal(0, 1, 40), 10)
    batch = EvalBatch(labels=np.zeros(400), predicted=values)

    def width(units: np.ndarray) -> float:
        drawn = metrics.bootstrap(HOUSES, [Metric(name="mae")], batch, Resamples.of(units, count=500, seed=1))["mae"]
        return float(np.std(drawn))

    assert width(np.arange(400) // 10) > 2.5 * width(np.arange(400))


@pytest.mark.parametrize("name", ["hit_rate", "coverage"])
def test_a_project_s_mean_metric_is_not_evaluated_per_sample(name: str) -> None:
    random = np.random.default_rng(1)
    rankings = np.array([[str(item) for item in random.permutation(12)[:10]] for _ in range(40)], dtype=object)
    rows = pl.DataFrame(
        {"user": [str(user) for user in range(40)], "items": [f'["{random.integers(20)}"]' for _ in range(40)]}
    )
    batch = EvalBatch(labels=np.array([]), predicted=rankings[:, 0], outputs={"ranking": rankings}, rows=rows)
    (metric,) = [metric for metric in RECOMMENDER.metrics if metric.name == name]
    resamples = Resamples.of(np.arange(40), count=5, seed=1)
    drawn = metrics.bootstrap(RECOMMENDER, [metric], batch, resamples)[name]
    (weights,) = resamples.weights()
    expected = [
        metrics.figure(RECOMMENDER, metric, batch.take(np.repeat(np.arange(40), sample.astype(int))))
        for sample in weights
    ]
    assert drawn == pytest.approx(expected)
    assert (metrics._row_values(RECOMMENDER, [metric], batch) is not None) == (name == "hit_rate")


def test_a_lower_end_extends_beyond_the_draws() -> None:
    draws = np.random.default_rng(1).normal(0.5, 0.1, 2000)
    assert metrics.lower_end(0.5, draws, 0.025) == pytest.approx(0.5 - 1.96 * 0.1, abs=0.02)
    assert metrics.lower_end(0.5, draws, 1e-6) == pytest.approx(0.5 - 4.75 * 0.1, abs=0.03)
    skewed = np.r_[draws, np.full(200, -1.0)]
    assert metrics.lower_end(0.5, skewed, 0.025) == -1.0
    assert metrics.lower_end(0.5, np.array([np.nan] * 5), 0.025) is None


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    label = np.array(["1"] * 70 + ["0"] * 30)
    shares = np.full((100, 2), [0.1, 0.9])
    batch = EvalBatch(labels=label, predicted=np.array(["1"] * 100), probabilities=shares, classes=("0", "1"))
    assert metrics.calibration_error(batch) == pytest.approx(0.2)  # predicted 0.9, observed 0.7
    right = dataclasses.replace(batch, labels=np.array(["1"] * 100), probabilities=np.full((100, 2), [0.0, 1.0]))
    assert metrics.calibration_error(right) == 0
    assert metrics.calibration_error(regression_batch(10, 1)) is None


# Budget

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rows_until(newest: int, count: int = 100) -> pl.DataFrame:
    """Rows of which `newest` came after the hour 0."""
    times = [NOW - timedelta(hours=1)] * (count - newest) + [NOW + timedelta(hours=newest)] * newest
    return pl.DataFrame({"_time": times}, schema={"_time": pl.Datetime("us", "UTC")})


def test_looks_at_the_same_rows_lower_the_level_and_new_rows_restore_it() -> None:
    first = budget.look(None, rows_until(0), snapshot="a", model="1")
    assert (first.number, first.level) == (1, 0.025)
    second = budget.look(first.to_dict(), rows_until(0), snapshot="a", model="2")
    assert (second.number, second.level) == (2, 0.0125)
    renewed = budget.look(second.to_dict(), rows_until(60), snapshot="b", model="3")
    assert renewed.level == pytest.approx((second.left + 0.05 * 0.6) / 2)
    whole = budget.look(second.to_dict(), rows_until(100), snapshot="b", model="3")
    assert whole.level == 0.025


def test_all_looks_spend_at_most_the_budget_and_the_floor() -> None:
    spent, earlier = 0.0, None
    for number in range(200):
        look = budget.look(earlier, rows_until(0), snapshot="a", model=str(number))
        spent, earlier = spent + look.level, look.to_dict()
    assert budget.ALPHA < spent <= budget.ALPHA + 200 * budget.FLOOR


def test_the_same_challenger_is_the_same_look_and_the_champion_itself_costs_nothing() -> None:
    first = budget.look(None, rows_until(0), snapshot="a", model="1")
    assert budget.look(first.to_dict(), rows_until(0), snapshot="a", model="1") == first
    again = budget.look(first.to_dict(), rows_until(0), snapshot="b", model="2", same=True)
    assert again.left == first.left


# The gate on trained models


@pytest.fixture(scope="module")
def world() -> World:
    """Titanic with its two fastest candidates, in two folds."""
    declared = World.of("titanic")
    fast = dataclasses.replace(
        declared.project,
        candidates=tuple(
            candidate
            for candidate in declared.project.candidates
            if candidate.name in {"logistic_regression", "decision_tree"}
        ),
        gate=dataclasses.replace(declared.project.gate, folds=2),
    )
    return dataclasses.replace(declared, project=fast)


def test_the_gate_promotes_no_noise_and_reacts_to_drift(world: World) -> None:
    """The seeds are fixed. The point estimate alone would promote one in three models on unchanged data."""
    with retrainings.unconverted():
        outcomes = [bench.compare_pair(world, seed, retrainings.models(world, PAIR, seed)) for seed in range(8)]
    unchanged = [outcome[key] for outcome in outcomes for key in ("unchanged", "mirrored")]
    assert sum(outcome["by_point_estimate"] for outcome in unchanged) >= 5
    assert sum(outcome["promoted"] for outcome in unchanged) == 0
    assert sum(outcome["drift"]["promoted"] for outcome in outcomes) >= 6


def test_a_simulation_predicts_what_the_served_file_does(world: World) -> None:
    rows = world.split(1)
    with retrainings.unconverted():
        quick = retrainings.trained(world.project, rows.train)
        simulated = quick.outputs(rows.holdout, world.project)
    served = retrainings.trained(world.project, rows.train)
    assert quick.candidate == served.candidate
    outputs = served.outputs(rows.holdout, world.project)
    assert simulated["label"].tolist() == outputs["label"].tolist()
    assert simulated["probabilities"] == pytest.approx(outputs["probabilities"], abs=1e-5)


def test_the_interval_knows_that_two_trainings_differ(world: World) -> None:
    rows = world.split(1)
    with retrainings.unconverted():
        first, second, _ = retrainings.models(world, PAIR, 1)
        outcome = bench.looked(world.project, rows.holdout, second, first)
        models = [
            evaluate._evaluate_model(world.project, model.content, model.classes, rows.holdout)
            for model in (second, first)
        ]
    draws = [evaluate._draws(world.project, model, [world.project.primary])["roc_auc"] for model in models]
    of_rows = float(np.std(draws[0] - draws[1], ddof=1))
    assert outcome["gain"] - outcome["low"] >= 1.95 * of_rows * (1 + evaluate.TRAINING) ** 0.5


def test_five_thousand_false_labels_change_neither_champion_nor_verdict(world: World, tmp_path: Path) -> None:
    """Wrong labels of an anonymous client do not change the verdict."""
    project = dataclasses.replace(world.project, source=dataclasses.replace(world.project.source, sha256=""))
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"})
    store = Store(settings.store)

    def snapshot_of(run: str) -> dict[str, pl.DataFrame]:
        extracted = extract(project, run, settings, store)
        name = (validate(project, run, store) | snapshot(project, run, store, extracted))["snapshot"]
        folder = f"datasets/{project.name}/{name}"
        return {side: pl.read_parquet(store.read(f"{folder}/{side}.parquet")) for side in ("train", "holdout")}

    before = snapshot_of("before")
    lie(project, store, world.rows)
    after = snapshot_of("after")
    for rows in after.values():
        assert (rows["_origin"] == "feedback").mean() == pytest.approx(0.5, abs=0.01)  # the cap of one client
    with retrainings.unconverted():
        present = retrainings.trained(project, before["train"])
        again, poisoned = (
            bench.looked(project, rows["holdout"], retrainings.trained(project, rows["train"]), present)
            for rows in (before, after)
        )
    assert (again["promoted"], poisoned["promoted"]) == (False, False)
    assert any("whose labels are trusted" in name for name in poisoned["refused_by"]), poisoned


def lie(project: Project, store: Store, rows: pl.DataFrame) -> None:
    """Log 5,000 predictions of rows like these with wrong labels, as the service ships them."""
    random, now = np.random.default_rng(1), datetime.now(UTC)
    many = rows[random.integers(0, rows.height, 5000)].with_row_index("number")
    many = many.with_columns(
        pl.format("a{}", "number").alias("id"),
        pl.lit(now).alias("time"),
        pl.lit("1").alias("version"),
        fare=pl.col("fare") + pl.col("number") / 1000,  # all rows are distinct
    )
    predictions = many.select("id", "time", "version", *project.schema.feature_names)
    wrong = pl.when(pl.col("survived") == "1").then(pl.lit("0")).otherwise(pl.lit("1"))
    labels = many.select("id", "time", wrong.alias("label"), pl.lit("mallory").alias("client"))
    for kind, table in (("predictions", predictions), ("feedback", labels)):
        store.write(f"{logs.folder(kind, project.name, now)}/a.parquet", parquet(table))


def test_a_snapshot_of_an_earlier_release_is_judged_without_a_trusted_part(world: World) -> None:
    rows = world.split(2)
    with retrainings.unconverted():
        model = retrainings.trained(world.project, rows.train)
        evaluation = evaluate.compare(
            world.project,
            rows.holdout.drop("_group", "_trusted"),
            [bench.contender(model)],
            bench.champion(model),
            snapshot="a",
            source="mirror",
            latency=bench.no_latency,
        )
    assert evaluation["champion"]["trusted"] is None
    assert evaluation["champion"]["gain"]["value"] == 0
    assert evaluation["look"]["left"] == budget.ALPHA  # the challenger is the champion itself
    assert not gate.judge(world.project, evaluation).passed
