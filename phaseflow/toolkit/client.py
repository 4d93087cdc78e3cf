"""Rows in the form that a client sends in a request."""

from __future__ import annotations

from typing import Any

import polars as pl

from phaseflow import kinds
from phaseflow.contract import Schema


def sent(rows: pl.DataFrame, schema: Schema) -> list[dict[str, Any]]:
    """The features of rows [N] as JSON objects; images are base64-encoded PNG files."""
    encoders = [(column, kinds.of(column).encode) for column in schema.features]
    return [
        {column.name: encode(record[column.name], column) for column, encode in encoders}
        for record in rows.select(schema.feature_names).to_dicts()
    ]
