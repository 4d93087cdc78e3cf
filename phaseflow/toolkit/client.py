"""Rows as a client writes them into its request."""

from __future__ import annotations

import base64
from typing import Any

import polars as pl

from phaseflow.contract import Schema
from phaseflow.toolkit import images


def sent(rows: pl.DataFrame, schema: Schema) -> list[dict[str, Any]]:
    """The features of rows [N] as objects for JSON: an image is the base64 of its PNG file."""
    found = rows.select(schema.feature_names).to_dicts()
    for column in (column for column in schema.features if column.kind == "image"):
        for row in found:
            row[column.name] = base64.b64encode(images.encode(row[column.name], column.shape)).decode()
    return found
