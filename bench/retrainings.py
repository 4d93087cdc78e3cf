"""Simulate retrainings with the functions of the pipeline, without MLflow, Airflow and intermediate files.

Each simulation splits the rows anew and trains champion and challenger on bootstrap samples (Efron 1979) of the same
training rows, so that both the holdout and the training vary. Trained models are cached in a folder whose name has a
digest of the sources that influence them: an interrupted run resumes, and a change of these sources starts anew. The
rule of the gate is not part of the digest, because an evaluation of cached models is fast.
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
from sklearn.pipeline import Pipeline

from bench import cheap_fits
from phaseflow import discovery
from phaseflow.contract import Project
from phaseflow.settings import ROOT, from_environment
from phaseflow.store import Store
from phaseflow.testing import more_projects
from phaseflow.toolkit import draws, graph, holdout, newest, pictures, source, tabular
from phaseflow.toolkit.fit import fit
from pipelines.etl.caps import capped
from pipelines.steps import selection
from pipelines.steps.metrics import Array

TEXTS: Final = "texts"
"""Name of the project that `phaseflow new` creates from a file of sentences."""
SENTENCES: Final = 1500
BEFORE: Final = 400
"""Rows without drift that the demo sends first: 10 s at 40 rows/s (`cli.demo.settings`)."""
LATER: Final = 4800
"""Additional rows until the next retraining may start: 120 s at 40 rows/s (`cli.local.fresh_home.SETTINGS`).

The caps of the ETL admit fewer of them.
"""
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


def after(project: Project) -> int:
    """Rows with drift and a label when the retraining takes its snapshot.

    This is the minimum for which the demo sets its rate, so that the newest training rows have drift (`cli.demo.settings.RATE`).
    """
    return round(newest.ENOUGH / (1 - project.holdout_share))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One random split of a project's rows, in the format of a snapshot."""

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
        """Load the base rows of a project from its sample."""
        project = find_project(name)
        with tempfile.TemporaryDirectory() as home:
            settings = from_environment({"PHASEFLOW_HOME": home, "PHASEFLOW_OFFLINE": "1"})
            rows = source.grouped_rows(source.load(project, settings, Store(settings.store)), project, settings)
        return cls(project=project, rows=rows)

    def split(self, seed: int) -> Split:
        """Split the rows at random: each row's group is hashed with the seed."""
        salted = [hashlib.sha256(f"{seed} {group}".encode()).hexdigest() for group in self.rows["_group"]]
        rows = self.rows.with_columns(
            pl.Series("_group", salted),
            pl.lit(None, pl.String).alias("_id"),
            pl.lit("base").alias("_origin"),
            pl.lit("").alias("_client"),
            pl.lit(None, pl.Datetime("us", "UTC")).alias("_time"),
            pl.lit(value=True).alias("_trusted"),
        )
        train, holdout_rows = holdout.train_holdout_split(rows, self.project)
        return Split(project=self.project, train=train, holdout=holdout_rows)


