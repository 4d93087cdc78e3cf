"""A version ready to answer: session, bins, and counts of what it saw."""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime

from phaseflow import answers, derived, formats, generation, registry
from phaseflow.contract import DERIVED, Column, Project
from phaseflow.reference import PREDICTION, Bins, from_json
from services.serving import requests
from services.serving.requests import Row

SAID: Final = -1
"""The prediction's place, which is in no row."""
NUMERIC: Final = frozenset({"number", "integer", "boolean"})


class CorruptError(Exception):
    """A model whose bytes are not those that were registered."""


class _Format(msgspec.Struct):
    """What is read first: the rest of another format may be anything."""

    format: Any = None


class Manifest(msgspec.Struct):
    """What is read of `model.json`."""

    candidate: str
    sha256: str
    snapshot: str
    created: datetime
    metrics: dict[str, float | None]
    reference: list[dict[str, Any]]
    classes: tuple[str, ...] | None = None
    vocabularies: dict[str, list[str]] = {}  # msgspec copies it


@dataclass(slots=True)
class Counter:
    """Live counts of one feature's bins."""

    bins: Bins
    place: int
    """The feature's place in a row; `SAID` for the prediction. Of what is no scalar the figure's place among its figures."""
    index: Callable[[Any], int]
    counts: list[int]


@dataclass(frozen=True, slots=True)
class Derived:
    """A feature or an answer that is no scalar, and the counters of its figures."""

    column: Column
    place: int
    """In a row; `SAID` for the prediction."""
    known: frozenset[str]
    """Its known words, where it is a text."""
    counters: list[Counter]


@dataclass(slots=True)
class Model:
    """One version; nothing of it changes but its counts."""

    project: Project
    version: str
    manifest: Manifest
    session: Any
    """Of onnxruntime, or the loop over one (`phaseflow.generation`)."""
    feeds: list[tuple[str, int, Column]]
    """Of each input of the graph: its name, the feature's place in a row, and the feature."""
    counters: list[Counter]
    """Of every watched feature, of figures, and of the predictions."""
    scalars: list[Counter]
    """Those of them that count a cell of a row, or the prediction."""
    derived: list[Derived]
    explains: bool
    """Whether the graph tells what each feature contributed to an answer."""
    classes: tuple[str, ...]
    """Of a classifier."""
    slices: tuple[tuple[str, int], ...]
    """Columns that the gate judges by value, with their place in a row."""
    loaded_at: float = field(default_factory=time.time)

    @property
    def generates(self) -> bool:
        """Whether an answer is a loop over the graph, which takes its time."""
        return isinstance(self.session, generation.Generator)


def _indexer(bins: Bins) -> Callable[[Any], int]:
    """`bins.index` with its lookups made beforehand."""
    missing = len(bins.shares) - 1
    if bins.edges:
        edges = list(bins.edges)
        return lambda value: missing if value is None or value != value else bisect_right(edges, value)  # noqa: PLR0124
    places, other = {value: place for place, value in enumerate(bins.values)}, len(bins.values)

    def index(value: Any) -> int:
        if value is None or value == "":
            return missing
        return places.get(value if isinstance(value, str) else str(value).lower(), other)

    return index


