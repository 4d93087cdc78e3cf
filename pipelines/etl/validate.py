"""From `raw.parquet` to `valid.parquet`: rows that the schema refuses are kept apart, with the reason."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from phaseflow.contract import Column, Project, Schema
from phaseflow.errors import DataError
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source
from phaseflow.toolkit.pseudonyms import pseudonymised
from pipelines.etl.extract import parquet

CLASSES: Final = frozenset({"classification", "image", "text"})
"""Tasks whose target needs two values at least."""
NAMES: Final = {"boxes": "the JSON of boxes", "ranking": "the JSON of a ranking", "action": "the JSON of an action"}
"""What a cell of these kinds holds, in words; of others the kind's name says it."""


def table(schema: Schema) -> pa.DataFrameSchema:
    """The pandera schema of the project's columns."""

    def checks(column: Column) -> list[pa.Check]:
        found = []
        if column.minimum is not None and column.kind in source.SCALES:
            found.append(pa.Check.ge(column.minimum))
        if column.maximum is not None and column.kind in source.SCALES:
            found.append(pa.Check.le(column.maximum))
        if column.closed:
            found.append(pa.Check.isin(column.allowed))
        return found

    return pa.DataFrameSchema(
        {
            column.name: pa.Column(
                source.DTYPES.get(column.kind, pl.String), checks=checks(column), nullable=column.nullable
            )
            for column in schema.columns
        },
        strict=True,
    )


def refused(frame: pl.DataFrame, schema: Schema) -> Mapping[int, str]:
    """The reason of each row (by its number) of an untyped frame that the schema refuses."""
    rows = source.conform(frame, schema)
    reasons: dict[int, list[str]] = {}
    for column in schema.columns:  # cells that are there and that the column's kind can't hold
        lost = frame[column.name].is_not_null() & rows[column.name].is_null()
        for row in lost.arg_true():
            reasons.setdefault(row, []).append(
                f"{column.name}: {_shown(frame[column.name][row], column)} is not {_wanted(column)}"
            )
    try:
        table(schema).validate(rows, lazy=True)
    except SchemaErrors as errors:
        for case in errors.failure_cases.iter_rows(named=True):
            row, name = case["index"], case["column"]
            if row is None:
                raise DataError(
                    f"{name}: {case['check']}: {case['failure_case']}", fix="Correct the schema"
                ) from errors
            if any(reason.startswith(f"{name}: ") for reason in reasons.get(row, [])):
                continue
            said = (
                "is missing"
                if case["check"] == "not_nullable"
                else f"{_shown(case['failure_case'], schema[name])} fails {case['check']}"
            )
            reasons.setdefault(row, []).append(f"{name}: {said}")
    return {row: "; ".join(texts) for row, texts in reasons.items()}


def _shown(value: object, column: Column) -> str:
    if column.personal:
        return "a personal value"
    return f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)


def _wanted(column: Column) -> str:
    if column.kind == "image":
        return f"an image of {' x '.join(map(str, column.shape))}, which has {column.size} bytes"
    return NAMES.get(column.kind, f"a {column.kind}")


def validate(project: Project, run: str, store: Store) -> dict[str, Any]:
    """Write the good rows and the refused ones.

    Raises DataError when more than `Project.quarantine_share` are refused, or when the target holds one class.
    """
    raw = pl.read_parquet(store.read(f"staging/{project.name}/{run}/raw.parquet"))
    frame = source.transformed(raw, project)
    reasons = refused(frame, project.schema)
    quarantine = None
    if reasons:
        numbers = sorted(reasons)
        quarantine = f"quarantine/{project.name}/{run}.parquet"
        kept = pl.DataFrame(
            [pl.Series("row", numbers, dtype=pl.Int64), pl.Series("reason", [reasons[row] for row in numbers])]
        )
        # Which of the source's cells are personal, only `transform` knows: a row is found there by its number.
        if not any(column.personal for column in project.schema.columns):
            kept = pl.concat([raw[numbers], kept], how="horizontal")
        store.write(quarantine, parquet(kept))
        print(f"{len(reasons)} of {frame.height} rows are in quarantine ({quarantine})", file=sys.stderr)
    if len(reasons) > project.quarantine_share * frame.height:
        first = min(reasons)
        raise DataError(
            f"{len(reasons)} of {frame.height} rows of {project.name} are refused, the first is row {first + 1}: "
            f"{reasons[first]}; allowed: {project.quarantine_share:.0%}",
            fix=f"Correct the source, or widen the schema; all of them are in {store.uri(quarantine or '')}",
        )
    typed = source.with_group(source.conform(frame, project.schema), frame)
    good = typed.with_row_index("_row").filter(~pl.col("_row").is_in(list(reasons))).drop("_row")
    good = pseudonymised(good, project, from_environment())
    target = project.schema.target
    if target is not None and project.task in CLASSES and good[target.name].n_unique() < 2:
        raise DataError(
            f"The target {target.name} of {project.name} holds one class: {good[target.name].unique().to_list()}",
            fix="Give rows of at least two classes",
        )
    key = f"staging/{project.name}/{run}/valid.parquet"
    store.write(key, parquet(good))
    return {"valid": key, "rows": good.height, "quarantined": len(reasons), "quarantine": quarantine}