def find_project(name: str) -> Project:
    """Return a declared project, or create `TEXTS` from a CSV with the sample sentences of film_sentiment."""
    if name != TEXTS:
        return discovery.get(name)
    from cli.scaffold.__main__ import create_from_texts_or_images  # noqa: PLC0415  # only the environment `tabular` has its imports

    folder = Path(tempfile.mkdtemp(prefix="bench-gate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "projects").mkdir()
    read, sample = (discovery.load(f"film_sentiment.data:{function}") for function in ("read", "sample"))
    sentences: pl.DataFrame = read(*sample(7)).sample(fraction=1.0, shuffle=True, seed=7).head(SENTENCES)
    sentences.write_csv(folder / "sentences.csv")
    stack = contextlib.ExitStack()
    stack.enter_context(more_projects(folder / "projects"))
    atexit.register(stack.close)
    create_from_texts_or_images(
        TEXTS, folder / "projects", csv=folder / "sentences.csv", text="review", target="sentiment"
    )
    return discovery.get(TEXTS)


def resample(split: Split, random: np.random.Generator) -> Split:
    """The same holdout, with a bootstrap sample of the training rows."""
    count = split.train.height
    return dataclasses.replace(split, train=split.train[random.integers(0, count, count)])


def add_traffic(split: Split, random: np.random.Generator, *, drift: bool, more: int = 0) -> Split:
    """Add the rows that a retraining's snapshot has after traffic, and split them again.

    First come `BEFORE` rows without drift, then `after(project) + more` rows, with drift if `drift` is true. The
    functions of traffic and ETL draw, group, cap and split them.
    """
    project = split.project
    base_rows = pl.concat([split.train, split.holdout])
    columns = [column.name for column in project.schema.columns]
    parts = [
        pl.concat(_first(draws.draws(base_rows, project, random, drift=changed), count))
        for count, changed in ((BEFORE, False), (after(project) + more, drift))
    ]
    feedback_rows = pl.concat(parts).select(*columns, "_group")
    times = [START + timedelta(milliseconds=25 * index) for index in range(feedback_rows.height)]
    feedback_rows = feedback_rows.with_columns(
        holdout.row_hashes(feedback_rows, project),
        pl.Series("_id", [_id(time, random) for time in times]),
        pl.lit("feedback").alias("_origin"),
        pl.lit("").alias("_client"),
        pl.Series("_time", times, pl.Datetime("us", "UTC")),
        pl.lit(value=False).alias("_trusted"),
        pl.col("_group").alias("_sent"),
    )
    feedback_rows = feedback_rows.with_columns(holdout.feedback_groups(feedback_rows, project))
    rows = capped(pl.concat([base_rows, feedback_rows.select(base_rows.columns)]), project)
    train, holdout_rows = holdout.train_holdout_split(rows, project)
    return Split(project=project, train=train, holdout=holdout_rows)


def _id(time: datetime, random: np.random.Generator) -> str:
    """An id in the format of the service: milliseconds and random digits."""
    return f"{round(time.timestamp() * 1000):012x}{int(random.integers(2**62)):032x}"


def _first(batches: Iterator[pl.DataFrame], count: int) -> Iterator[pl.DataFrame]:
    while count > 0:
        batch = next(batches).head(count)
        count -= batch.height
        yield batch


class _Unchecked(Pipeline):  # type: ignore[misc]  # scikit-learn has no types
    """A pipeline that skips the comparison with its ONNX file on the training rows."""

    def predict_proba(self, _: Any) -> Array:
        return np.zeros(1, np.float32)


class _Native:
    """A scikit-learn pipeline with the same two outputs as its ONNX file."""

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
    """Keep tabular classifiers in scikit-learn for the duration of a `with` block.

    The conversion to ONNX takes half of a training's time, and is exact to 1e-5 (`PROBABILITY_GAP`).
    """
    run, session = graph.run, graph.session

    def ready(content: bytes) -> Any:
        return _Native(pickle.loads(content)) if content[:1] == b"\x80" else session(content)  # noqa: S301  # our own

    def outputs(model: Any, feeds: dict[str, Array]) -> dict[str, Array]:
        return model.outputs(feeds) if isinstance(model, _Native) else run(model, feeds)

    def unchecked(_: bytes, __: Mapping[str, Array]) -> dict[str, Array]:
        return {"probabilities": np.zeros(1, np.float32)}

    with contextlib.ExitStack() as stack:
        stack.enter_context(cheap_fits.unchecked())
        stack.enter_context(mock.patch.object(tabular, "Pipeline", _Unchecked))
        stack.enter_context(mock.patch.object(graph, "run", outputs))
        stack.enter_context(mock.patch.object(graph, "session", ready))
        stack.enter_context(mock.patch.object(tabular, "to_onnx", lambda model, _: pickle.dumps(model)))
        stack.enter_context(mock.patch.object(tabular, "feed", return_value={}))
        stack.enter_context(mock.patch.object(tabular, "run", unchecked))
        stack.enter_context(mock.patch.object(tabular, "check_parity", return_value=None))
        yield


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained winner of selection."""

    candidate: str
    content: bytes
    classes: tuple[str, ...]

    def outputs(self, rows: pl.DataFrame, project: Project) -> dict[str, Array]:
        """The outputs of the served graph for rows [N]."""
        return graph.run(graph.session(self.content), graph.feed(rows, project.schema))


def trained(project: Project, rows: pl.DataFrame) -> Model:
    """Select a candidate and train it on all rows, like the training step of the pipeline."""
    with cheap_fits.shared():
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
"""Models per pool.

The sequences of one split draw from it without repetition, because 2,100 trainings would take a day.
"""


def without_drift(world: World, seed: int) -> Split:
    """The split after traffic without drift."""
    return add_traffic(first(world, seed), np.random.default_rng([seed, 6]), drift=False)


def after_drift(world: World, seed: int, *, more: int = 0) -> Split:
    """The split of a retraining after drift, with the same base rows as the champion."""
    return add_traffic(first(world, seed), np.random.default_rng([seed, 3]), drift=True, more=more)


def first(world: World, seed: int) -> Split:
    """The split on which the champion of this seed is trained."""
    return resample(world.split(seed), np.random.default_rng([seed, 1]))


def models(world: World, kind: str, seed: int) -> list[Model]:
    """Train the models of one seed.

    `PAIR`: a champion, a second model on similar rows and, if the project declares drift, one after the drift.
    `LATE`: one model with more rows after the drift. `POOL`: many models on similar rows.
    """
    project = world.project
    if kind == LATE:
        return [trained(project, after_drift(world, seed, more=LATER).train)]
    split = world.split(seed)
    if kind == POOL:
        random = np.random.default_rng([seed, 4])
        return [trained(project, resample(split, random).train) for _ in range(SIZE)]
    training_sets = [first(world, seed).train, resample(split, np.random.default_rng([seed, 2])).train]
    training_sets += [after_drift(world, seed).train] if project.drift.scenario else []
    return [trained(project, training_rows) for training_rows in training_sets]


SOURCES: Final = (
    "bench/cheap_fits.py",
    "bench/retrainings.py",
    "phaseflow/toolkit",
    "pipelines/etl/caps.py",
    "pipelines/steps/metrics.py",
    "pipelines/steps/predictions.py",
    "pipelines/steps/selection.py",
)
"""Sources that influence a trained model, besides the project's own folder."""


def digest(paths: tuple[str, ...]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of Python files and folders, without tests."""
    state = hashlib.sha256()
    for path in paths:
        whole = ROOT / path
        files = [whole] if whole.is_file() else sorted(whole.rglob("*.py"))
        for file in files:
            if "tests" not in file.relative_to(ROOT).parts:
                state.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return state.hexdigest()[:16]


def folder(work: Path, name: str) -> Path:
    """Folder of the cached models of a project, for the current state of its sources."""
    own = ("cli/scaffold", "projects/film_sentiment") if name == TEXTS else (f"projects/{name}",)
    return work / f"{name}-{digest((*SOURCES, *own))}"


def load(path: Path) -> list[Model]:
    """Load cached models."""
    content: list[Model] = pickle.loads(path.read_bytes())  # noqa: S301  # our own file
    return content


def save(path: Path, trained_models: list[Model]) -> None:
    """Write the models atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(pickle.dumps(trained_models))
    unfinished.replace(path)