def _verified(path: Path, sha256: str) -> bytes:
    """The file's bytes; raises CorruptError when they are not those that were registered."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CorruptError(f"{path.name} has SHA-256 {found}; registered: {sha256 or 'none'}")
    return content


def load(project_name: str, version: str, folder: Path, sha256: str, manifest_sha256: str) -> Model:
    """A version from its folder, warmed up by the project's example.

    Raises CorruptError when a file is not what was registered, PlatformError when it is of another format, ValueError when the model asks for what the schema lacks.
    """
    content, about = _verified(folder / "model.onnx", sha256), _verified(folder / "model.json", manifest_sha256)
    project = registry.get(project_name)
    formats.require(
        f"model.json of {project_name} {version}", msgspec.json.decode(about, type=_Format).format, formats.MODEL
    )
    manifest = msgspec.json.decode(about, type=Manifest)
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = generation.ready(onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]))
    places = {name: place for place, name in enumerate(project.schema.feature_names)}
    strange = [i.name for i in session.get_inputs() if i.name not in places]
    if strange:
        raise ValueError(
            f"the model asks for {', '.join(strange)}, which the schema of {project_name} lacks. Retrain it."
        )
    feeds = [(i.name, places[i.name], project.schema[i.name]) for i in session.get_inputs()]
    bins = {found.feature: found for found in from_json(manifest.reference)}
    scalars = [
        Counter(found, places.get(name, SAID), _indexer(found), [0] * len(found.shares))
        for name, found in bins.items()
        if name == PREDICTION or name in places
    ]
    others = [
        _derived(column, places[column.name], column.name, column.figures, bins, manifest)
        for column in project.schema.features
        if column.kind in DERIVED
    ]
    target = project.schema.target
    if target is not None and answers.structured(target):
        others.append(_derived(target, SAID, PREDICTION, answers.watched(target), bins, manifest))
    shown = [one for one in others if one.counters]
    counters = [*scalars, *(counter for one in shown for counter in one.counters)]
    slices = tuple((part.column, places[part.column]) for part in project.gate.slices)
    explains = any(output.name == "contributions" for output in session.get_outputs())
    classes = manifest.classes or ()
    model = Model(
        project,
        version,
        manifest,
        session,
        feeds,
        counters,
        scalars,
        shown,
        explains=explains,
        classes=classes,
        slices=slices,
    )
    answer(model, requests.converted(requests.reader(project_name), [dict(project.example)]))
    return model


def _derived(
    column: Column, place: int, name: str, figures: Sequence[str], bins: Mapping[str, Bins], manifest: Manifest
) -> Derived:
    """The counters of those figures of a column, known as `name`, that are watched."""
    counters = [
        Counter(bins[figure], at, _indexer(bins[figure]), [0] * len(bins[figure].shares))
        for at, figure in enumerate(figures)
        if figure in bins
    ]
    return Derived(column, place, frozenset(manifest.vocabularies.get(name, ())), counters)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said of rows [N]."""

    predictions: list[Any]
    """[N]: class names, numbers, or values of `phaseflow.answers`."""
    scores: list[float | None]
    """[N], as `phaseflow.answers.scores`."""
    probabilities: list[list[float]] | None
    contributions: list[list[float]] | None = None
    """[N, features]: how much each feature spoke for the answer, where the graph tells."""
    unfinished: int | None = None
    """The first row without a finite answer."""


def answer(model: Model, rows: Sequence[Row], *, hurry: bool = False) -> Answer:
    """Ask the model of rows [N], each in the order of the schema's features; pure, so that it may run in any thread.

    A row's answer is the same to the last bit alone and among others: onnxruntime multiplies a single row by another kernel,
    which adds in another order, so that a row alone is asked twice. With `hurry` a model that generates keeps its deadline, or raises
    LateError.
    """
    count = len(rows)
    columns = list(zip(*(rows if count > 1 else [*rows, *rows]), strict=True))
    feeds: dict[str, Any] = {}
    for name, place, column in model.feeds:
        feeds[name] = _fed(columns[place], column)
    target, classes = model.project.schema.target, model.classes
    wanted = answers.outputs(target, classes)
    names = [*wanted, "contributions"] if model.explains else [*wanted]
    found = model.session.run(names, feeds, hurry=hurry) if model.generates else model.session.run(names, feeds)
    contributions = found.pop()[:count].tolist() if model.explains else None
    said = {name: output[:count] for name, output in zip(wanted, found, strict=True)}
    broken = answers.unfinished(said)
    return Answer(
        [None] * count if broken is not None else answers.values(said, target, classes),
        answers.scores(said, target, classes),
        said["probabilities"].tolist() if "probabilities" in said else None,
        contributions,
        broken,
    )


def _fed(values: Sequence[Any], column: Column) -> Any:
    """A column of rows [N] as the graph takes it (`phaseflow.toolkit.graph`)."""
    if column.kind == "image":
        return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), *column.shape)
    numeric = column.kind in NUMERIC
    missing = np.nan if numeric else ""
    cells = np.empty((len(values), 1), np.float32 if numeric else object)
    cells[:, 0] = [missing if value is None else value for value in values] if None in values else values
    return cells


Figures = list[list[derived.Figures]]
"""Of each of `Model.derived`: the figures of each row [N]."""


def figures(model: Model, rows: Sequence[Row], predictions: Sequence[Any]) -> Figures:
    """What is counted of values that are no scalars, of rows [N]; pure, since long texts take a while."""
    return [
        [
            derived.figures(one.column, value, one.known)
            for value in (predictions if one.place == SAID else [row[one.place] for row in rows])
        ]
        for one in model.derived
    ]


def count(model: Model, rows: Sequence[Row], predictions: Sequence[Any], computed: Figures) -> None:
    """Add rows [N] and their figures to the bins; on the event loop only."""
    for counter in model.scalars:
        index, counts, place = counter.index, counter.counts, counter.place
        for value in predictions if place == SAID else [row[place] for row in rows]:
            counts[index(value)] += 1
    for one, values in zip(model.derived, computed, strict=True):
        for row in values:
            for counter in one.counters:
                counter.counts[counter.index(row[counter.place])] += 1
