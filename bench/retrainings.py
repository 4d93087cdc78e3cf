"""Simulated retrainings without MLflow, Airflow and files: models are trained by the pipeline's own functions, and what they predict is kept.

Each time the rows are split anew, and champion and challenger learn resamples (Efron 1979) of the same training rows, so that both the
holdout and the training vary. Predictions are kept in a folder whose name is a digest of all that made them, so that an interrupted run goes on
where it was, and a changed training begins anew. The gate's rule is not among it: it judges kept predictions again in a moment.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import hashlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import polars as pl
import sklearn
from sklearn.pipeline import Pipeline

import projects
from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.settings import ROOT, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import draws, graph, holdout, newest, pictures, source, tabular
from phaseflow.toolkit.fit import fit
from pipelines.etl.caps import capped
from pipelines.steps import selection
from pipelines.steps.metrics import Array

TEXTS: Final = "texts"
"""The project that `phaseflow new` makes of a file of sentences."""
SENTENCES: Final = 1500
BEFORE: Final = 400
"""Rows of the world as it was that the demo sends first: ten seconds at forty a second (`phaseflow.cli.demo`)."""
LATER: Final = 4800
"""Rows that have come besides when the next retraining is allowed to start: 120 s at forty a second (`phaseflow.cli.demo.HOME_SETTINGS`).
The caps of the ETL let fewer of them through."""
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


def after(project: Project) -> int:
    """Rows of the changed world whose truths have come back when the retraining takes its snapshot: the fewest for which the demo's rate is
    set, so that the newest rows on the side of training are of that world (`phaseflow.cli.demo.RATE`).
    """
    return round(newest.ENOUGH / (1 - project.holdout_share))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A project's rows as a snapshot holds them, split anew."""

    project: Project
    train: pl.DataFrame
    holdout: pl.DataFrame


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A project and its base rows [N], with `_key` and `_group`."""

    project: Project
    rows: pl.DataFrame

    @classmethod
    def of(cls, name: str) -> World:
        """The world of a project, made of the rows of its sample."""
        project = declared(name)
        with tempfile.TemporaryDirectory() as home:
            settings = from_environment({"PHASEFLOW_HOME": home, "PHASEFLOW_OFFLINE": "1"})
            rows = source.grouped_rows(source.load(project, settings, Store(settings.store)), project, settings)
        return cls(project=project, rows=rows)

    def split(self, seed: int) -> Split:
        """Another split: each row's group is hashed with the seed."""
        salted = [hashlib.sha256(f"{seed} {group}".encode()).hexdigest() for group in self.rows["_group"]]
        rows = self.rows.with_columns(
            pl.Series("_group", salted),
            pl.lit(None, pl.String).alias("_id"),
            pl.lit("base").alias("_origin"),
            pl.lit("").alias("_client"),
            pl.lit(None, pl.Datetime("us", "UTC")).alias("_time"),
            pl.lit(value=True).alias("_trusted"),
        )
        train, held = holdout.sides(rows, self.project)
        return Split(project=self.project, train=train, holdout=held)


