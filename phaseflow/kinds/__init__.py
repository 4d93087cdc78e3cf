"""The kinds of columns: one class per kind, which owns everything that depends on it.

| part | class attributes and methods |
| --- | --- |
| declaration | `is_feature`, `has_range`, `allowed_values`, `is_hashed`, `is_group`, `check` |
| storage | `dtype`, `label_dtype`, `cell_form`, `conform`, `simplify` |
| ONNX input | `tensor` |
| JSON | `datatype`, `json_form`, `json_type`, `label_type`, `encode` |
| drift | `has_numeric_statistics`, `statistics`, `describe`, `vocabulary`, `vocabulary_statistics` |
| predictions | `prediction`, with outputs, values, scores, losses and metrics |

docs/how-to/add-a-kind.md describes how to add one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final

from phaseflow.kinds.action import ACTION
from phaseflow.kinds.boxes import BOXES
from phaseflow.kinds.category import BOOLEAN, CATEGORY
from phaseflow.kinds.identity import ID
from phaseflow.kinds.image import IMAGE
from phaseflow.kinds.kind import ColumnSpec, Kind, Prediction
from phaseflow.kinds.number import INTEGER, NUMBER
from phaseflow.kinds.ranking import RANKING
from phaseflow.kinds.text import TEXT

__all__ = [
    "BOXES",
    "CATEGORY",
    "IMAGE",
    "KINDS",
    "NUMBER",
    "UNAVAILABLE",
    "ColumnSpec",
    "Kind",
    "Prediction",
    "describe",
    "form",
    "of",
    "of_target",
]

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {kind.name: kind for kind in (NUMBER, INTEGER, BOOLEAN, CATEGORY, TEXT, ID, IMAGE, BOXES, RANKING, ACTION)}
)
"""All kinds by name."""

UNAVAILABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "date": 'Derive numbers such as the month in `transform`, or use kind "category"',
        "mask": 'Use kind "boxes", or write the kind (docs/how-to/add-a-kind.md)',
        "vector": 'Use one column of kind "number" per element, or write the kind (docs/how-to/add-a-kind.md)',
    }
)
"""Kinds that are not implemented, and what to use instead."""


def of(column: ColumnSpec) -> Kind:
    """The kind of a column."""
    return KINDS[column.kind]


def of_target(target: ColumnSpec | None) -> Prediction:
    """The type of predictions of a target. Without a target, a model predicts the class of a row (a segment)."""
    return CATEGORY if target is None else KINDS[target.kind].prediction or CATEGORY


def describe(column: ColumnSpec, value: Any, vocabulary: Collection[str] = ()) -> tuple[float | str | None, ...]:
    """The descriptors of a value, in the order of `column.descriptors`. A descriptor that is not defined is None."""
    kind = KINDS[column.kind]
    if value is None:
        return (None,) * max(len(kind.statistics(column)), 1)
    return kind.describe(value, column, vocabulary)


def form(column: ColumnSpec) -> str:
    """The values that a column accepts, in words."""
    word = KINDS[column.kind].json_form
    if column.allowed:
        word = f"one of {', '.join(column.allowed)}"
    if column.minimum is not None:
        word += f" from {column.minimum:g}"
    if column.maximum is not None:
        word += f" to {column.maximum:g}" if column.minimum is not None else f" up to {column.maximum:g}"
    return f"{word}{' or null' if column.nullable else ''}"
