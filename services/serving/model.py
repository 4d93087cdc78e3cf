"""A version ready to answer: session, bins, and counts of what it saw."""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime

from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.reference import PREDICTION, Bins, from_json
from services.serving.requests import Row

NUMERIC: Final = frozenset({"number", "integer", "boolean"})


class CorruptError(Exception):
    """A model whose bytes are not those that were registered."""


class Manifest(msgspec.Struct):
    """What is read of `model.json`."""

    candidate: str
    sha256: str
    snapshot: str
    created: datetime
    metrics: dict[str, float | None]
    reference: list[dict[str, Any]]
    classes: tuple[str, ...] | None = None


@dataclass(slots=True)
class Counter:
    """Live counts of one feature's bins."""

    bins: Bins
    place: int
    """The feature's place in a row; -1 for the prediction."""
    index: Callable[[Any], int]
    counts: list[int]


@dataclass(slots=True)
class Model:
    """One version; nothing of it changes but its counts."""

    project: Project
    version: str
    manifest: Manifest
    session: onnxruntime.InferenceSession
    feeds: list[tuple[str, int, bool]]
    """Of each input of the graph: its name, the feature's place in a row, whether it is a number."""
    counters: list[Counter]
    classes: tuple[str, ...]
    """Of a classifier."""
    slices: tuple[tuple[str, int], ...]
    """Columns that the gate judges by value, with their place in a row."""
    loaded_at: float = field(default_factory=time.time)


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

    Raises CorruptError when a file is not what was registered, ValueError when the model asks for what the schema lacks.
    """
    content, about = _verified(folder / "model.onnx", sha256), _verified(folder / "model.json", manifest_sha256)
    project = registry.get(project_name)
    manifest = msgspec.json.decode(about, type=Manifest)
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    places = {name: place for place, name in enumerate(project.schema.feature_names)}
    strange = [i.name for i in session.get_inputs() if i.name not in places]
    if strange:
        raise ValueError(
            f"the model asks for {', '.join(strange)}, which the schema of {project_name} lacks. Retrain it."
        )
    feeds = [(i.name, places[i.name], project.schema[i.name].kind in NUMERIC) for i in session.get_inputs()]
    counters = [
        Counter(bins, places.get(bins.feature, -1), _indexer(bins), [0] * len(bins.shares))
        for bins in from_json(manifest.reference)
        if bins.feature == PREDICTION or bins.feature in places
    ]
    slices = tuple((part.column, places[part.column]) for part in project.gate.slices)
    model = Model(project, version, manifest, session, feeds, counters, manifest.classes or (), slices)
    answer(model, [tuple(project.example.get(name) for name in project.schema.feature_names)])
    return model


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said of rows [N]."""

    predictions: list[Any]
    """[N]: class names or numbers."""
    scores: list[float | None]
    """[N]: probability of the second of two classes, else the highest; None for numbers."""
    probabilities: list[list[float]] | None


def answer(model: Model, rows: Sequence[Row]) -> Answer:
    """Ask the model of rows [N], each in the order of the schema's features; pure, so that it may run in any thread.

    A row's answer is the same to the last bit alone and among others: onnxruntime multiplies a single row by another kernel,
    which adds in another order, so that a row alone is asked twice.
    """
    count = len(rows)
    columns = list(zip(*(rows if count > 1 else [*rows, *rows]), strict=True))
    feeds: dict[str, Any] = {}
    for name, place, numeric in model.feeds:
        values, missing = columns[place], np.nan if numeric else ""
        column = feeds[name] = np.empty((len(values), 1), np.float32 if numeric else object)
        column[:, 0] = [missing if value is None else value for value in values] if None in values else values
    if not model.classes:
        (values,) = model.session.run(["value"], feeds)
        return Answer(values.reshape(-1)[:count].tolist(), [None] * count, None)
    labels, probabilities = model.session.run(["label", "probabilities"], feeds)
    shares = probabilities[:count].tolist()
    scores = [row[1] for row in shares] if len(model.classes) == 2 else [max(row) for row in shares]
    return Answer(labels[:count].tolist(), scores, shares)


def count(model: Model, rows: Sequence[Row], predictions: Sequence[Any]) -> None:
    """Add rows [N] to the bins; on the event loop only."""
    for counter in model.counters:
        index, counts, place = counter.index, counter.counts, counter.place
        for value in predictions if place < 0 else [row[place] for row in rows]:
            counts[index(value)] += 1
