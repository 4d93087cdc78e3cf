"""Every project, whichever it is: what the contract's suite asks of it. A new project adds no line here."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from phaseflow import Project, registry
from phaseflow.reference import psi
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source, tabular
from pipelines.etl.snapshot import in_holdout, keys
from pipelines.steps import bins

PROJECTS = registry.all_projects()
TABLES = [project for project in PROJECTS if project.family == "tabular"]


@pytest.fixture(scope="module", params=TABLES, ids=lambda project: project.name)
def project(request: pytest.FixtureRequest) -> Project:
    found: Project = request.param
    return found


@pytest.fixture(scope="module")
def rows(project: Project, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    home = tmp_path_factory.mktemp("home")
    settings = from_environment({"PHASEFLOW_HOME": str(home), "PHASEFLOW_OFFLINE": "1"})
    loaded = source.load(project, settings, Store(settings.store))
    assert loaded.origin == "sample"
    return source.rows(loaded, project)


@pytest.fixture(scope="module")
def split(project: Project, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    held = pl.Series([in_holdout(key, project.holdout_share) for key in keys(rows, project.schema)], dtype=pl.Boolean)
    return rows.filter(~held), rows.filter(held)


def score(project: Project, onnx: bytes, classes: tuple[str, ...], rows: pl.DataFrame) -> float:
    """Higher is better: ROC AUC (one against the rest), or R²."""
    assert project.schema.target is not None
    said, truth = tabular.run(onnx, tabular.feed(rows, project.schema)), rows[project.schema.target.name]
    if classes:
        names = truth.cast(pl.String).to_numpy().astype(str)
        if len(classes) == 2:
            return float(roc_auc_score(names == classes[-1], said["probabilities"][:, -1]))
        return float(roc_auc_score(names, said["probabilities"], multi_class="ovr", labels=list(classes)))
    values = truth.cast(pl.Float64).to_numpy()
    return float(1 - np.mean((values - said["value"]) ** 2) / values.var())


def test_the_declaration_is_whole(project: Project) -> None:
    assert project.schema.target is not None
    for reference in (project.source.sample, project.transform, project.train, project.drift.scenario):
        assert callable(registry.load(reference))


def test_the_sample_is_the_same_each_time_and_its_rows_are_right(project: Project, rows: pl.DataFrame) -> None:
    sample = registry.load(project.source.sample)
    assert sample(project.seed) == sample(project.seed)
    assert rows.height >= project.source.minimum_rows
    assert rows.columns == [column.name for column in project.schema.columns]


def test_no_row_is_on_both_sides(project: Project, split: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    train, holdout = (set(keys(side, project.schema)) for side in split)
    assert train
    assert holdout
    assert not train & holdout


def test_every_candidate_learns_and_shuffled_truth_teaches_nothing(
    project: Project, split: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    train, holdout = split
    assert project.schema.target is not None
    target = project.schema.target.name
    fit = registry.load(project.train)
    chance = 0.5 if project.task == "classification" else 0.0
    for candidate in project.candidates:
        model = fit(train, project, candidate)
        learned = score(project, model.onnx, model.classes, holdout)
        assert learned > chance + 0.2, candidate.name
    # One shuffle may be lucky, five are not. A fit to noise does worse than chance on numbers; never better.
    lucky = []
    for seed in range(5):
        nothing = fit(train.with_columns(train[target].shuffle(seed=seed)), project, project.candidates[0])
        lucky.append(score(project, nothing.onnx, nothing.classes, holdout))
    assert np.mean(lucky) < chance + 0.1


def test_the_model_answers_missing_and_unknown_values(project: Project, rows: pl.DataFrame) -> None:
    model = registry.load(project.train)(rows, project, project.candidates[0])
    odd = rows.head(2).with_columns(
        *(pl.lit(None, rows[name].dtype).alias(name) for name in tabular.numbers(project.schema)),
        *(pl.lit("never seen").alias(name) for name in tabular.categories(project.schema)),
    )
    said = tabular.run(model.onnx, tabular.feed(odd, project.schema))
    values = said["probabilities"] if model.classes else said["value"]
    assert np.isfinite(values).all()


def test_one_row_and_many_get_the_same_answer(project: Project, rows: pl.DataFrame) -> None:
    model = registry.load(project.train)(rows, project, project.candidates[-1])
    name = "probabilities" if model.classes else "value"
    together = tabular.run(model.onnx, tabular.feed(rows.head(20), project.schema))[name]
    alone = [tabular.run(model.onnx, tabular.feed(rows[place], project.schema))[name][0] for place in range(20)]
    np.testing.assert_allclose(together, np.array(alone), rtol=1e-6)


def test_the_changed_world_drifts_where_it_is_watched(project: Project, rows: pl.DataFrame) -> None:
    drifted = registry.load(project.drift.scenario)(rows, np.random.default_rng(1))
    assert drifted.columns == rows.columns
    assert drifted.height == rows.height
    known = {b.feature: b for b in bins.reference(project, rows, pl.Series("prediction", ["a"] * rows.height))}
    found = {}
    for name in project.watched:
        counts = np.zeros(len(known[name].shares))
        for value in drifted[name].to_list():
            counts[known[name].index(value if not isinstance(value, bool) else str(value).lower())] += 1
        found[name] = psi(known[name].shares, list(counts / drifted.height))
    assert max(found.values()) > 2 * project.drift.psi, found


def test_retraining_answers_the_changed_world(project: Project, split: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    train, holdout = split
    world, fit = registry.load(project.drift.scenario), registry.load(project.train)
    candidate = project.candidates[-1]
    old = fit(train, project, candidate)
    new = fit(pl.concat([train, world(train, np.random.default_rng(1))]), project, candidate)
    later = world(holdout, np.random.default_rng(2))
    assert score(project, new.onnx, new.classes, later) > score(project, old.onnx, old.classes, later) + 0.05
