"""The contract suite: tests that every project of this environment must pass. A new project needs no changes here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from phaseflow import Project, discovery, logs, prediction_types
from phaseflow.contract import Candidate
from phaseflow.reference import psi
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import graph, images, source, twins
from phaseflow.toolkit.draws import draws, drifted
from phaseflow.toolkit.fit import fit
from phaseflow.toolkit.holdout import row_hashes, train_holdout_split
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.scalars import scalars, vocabularies
from pipelines.etl.extract import extract, parquet
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import validate
from pipelines.steps import bins, metrics
from pipelines.steps.predictions import predict, rollout
from pipelines.steps.profile import profile

ENVIRONMENT = Path(sys.prefix).name
PROJECTS = [project for project in discovery.all_projects() if project.environment == ENVIRONMENT]
SCALARS = {"number", "integer", "boolean"}
MAX_DRIFTED = 400
"""Maximum rows per side that drift is simulated for."""


@pytest.fixture(scope="module", params=PROJECTS, ids=lambda project: project.name)
def project(request: pytest.FixtureRequest) -> Project:
    declared: Project = request.param
    return declared


@pytest.fixture(scope="module")
def grouped_rows(project: Project, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The sample's rows with `_key` and `_group`, which decide the split."""
    home = tmp_path_factory.mktemp("home")
    settings = from_environment({"PHASEFLOW_HOME": str(home), "PHASEFLOW_OFFLINE": "1"})
    loaded = source.load(project, settings, Store(settings.store))
    assert loaded.origin == "sample"
    return source.grouped_rows(loaded, project, settings)


@pytest.fixture(scope="module")
def rows(project: Project, grouped_rows: pl.DataFrame) -> pl.DataFrame:
    return grouped_rows.drop("_key", "_group")


