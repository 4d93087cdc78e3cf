"""Every project of this environment's family, whichever it is: what the contract's suite asks of it. A new one adds no line here."""

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

from phaseflow import Project, answers, logs, registry
from phaseflow.contract import UNSUPERVISED, Candidate
from phaseflow.reference import psi
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import graph, images, source, twins
from phaseflow.toolkit.draws import draws, drifted
from phaseflow.toolkit.fit import fit
from phaseflow.toolkit.holdout import keys, sides
from phaseflow.toolkit.model import Trained
from phaseflow.toolkit.scalars import scalars, vocabularies
from pipelines.etl.extract import extract, parquet
from pipelines.etl.snapshot import snapshot
from pipelines.etl.validate import validate
from pipelines.steps import bins, metrics
from pipelines.steps.predictions import ask, played
from pipelines.steps.profile import profile

FAMILY = Path(sys.prefix).name
PROJECTS = [project for project in registry.all_projects() if project.family == FAMILY]
SCALARS = {"number", "integer", "boolean"}
MOST_DRIFTED = 400
"""Rows of a side that are played in the changed world."""


@pytest.fixture(scope="module", params=PROJECTS, ids=lambda project: project.name)
def project(request: pytest.FixtureRequest) -> Project:
    found: Project = request.param
    return found


