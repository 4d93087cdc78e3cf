"""The inputs of the ONNX graph by element type, for training (from dataframes) and for the service (from rows).

A missing number is NaN and a missing text is "". Only processes with NumPy import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from phaseflow import kinds
from phaseflow.kinds.kind import Array, ColumnSpec

Converter = Callable[[Sequence[Any]], Array]
"""Converts the values [N] of a column to its tensor."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An element type of ONNX inputs."""

    shape: Callable[[ColumnSpec], tuple[int, ...]]
    """The shape of a row."""
    from_values: Callable[[ColumnSpec], Converter]
    """The converter of the values of rows; None is missing."""
    from_series: Callable[[Any, ColumnSpec], Array]
    """Converts a Polars series [N]."""


def of(column: ColumnSpec) -> Tensor:
    """The tensor of a column."""
    return TENSORS[kinds.of(column).tensor]


def converter(column: ColumnSpec) -> Converter:
    """The function that converts the values [N] of a column to its tensor."""
    return of(column).from_values(column)


def _cells(dtype: Any, missing: Any) -> Converter:
    def convert(values: Sequence[Any]) -> Array:
        cells = np.empty((len(values), 1), dtype)
        cells[:, 0] = [missing if value is None else value for value in values] if None in values else values
        return cells

    return convert


def _pixels(column: ColumnSpec) -> Converter:
    shape = column.shape
    return lambda values: np.frombuffer(b"".join(values), np.uint8).reshape(len(values), *shape)


def _series_of_floats(values: Any, _: ColumnSpec) -> Array:
    import polars as pl

    return values.cast(pl.Float32).fill_null(float("nan")).to_numpy().reshape(-1, 1)


def _series_of_texts(values: Any, _: ColumnSpec) -> Array:
    import polars as pl

    return np.array(values.cast(pl.String).fill_null("").to_list(), dtype=object).reshape(-1, 1)


def _series_of_pixels(images: Any, column: ColumnSpec) -> Array:
    if images.null_count():
        raise ValueError(f"{images.null_count()} images of {images.name} are missing")
    return converter(column)(images.to_list())


TENSORS: Final[Mapping[str, Tensor]] = {
    "FLOAT": Tensor(lambda _: (1,), lambda _: _cells(np.float32, np.nan), _series_of_floats),
    "STRING": Tensor(lambda _: (1,), lambda _: _cells(object, ""), _series_of_texts),
    "UINT8": Tensor(lambda column: column.shape, _pixels, _series_of_pixels),
}
"""Tensors by the name of the element type in `onnx.TensorProto`."""