@pytest.fixture(scope="module")
def split(project: Project, grouped_rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    train, holdout = train_holdout_split(grouped_rows, project)
    return train.drop("_key", "_group"), holdout.drop("_key", "_group")


def test_the_profile_of_its_snapshot_has_images(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1", "PHASEFLOW_DATA_MIRROR": ""}.items():
        monkeypatch.setenv(name, value)
    settings = from_environment()
    store = Store(settings.store)
    extracted = extract(project, "run", settings, store)
    validate(project, "run", store)
    page = profile(project.name, str(snapshot(project, "run", store, extracted)["snapshot"]))
    assert page.count("<img") >= 1


Once = Callable[[Candidate], Trained]


@pytest.fixture(scope="module")
def fitted(project: Project, split: tuple[pl.DataFrame, pl.DataFrame]) -> Once:
    """A function that fits a candidate on the train rows, once per candidate."""
    cache: dict[str, Trained] = {}

    def fit_once(candidate: Candidate) -> Trained:
        if candidate.name not in cache:
            cache[candidate.name] = fit(split[0], project, candidate)
        return cache[candidate.name]

    return fit_once


def eval_batch(project: Project, model: Trained, rows: pl.DataFrame) -> metrics.EvalBatch:
    """What the gate evaluates: predictions for rows [N], or the episodes that the model plays."""
    ready = graph.session(model.onnx)
    return rollout(project, ready, predict(project, ready, model.classes, rows), rows)


def score(project: Project, model: Trained, rows: pl.DataFrame) -> float:
    """A score, higher is better: ROC AUC (one-vs-rest) for classes, R² for numbers, else the primary metric."""
    batch = eval_batch(project, model, rows)
    if project.evaluate:
        value = metrics.figure(project, project.primary, batch)
        assert value is not None
        return value if project.primary.direction == "higher" else -value
    return metrics.FIGURES["roc_auc" if model.classes else "r2"](batch)


def numbers(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The floating-point outputs of the graph."""
    return {name: values for name, values in outputs.items() if values.dtype.kind == "f"}


def shuffled(project: Project, rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Rows [N] with nothing to learn: shuffled labels, or without a label every column shuffled separately."""
    names = [project.schema.target.name] if project.schema.target else project.schema.feature_names
    return rows.with_columns(rows[name].shuffle(seed=seed + index) for index, name in enumerate(names))


def test_the_declaration_is_complete(project: Project) -> None:
    for reference in (project.source.sample, project.transform, project.train, project.drift.scenario):
        assert callable(discovery.load(reference))


def test_the_sample_is_reproducible_and_its_rows_are_valid(project: Project, rows: pl.DataFrame) -> None:
    sample = discovery.load(project.source.sample)
    assert sample(project.seed) == sample(project.seed)
    assert rows.height >= project.source.minimum_rows
    assert rows.columns == [column.name for column in project.schema.columns]


def apart(project: Project, train: pl.DataFrame, holdout: pl.DataFrame) -> None:
    """Assert that no row has a twin, or (except in a history) a row of its group, on the other side."""
    assert train.height
    assert holdout.height
    assert not set(row_hashes(train, project)) & set(row_hashes(holdout, project))
    assert project.temporal_group or not set(train["_group"]) & set(holdout["_group"])
    assert twins.twins(train, holdout, project) == 0


def test_no_row_is_on_both_sides_of_the_split(project: Project, grouped_rows: pl.DataFrame) -> None:
    apart(project, *train_holdout_split(grouped_rows, project))


def test_no_twin_of_a_holdout_row_is_trained_on_before_and_after_drift(
    project: Project, grouped_rows: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a drift cycle: draw rows, log predictions, send labels and groups, and create the next snapshot."""
    for name, value in {"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1", "PHASEFLOW_DATA_MIRROR": ""}.items():
        monkeypatch.setenv(name, value)
    settings = from_environment()
    store = Store(settings.store)
    extracted = extract(project, "run", settings, store)
    validate(project, "run", store)

    def make_snapshot() -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
        folder = f"datasets/{project.name}/{snapshot(project, 'run', store, extracted)['snapshot']}"
        train, holdout = (pl.read_parquet(store.read(f"{folder}/{side}.parquet")) for side in ("train", "holdout"))
        return train, holdout, json.loads(store.read(f"{folder}/manifest.json"))

    *before, manifest = make_snapshot()
    apart(project, *before)
    assert manifest["twins"] == 0
    log_predictions(project, store, next(draws(grouped_rows, project, np.random.default_rng(1), drift=False)), "same")
    drifted_rows = {}
    for name, side in zip(("train", "holdout"), train_holdout_split(grouped_rows, project), strict=True):
        drifted_rows[name] = drifted(side.head(MAX_DRIFTED), project, np.random.default_rng(2))
        log_predictions(project, store, drifted_rows[name], name)
    *after, manifest = make_snapshot()
    apart(project, *after)
    assert manifest["twins"] == 0
    for name, now, then in zip(("train", "holdout"), after, before, strict=True):
        assert project.temporal_group or set(then["_key"]) <= set(now["_key"])  # in a history the holdout moves on
        ids = now["_id"].drop_nulls().str.split("-").list.first()
        assert ids.len()
        inherits = drifted_rows[name]["_group"].is_in(grouped_rows["_group"].to_list()).all()
        # The copy of a row stays on its side if its label came with the group.
        if inherits and project.schema.target is not None:
            assert set(ids) <= {"same", name}


def log_predictions(project: Project, store: Store, rows: pl.DataFrame, name: str) -> None:
    """Log rows [N], which have `_group`, as the service does, with labels as feedback."""
    begin = datetime.now(UTC)
    ids = pl.DataFrame(
        {
            "id": [f"{name}-{number}" for number in range(rows.height)],
            "time": [begin + timedelta(microseconds=number) for number in range(rows.height)],
        }
    )
    predictions = pl.concat([ids, rows.select(project.schema.feature_names)], how="horizontal")
    store.write(f"{logs.folder('predictions', project.name, begin)}/{name}.parquet", parquet(predictions))
    if project.schema.target is not None:
        feedback_columns = rows.select(
            pl.col(project.schema.target.name).alias("label"), pl.col("_group").alias("group")
        )
        feedback = pl.concat([ids, feedback_columns], how="horizontal").with_columns(client=pl.lit(""))
        store.write(f"{logs.folder('feedback', project.name, begin)}/{name}.parquet", parquet(feedback))


def test_every_candidate_learns_and_shuffled_rows_have_nothing_to_learn(
    project: Project, split: tuple[pl.DataFrame, pl.DataFrame], fitted: Once
) -> None:
    train, holdout = split
    scores = [score(project, fitted(candidate), holdout) for candidate in project.candidates]
    best = project.candidates[int(np.argmax(scores))]
    shuffled_model = fit(shuffled(project, train, 3), project, best)
    # For structured targets a candidate may be a baseline that learns little.
    if prediction_types.is_structured(project.schema.target):
        assert max(scores) > score(project, shuffled_model, holdout) + 0.1, scores
        return
    # One shuffle may be lucky, five are not. On numbers, a fit to noise is worse than chance, never better.
    shuffled_models = [fit(shuffled(project, train, seed), project, project.candidates[0]) for seed in range(0, 50, 10)]
    if project.schema.target is None:  # without structure, a fit finds little
        shuffled_scores = [
            score(project, model, shuffled(project, holdout, 99)) for model in (*shuffled_models, shuffled_model)
        ]
        assert max(scores) > max(np.mean(shuffled_scores[:-1]), shuffled_scores[-1]) + 0.1, shuffled_scores
        return
    chance = 0.5 if shuffled_models[0].classes else 0.0
    assert min(scores) > chance + 0.2, scores
    assert np.mean([score(project, model, holdout) for model in shuffled_models]) < chance + 0.1
    assert score(project, shuffled_model, holdout) < chance + 0.15  # wider tolerance: a single shuffle may be lucky


def test_the_model_passes_its_own_gate(
    project: Project, split: tuple[pl.DataFrame, pl.DataFrame], fitted: Once
) -> None:
    figures = [metrics.figures(project, eval_batch(project, fitted(c), split[1])) for c in project.candidates]
    better = max if project.primary.direction == "higher" else min
    best = better(figures, key=lambda row: row[project.primary.name] or 0.0)
    for metric in project.metrics:
        bound = metric.limit("sample")
        if bound is not None:
            assert not metric.better(bound, best[metric.name] or np.nan), (metric, best)


def test_the_model_predicts_for_missing_and_unknown_values(project: Project, rows: pl.DataFrame, fitted: Once) -> None:
    nullable = [column for column in project.schema.features if column.nullable]
    words = [c for c in project.schema.features if c.kind not in SCALARS | {"image"} and not c.allowed]
    odd = rows.head(2).with_columns(
        *(pl.lit(None, rows[column.name].dtype).alias(column.name) for column in nullable if column.kind in SCALARS),
        *(pl.lit("never seen").alias(column.name) for column in words),
    )
    for image in (column for column in project.schema.features if column.kind == "image"):
        odd = odd.with_columns(pl.Series(image.name, [bytes(image.size), b"\xff" * image.size]))
    for model in map(fitted, project.candidates):
        outputs = graph.run(model.onnx, graph.feed(odd, project.schema))
        assert prediction_types.first_non_finite(outputs) is None
        assert len(prediction_types.values(outputs, project.schema.target, model.classes)) == 2


def test_one_row_and_many_get_the_same_predictions(project: Project, rows: pl.DataFrame, fitted: Once) -> None:
    for model in map(fitted, project.candidates):
        session = graph.session(model.onnx)
        together = numbers(graph.run(session, graph.feed(rows.head(20), project.schema)))
        alone = [graph.run(session, graph.feed(rows[index], project.schema)) for index in range(20)]
        for name, values in together.items():
            np.testing.assert_allclose(
                values, np.concatenate([outputs[name] for outputs in alone]), rtol=1e-4, atol=1e-5
            )


def test_contributions_are_one_number_per_feature(project: Project, rows: pl.DataFrame, fitted: Once) -> None:
    for candidate in project.candidates:
        outputs = graph.run(fitted(candidate).onnx, graph.feed(rows.head(5), project.schema))
        assert outputs.get("contributions", np.zeros((5, len(project.schema.features)))).shape == (
            5,
            len(project.schema.features),
        )


def test_images_are_sent_without_loss(project: Project, rows: pl.DataFrame) -> None:
    for column in (column for column in project.schema.features if column.kind == "image"):
        for pixels in rows[column.name].head(5):
            assert images.decode(images.encode(pixels, column.shape), column.shape) == pixels


def test_simulated_drift_is_in_the_monitored_features(project: Project, rows: pl.DataFrame) -> None:
    later = discovery.load(project.drift.scenario)(rows, np.random.default_rng(1))
    assert later.columns in (rows.columns, [*rows.columns, project.group])
    assert later.height == rows.height
    # As in production, the reference and the first requests are different rows of the same data.
    half = pl.Series([index % 2 == 0 for index in range(rows.height)])
    words = vocabularies(project.schema, rows.filter(half))
    features = bins.reference(project, rows.filter(half), [], words)[: len(project.monitored_features)]

    def feature_drift(live: pl.DataFrame) -> dict[str, float]:
        described, drift_scores = scalars(project.schema, live, words), {}
        for feature in features:
            counts = np.zeros(len(feature.shares))
            for value in described[feature.feature].to_list():
                counts[feature.index(value if not isinstance(value, bool) else str(value).lower())] += 1
            drift_scores[feature.feature] = psi(feature.shares, list(counts / live.height))
        return drift_scores

    assert tuple(feature.feature for feature in features) == project.monitored_features
    assert max(feature_drift(later).values()) > 2 * project.drift.psi, feature_drift(later)
    same = feature_drift(rows.filter(~half))
    assert max(same.values()) < project.drift.psi, same


def test_retraining_improves_predictions_after_drift(
    project: Project, split: tuple[pl.DataFrame, pl.DataFrame], fitted: Once
) -> None:
    train, holdout = split

    def drift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
        later: pl.DataFrame = discovery.load(project.drift.scenario)(rows, random)
        return later.select(rows.columns)

    candidate = max(project.candidates, key=lambda candidate: score(project, fitted(candidate), holdout))
    both = pl.concat([train, drift(train, np.random.default_rng(1))])
    new = fit(both, project, candidate)
    later = drift(holdout, np.random.default_rng(2))
    assert score(project, new, later) > score(project, fitted(candidate), later) + 0.05