@pytest.fixture(scope="module")
def known(project: Project, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The sample's rows, with what decides their side."""
    home = tmp_path_factory.mktemp("home")
    settings = from_environment({"PHASEFLOW_HOME": str(home), "PHASEFLOW_OFFLINE": "1"})
    loaded = source.load(project, settings, Store(settings.store))
    assert loaded.origin == "sample"
    return source.grouped_rows(loaded, project, settings)


@pytest.fixture(scope="module")
def rows(project: Project, known: pl.DataFrame) -> pl.DataFrame:
    return known.drop("_key", "_group")


@pytest.fixture(scope="module")
def split(project: Project, known: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    train, holdout = sides(known, project)
    return train.drop("_key", "_group"), holdout.drop("_key", "_group")


def test_its_snapshot_is_pictured(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1", "PHASEFLOW_DATA_MIRROR": ""}.items():
        monkeypatch.setenv(name, value)
    place = from_environment()
    store = Store(place.store)
    found = extract(project, "run", place, store)
    validate(project, "run", store)
    page = profile(project.name, str(snapshot(project, "run", store, found)["snapshot"]))
    assert page.count("<img") >= 1


Once = Callable[[Candidate], Trained]


@pytest.fixture(scope="module")
def fitted(project: Project, split: tuple[pl.DataFrame, pl.DataFrame]) -> Once:
    """Candidates fitted on the train rows, each once."""
    known: dict[str, Trained] = {}

    def once(candidate: Candidate) -> Trained:
        if candidate.name not in known:
            known[candidate.name] = fit(split[0], project, candidate)
        return known[candidate.name]

    return once


def judged(project: Project, model: Trained, rows: pl.DataFrame) -> metrics.Answers:
    """What the gate judges: answers to rows [N], or the games that the model plays."""
    ready = graph.session(model.onnx)
    return played(project, ready, ask(project, ready, model.classes, rows), rows)


def score(project: Project, model: Trained, rows: pl.DataFrame) -> float:
    """Higher is better: ROC AUC (one against the rest) of classes, R² of numbers, else the project's first metric."""
    said = judged(project, model, rows)
    if project.evaluate:
        value = metrics.figure(project, project.primary, said)
        assert value is not None
        return value if project.primary.direction == "higher" else -value
    return metrics.FIGURES["roc_auc" if model.classes else "r2"](said)


def numbers(said: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's outputs that are numbers."""
    return {name: values for name, values in said.items() if values.dtype.kind == "f"}


def shuffled(project: Project, rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Rows [N] with nothing to learn: other rows' truths, or without a truth every column in an order of its own."""
    names = [project.schema.target.name] if project.schema.target else project.schema.feature_names
    return rows.with_columns(rows[name].shuffle(seed=seed + place) for place, name in enumerate(names))


def test_the_declaration_is_whole(project: Project) -> None:
    for reference in (project.source.sample, project.transform, project.train, project.drift.scenario):
        assert callable(registry.load(reference))


def test_the_sample_is_the_same_each_time_and_its_rows_are_right(project: Project, rows: pl.DataFrame) -> None:
    sample = registry.load(project.source.sample)
    assert sample(project.seed) == sample(project.seed)
    assert rows.height >= project.source.minimum_rows
    assert rows.columns == [column.name for column in project.schema.columns]


def apart(project: Project, train: pl.DataFrame, holdout: pl.DataFrame) -> None:
    """No row of one side has a twin, or a row of its group, on the other; but for the group where rows are a history."""
    assert train.height
    assert holdout.height
    assert not set(keys(train, project)) & set(keys(holdout, project))
    assert project.history or not set(train["_group"]) & set(holdout["_group"])
    assert twins.twins(train, holdout, project) == 0


def test_no_row_is_on_both_sides(project: Project, known: pl.DataFrame) -> None:
    apart(project, *sides(known, project))


def test_no_twin_of_a_held_out_row_is_trained_on_before_and_after_the_world_drifts(
    project: Project, known: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a drift turn does it: rows are drawn, answered, their truths and groups told, and the next snapshot made."""
    for name, value in {"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1", "PHASEFLOW_DATA_MIRROR": ""}.items():
        monkeypatch.setenv(name, value)
    place = from_environment()
    store = Store(place.store)
    extracted = extract(project, "run", place, store)
    validate(project, "run", store)

    def made() -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
        folder = f"datasets/{project.name}/{snapshot(project, 'run', store, extracted)['snapshot']}"
        train, holdout = (pl.read_parquet(store.read(f"{folder}/{side}.parquet")) for side in ("train", "holdout"))
        return train, holdout, json.loads(store.read(f"{folder}/manifest.json"))

    *before, manifest = made()
    apart(project, *before)
    assert manifest["twins"] == 0
    answered(project, store, next(draws(known, project, np.random.default_rng(1), drift=False)), "same")
    played = {}
    for name, side in zip(("train", "holdout"), sides(known, project), strict=True):
        played[name] = drifted(side.head(MOST_DRIFTED), project, np.random.default_rng(2))
        answered(project, store, played[name], name)
    *after, manifest = made()
    apart(project, *after)
    assert manifest["twins"] == 0
    for name, now, then in zip(("train", "holdout"), after, before, strict=True):
        assert project.history or set(then["_key"]) <= set(now["_key"])  # of a history the holdout moves on
        ids = now["_id"].drop_nulls().str.split("-").list.first()
        assert ids.len()
        inherits = played[name]["_group"].is_in(known["_group"].to_list()).all()
        if (
            inherits and project.schema.target is not None
        ):  # the copy of a row follows it, where its truth tells of its group
            assert set(ids) <= {"same", name}


def answered(project: Project, store: Store, rows: pl.DataFrame, name: str) -> None:
    """Log rows [N], which have `_group`, as the service does, and tell their truths."""
    begin = datetime.now(UTC)
    about = pl.DataFrame(
        {
            "id": [f"{name}-{number}" for number in range(rows.height)],
            "time": [begin + timedelta(microseconds=number) for number in range(rows.height)],
        }
    )
    predictions = pl.concat([about, rows.select(project.schema.feature_names)], how="horizontal")
    store.write(f"{logs.folder('predictions', project.name, begin)}/{name}.parquet", parquet(predictions))
    if project.schema.target is not None:
        told = rows.select(pl.col(project.schema.target.name).alias("truth"), pl.col("_group").alias("group"))
        feedback = pl.concat([about, told], how="horizontal").with_columns(client=pl.lit(""))
        store.write(f"{logs.folder('feedback', project.name, begin)}/{name}.parquet", parquet(feedback))


def test_every_candidate_learns_and_shuffled_rows_teach_nothing(
    project: Project, split: tuple[pl.DataFrame, pl.DataFrame], fitted: Once
) -> None:
    train, holdout = split
    learned = [score(project, fitted(candidate), holdout) for candidate in project.candidates]
    best = project.candidates[int(np.argmax(learned))]
    once = fit(shuffled(project, train, 3), project, best)
    if answers.structured(project.schema.target):  # a candidate may be a baseline, which learns little of anything
        assert max(learned) > score(project, once, holdout) + 0.1, learned
        return
    # One shuffle may be lucky, five are not. A fit to noise does worse than chance on numbers; never better.
    nothing = [fit(shuffled(project, train, seed), project, project.candidates[0]) for seed in range(0, 50, 10)]
    if project.task in UNSUPERVISED:  # where there is no structure, a fit finds little of it
        lucky = [score(project, model, shuffled(project, holdout, 99)) for model in (*nothing, once)]
        assert max(learned) > max(np.mean(lucky[:-1]), lucky[-1]) + 0.1, lucky
        return
    chance = 0.5 if nothing[0].classes else 0.0
    assert min(learned) > chance + 0.2, learned
    assert np.mean([score(project, model, holdout) for model in nothing]) < chance + 0.1
    assert score(project, once, holdout) < chance + 0.15  # that one alone is also the luck of one shuffle


def test_the_model_passes_its_own_gate(
    project: Project, split: tuple[pl.DataFrame, pl.DataFrame], fitted: Once
) -> None:
    figures = [metrics.figures(project, judged(project, fitted(c), split[1])) for c in project.candidates]
    better = max if project.primary.direction == "higher" else min
    best = better(figures, key=lambda found: found[project.primary.name] or 0.0)
    for metric in project.metrics:
        bound = metric.limit("sample")
        if bound is not None:
            assert not metric.better(bound, best[metric.name] or np.nan), (metric, best)


def test_the_model_answers_missing_and_unknown_values(project: Project, rows: pl.DataFrame, fitted: Once) -> None:
    model = fitted(project.candidates[0])
    nullable = [column for column in project.schema.features if column.nullable]
    words = [c for c in project.schema.features if c.kind not in SCALARS | {"image"} and not c.allowed]
    odd = rows.head(2).with_columns(
        *(pl.lit(None, rows[column.name].dtype).alias(column.name) for column in nullable if column.kind in SCALARS),
        *(pl.lit("never seen").alias(column.name) for column in words),
    )
    for image in (column for column in project.schema.features if column.kind == "image"):
        odd = odd.with_columns(pl.Series(image.name, [bytes(image.size), b"\xff" * image.size]))
    said = graph.run(model.onnx, graph.feed(odd, project.schema))
    assert answers.unfinished(said) is None
    assert len(answers.values(said, project.schema.target, model.classes)) == 2


def test_one_row_and_many_get_the_same_answer(project: Project, rows: pl.DataFrame, fitted: Once) -> None:
    model = fitted(project.candidates[-1])
    together = numbers(graph.run(model.onnx, graph.feed(rows.head(20), project.schema)))
    alone = [graph.run(model.onnx, graph.feed(rows[place], project.schema)) for place in range(20)]
    for name, values in together.items():
        np.testing.assert_allclose(values, np.concatenate([one[name] for one in alone]), rtol=1e-4, atol=1e-5)


def test_what_it_tells_of_its_reasons_is_a_number_a_feature(project: Project, rows: pl.DataFrame, fitted: Once) -> None:
    for candidate in project.candidates:
        said = graph.run(fitted(candidate).onnx, graph.feed(rows.head(5), project.schema))
        assert said.get("contributions", np.zeros((5, len(project.schema.features)))).shape == (
            5,
            len(project.schema.features),
        )


def test_images_are_sent_without_a_loss(project: Project, rows: pl.DataFrame) -> None:
    for column in (column for column in project.schema.features if column.kind == "image"):
        for pixels in rows[column.name].head(5):
            assert images.decode(images.encode(pixels, column.shape), column.shape) == pixels


def test_the_changed_world_drifts_where_it_is_watched(project: Project, rows: pl.DataFrame) -> None:
    later = registry.load(project.drift.scenario)(rows, np.random.default_rng(1))
    assert later.columns in (rows.columns, [*rows.columns, project.group])
    assert later.height == rows.height
    # As in a live platform: the reference and the first requests are different rows of the same world.
    half = pl.Series([place % 2 == 0 for place in range(rows.height)])
    words = vocabularies(project.schema, rows.filter(half))
    known = bins.reference(project, rows.filter(half), [], words)[: len(project.watched)]

    def worst(live: pl.DataFrame) -> dict[str, float]:
        seen, found = scalars(project.schema, live, words), {}
        for one in known:
            counts = np.zeros(len(one.shares))
            for value in seen[one.feature].to_list():
                counts[one.index(value if not isinstance(value, bool) else str(value).lower())] += 1
            found[one.feature] = psi(one.shares, list(counts / live.height))
        return found

    assert tuple(one.feature for one in known) == project.watched
    assert max(worst(later).values()) > 2 * project.drift.psi, worst(later)
    same = worst(rows.filter(~half))
    assert max(same.values()) < project.drift.psi, same


def test_retraining_answers_the_changed_world(
    project: Project, split: tuple[pl.DataFrame, pl.DataFrame], fitted: Once
) -> None:
    train, holdout = split

    def world(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
        later: pl.DataFrame = registry.load(project.drift.scenario)(rows, random)
        return later.select(rows.columns)

    candidate = max(project.candidates, key=lambda one: score(project, fitted(one), holdout))
    both = pl.concat([train, world(train, np.random.default_rng(1))])
    new = fit(both, project, candidate)
    later = world(holdout, np.random.default_rng(2))
    assert score(project, new, later) > score(project, fitted(candidate), later) + 0.05