def declared(name: str) -> Project:
    """A declared project, or `TEXTS`: the sample's sentences of film_sentiment as a CSV, made into a project."""
    if name != TEXTS:
        return registry.get(name)
    from phaseflow.scaffold.__main__ import another  # noqa: PLC0415  # in the environment of tables alone

    folder = Path(tempfile.mkdtemp(prefix="bench-gate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "projects").mkdir()
    read, sample = (registry.load(f"film_sentiment.data:{function}") for function in ("read", "sample"))
    sentences: pl.DataFrame = read(*sample(7)).sample(fraction=1.0, shuffle=True, seed=7).head(SENTENCES)
    sentences.write_csv(folder / "sentences.csv")
    projects.__path__.append(str(folder / "projects"))
    another(TEXTS, folder / "projects", csv=folder / "sentences.csv", text="review", target="sentiment")
    return registry.get(TEXTS)


def resampled(split: Split, random: np.random.Generator) -> Split:
    """The same holdout, and training rows drawn with replacement."""
    count = split.train.height
    return dataclasses.replace(split, train=split.train[random.integers(0, count, count)])


def with_traffic(split: Split, random: np.random.Generator, *, drift: bool, more: int = 0) -> Split:
    """What a retraining's snapshot holds after traffic: rows of the world as it was, and then of the changed one, or of the same.

    Of the second part `after` are drawn, and `more`.

    Drawn, grouped, capped and split by the functions of traffic and ETL.
    """
    project = split.project
    known = pl.concat([split.train, split.holdout])
    columns = [column.name for column in project.schema.columns]
    parts = [
        pl.concat(_first(draws.draws(known, project, random, drift=changed), count))
        for count, changed in ((BEFORE, False), (after(project) + more, drift))
    ]
    back = pl.concat(parts).select(*columns, "_group")
    times = [START + timedelta(milliseconds=25 * place) for place in range(back.height)]
    back = back.with_columns(
        holdout.keys(back, project),
        pl.Series("_id", [_id(time, random) for time in times]),
        pl.lit("feedback").alias("_origin"),
        pl.lit("").alias("_client"),
        pl.Series("_time", times, pl.Datetime("us", "UTC")),
        pl.lit(value=False).alias("_trusted"),
        pl.col("_group").alias("_sent"),
    )
    back = back.with_columns(holdout.feedback_groups(back, project))
    rows = capped(pl.concat([known, back.select(known.columns)]), project)
    train, held = holdout.sides(rows, project)
    return Split(project=project, train=train, holdout=held)


def _id(time: datetime, random: np.random.Generator) -> str:
    """As the service gives it: milliseconds, and chance."""
    return f"{round(time.timestamp() * 1000):012x}{int(random.integers(2**62)):032x}"


def _first(batches: Iterator[pl.DataFrame], count: int) -> Iterator[pl.DataFrame]:
    while count > 0:
        batch = next(batches).head(count)
        count -= batch.height
        yield batch


class _Unchecked(Pipeline):  # type: ignore[misc]  # scikit-learn has no types
    """Isn't asked again of the rows that it was fitted on, to be compared with its file."""

    def predict_proba(self, _: Any) -> Array:
        return np.zeros(1, np.float32)


class _Native:
    """A scikit-learn pipeline with the two outputs of its ONNX file."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def outputs(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        table = pl.DataFrame({tabular.PREFIX + name: values[:, 0] for name, values in feeds.items()})
        table = table.select(
            pl.col(name).cast(pl.String) if dtype == pl.Object else pl.col(name)
            for name, dtype in zip(table.columns, table.dtypes, strict=True)
        ).select(self.model.feature_names_in_)
        shares = Pipeline.predict_proba(self.model, table)
        return {"label": self.model.classes_[shares.argmax(axis=1)], "probabilities": shares.astype(np.float32)}


@contextlib.contextmanager
def unconverted() -> Iterator[None]:
    """Classifiers of tables stay scikit-learn's: conversion to ONNX takes half of a training, and is exact to 1e-5 (`PROBABILITY_GAP`)."""
    run, session = graph.run, graph.session

    def ready(content: bytes) -> Any:
        return _Native(pickle.loads(content)) if content[:1] == b"\x80" else session(content)  # noqa: S301  # our own

    def outputs(model: Any, feeds: dict[str, Array]) -> dict[str, Array]:
        return model.outputs(feeds) if isinstance(model, _Native) else run(model, feeds)

    def unchecked(_: bytes, __: Mapping[str, Array]) -> dict[str, Array]:
        return {"probabilities": np.zeros(1, np.float32)}

    with contextlib.ExitStack() as stack:
        stack.enter_context(sklearn.config_context(assume_finite=True, skip_parameter_validation=True))
        stack.enter_context(mock.patch.object(tabular, "Pipeline", _Unchecked))
        stack.enter_context(mock.patch.object(graph, "run", outputs))
        stack.enter_context(mock.patch.object(graph, "session", ready))
        stack.enter_context(mock.patch.object(tabular, "to_onnx", lambda model, _: pickle.dumps(model)))
        stack.enter_context(mock.patch.object(tabular, "run", unchecked))
        stack.enter_context(mock.patch.object(tabular, "alike", return_value=None))
        yield


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained winner of selection."""

    candidate: str
    content: bytes
    classes: tuple[str, ...]

    def outputs(self, rows: pl.DataFrame, project: Project) -> dict[str, Array]:
        """What the served graph gives of rows [N]."""
        return graph.run(graph.session(self.content), graph.feed(rows, project.schema))


def trained(project: Project, rows: pl.DataFrame) -> Model:
    """The candidate that selection chooses, as the pipeline's training step leaves it."""
    about = {
        candidate.name: {"candidate": candidate.name, "selection": selection.select(rows, project, candidate)}
        for candidate in project.candidates
    }
    name = selection.winner(project, about)
    with pictures.undrawn():
        model = fit(rows, project, next(candidate for candidate in project.candidates if candidate.name == name))
    return Model(candidate=name, content=model.onnx, classes=tuple(model.classes))


PAIR, LATE, POOL = "pair", "late", "pool"
SIZE: Final = 30
"""Models of a pool: the sequences of one split draw them without repetition, since 2,100 trainings would take a day."""


def unchanged(world: World, seed: int) -> Split:
    """The holdout on which nothing changed: after traffic of the same world."""
    return with_traffic(first(world, seed), np.random.default_rng([seed, 6]), drift=False)


def drifted(world: World, seed: int, *, more: int = 0) -> Split:
    """The rows of a retraining after the drift, whose base rows are those of the champion."""
    return with_traffic(first(world, seed), np.random.default_rng([seed, 3]), drift=True, more=more)


def first(world: World, seed: int) -> Split:
    """What the champion of this seed learns."""
    return resampled(world.split(seed), np.random.default_rng([seed, 1]))


def models(world: World, kind: str, seed: int) -> list[Model]:
    """Trained models of one seed.

    For `PAIR` a champion, another one of like rows, and one after the drift; for `LATE` one that has seen more of the drift; for `POOL` many
    of like rows.
    """
    project = world.project
    if kind == LATE:
        return [trained(project, drifted(world, seed, more=LATER).train)]
    split = world.split(seed)
    if kind == POOL:
        random = np.random.default_rng([seed, 4])
        return [trained(project, resampled(split, random).train) for _ in range(SIZE)]
    rows = [first(world, seed).train, resampled(split, np.random.default_rng([seed, 2])).train]
    rows += [drifted(world, seed).train] if project.drift.scenario else []
    return [trained(project, one) for one in rows]


SOURCES: Final = (
    "bench/retrainings.py",
    "phaseflow/toolkit",
    "pipelines/etl/caps.py",
    "pipelines/steps/metrics.py",
    "pipelines/steps/predictions.py",
    "pipelines/steps/selection.py",
)
"""What decides on a trained model, beside the project's own folder."""


def digest(paths: tuple[str, ...]) -> str:
    """Sixteen digits of the SHA-256 of Python files and those in folders, tests not among them."""
    state = hashlib.sha256()
    for path in paths:
        whole = ROOT / path
        files = [whole] if whole.is_file() else sorted(whole.rglob("*.py"))
        for file in files:
            if "tests" not in file.relative_to(ROOT).parts:
                state.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return state.hexdigest()[:16]


def folder(work: Path, name: str) -> Path:
    """Where the trained models of a project are kept, in this state of its sources."""
    own = ("phaseflow/scaffold", "projects/film_sentiment") if name == TEXTS else (f"projects/{name}",)
    return work / f"{name}-{digest((*SOURCES, *own))}"


def load(path: Path) -> list[Model]:
    """Kept models."""
    content: list[Model] = pickle.loads(path.read_bytes())  # noqa: S301  # our own file
    return content


def save(path: Path, trained_models: list[Model]) -> None:
    """Keep them, all or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(pickle.dumps(trained_models))
    unfinished.replace(path)
