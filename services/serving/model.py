"""A loaded model version: its predictor, the bins of its reference, and their live counts."""

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

from phaseflow import discovery, formats, kinds, prediction_types, predictor
from phaseflow.contract import Column, Project
from phaseflow.predictor import Predictor, Row
from phaseflow.reference import PREDICTION, Bins, from_json
from services.serving import requests

PREDICTION_POSITION: Final = -1
"""Position of the prediction, which is not in a row."""


class CorruptError(Exception):
    """A model file that differs from the registered one."""


class _Format(msgspec.Struct):
    """The format number of `model.json`, read first because other formats may have other fields."""

    format: Any = None


class Manifest(msgspec.Struct):
    """The fields of `model.json` that the service reads."""

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
    """Live counts for the bins of one feature."""

    bins: Bins
    position: int
    """Of a scalar: in a row, or `PREDICTION_POSITION`. Of a descriptor: among the descriptors of its column."""
    index: Callable[[Any], int]
    counts: list[int]


@dataclass(frozen=True, slots=True)
class Derived:
    """A non-scalar feature or prediction, and the counters of its descriptors."""

    column: Column
    position: int
    """In a row, or `PREDICTION_POSITION`."""
    vocabulary: frozenset[str]
    """Known words, if the column is a text."""
    counters: list[Counter]


@dataclass(slots=True)
class Model:
    """One version; only its counts change."""

    project: Project
    version: str
    manifest: Manifest
    predictor: Predictor
    counters: list[Counter]
    """Counters of all monitored features, descriptors and predictions."""
    scalars: list[Counter]
    """The counters that count a scalar of a row, or the prediction."""
    derived: list[Derived]
    slices: tuple[tuple[str, int], ...]
    """Columns that the gate evaluates per value, with their positions in a row."""
    loaded_at: float = field(default_factory=time.time)


def _indexer(bins: Bins) -> Callable[[Any], int]:
    """A faster `bins.index`, with precomputed lookups."""
    missing = len(bins.shares) - 1
    if bins.edges:
        edges = list(bins.edges)
        return lambda value: missing if value is None or value != value else bisect_right(edges, value)  # noqa: PLR0124
    positions, other = {value: position for position, value in enumerate(bins.values)}, len(bins.values)

    def index(value: Any) -> int:
        if value is None or value == "":
            return missing
        return positions.get(value if isinstance(value, str) else str(value).lower(), other)

    return index


def _read_verified(path: Path, sha256: str) -> bytes:
    """Read a file; raises CorruptError if its SHA-256 differs from the registered one."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise CorruptError(f"{path.name} has SHA-256 {digest}; registered: {sha256 or 'none'}")
    return content


def load(project_name: str, version: str, folder: Path, sha256: str, manifest_sha256: str) -> Model:
    """Load a version from its folder, and warm it up with the project's example.

    Raises CorruptError if a file differs from the registered one, PlatformError if it has another format, and
    ValueError if the model has an input that the schema lacks.
    """
    content = _read_verified(folder / "model.onnx", sha256)
    manifest = _manifest(f"{project_name} {version}", _read_verified(folder / "model.json", manifest_sha256))
    project = discovery.get(project_name)
    positions = {name: position for position, name in enumerate(project.schema.feature_names)}
    bins = {feature_bins.feature: feature_bins for feature_bins in from_json(manifest.reference)}
    scalars = [
        _counter(feature_bins, positions.get(name, PREDICTION_POSITION))
        for name, feature_bins in bins.items()
        if name == PREDICTION or name in positions
    ]
    derived = _all_derived(project, positions, bins, manifest)
    model = Model(
        project,
        version,
        manifest,
        predictor.load(content, project.schema, manifest.classes),
        [*scalars, *(counter for item in derived for counter in item.counters)],
        scalars,
        derived,
        slices=tuple((part.column, positions[part.column]) for part in project.gate.slices),
    )
    model.predictor.predict(requests.convert(requests.get_reader(project_name), [dict(project.example)]))
    return model


def _manifest(what: str, content: bytes) -> Manifest:
    """Parse `model.json`; raises PlatformError if it has another format."""
    formats.require(f"model.json of {what}", msgspec.json.decode(content, type=_Format).format, formats.MODEL)
    return msgspec.json.decode(content, type=Manifest)


def _counter(bins: Bins, position: int) -> Counter:
    """A counter that starts at zero."""
    return Counter(bins, position, _indexer(bins), [0] * len(bins.shares))


def _all_derived(
    project: Project, positions: Mapping[str, int], bins: Mapping[str, Bins], manifest: Manifest
) -> list[Derived]:
    """Counters of the descriptors of all non-scalar features and of a structured prediction."""
    derived = [
        _derived(column, positions[column.name], column.name, column.descriptors, bins, manifest)
        for column in project.schema.features
        if kinds.of(column).statistics(column)
    ]
    target = project.schema.target
    if target is not None and prediction_types.is_structured(target):
        names = prediction_types.monitored_names(target)
        derived.append(_derived(target, PREDICTION_POSITION, PREDICTION, names, bins, manifest))
    return [item for item in derived if item.counters]


def _derived(
    column: Column, position: int, name: str, names: Sequence[str], bins: Mapping[str, Bins], manifest: Manifest
) -> Derived:
    """Counters for those descriptors of a column that are monitored; `name` is the column's key in `vocabularies`."""
    counters = [
        _counter(bins[descriptor_name], index) for index, descriptor_name in enumerate(names) if descriptor_name in bins
    ]
    return Derived(column, position, frozenset(manifest.vocabularies.get(name, ())), counters)


DescriptorValues = list[list[tuple[float | str | None, ...]]]
"""For each item of `Model.derived`: the descriptors of each row [N]."""


def describe(model: Model, rows: Sequence[Row], predictions: Sequence[Any]) -> DescriptorValues:
    """Descriptors of the non-scalar values of rows [N]. Pure, so that slow texts can be described in a thread."""
    return [
        [
            kinds.describe(derived.column, value, derived.vocabulary)
            for value in (
                predictions if derived.position == PREDICTION_POSITION else [row[derived.position] for row in rows]
            )
        ]
        for derived in model.derived
    ]


def count(model: Model, rows: Sequence[Row], predictions: Sequence[Any], descriptor_values: DescriptorValues) -> None:
    """Add rows [N] and their descriptors to the counts. Call it on the event loop only."""
    for counter in model.scalars:
        index, counts, position = counter.index, counter.counts, counter.position
        for value in predictions if position == PREDICTION_POSITION else [row[position] for row in rows]:
            counts[index(value)] += 1
    for derived, values in zip(model.derived, descriptor_values, strict=True):
        for row in values:
            for counter in derived.counters:
                counter.counts[counter.index(row[counter.position])] += 1
