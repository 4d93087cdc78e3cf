"""Validate `raw.parquet` and write `valid.parquet`. Invalid rows go to the quarantine with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from phaseflow import kinds
from phaseflow.contract import Column, Project, Schema
from phaseflow.errors import DataError
from phaseflow.log import logger
from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.toolkit import source
from phaseflow.toolkit.pseudonyms import pseudonymised
from pipelines.etl.extract import parquet


def table(schema: Schema) -> pa.DataFrameSchema:
    """Return the pandera schema of the project's columns."""

    def checks(column: Column) -> list[pa.Check]:
        column_checks = []
        if column.minimum is not None and kinds.of(column).has_cell_range:
            column_checks.append(pa.Check.ge(column.minimum))
        if column.maximum is not None and kinds.of(column).has_cell_range:
            column_checks.append(pa.Check.le(column.maximum))
        if column.closed:
            column_checks.append(pa.Check.isin(column.allowed))
        return column_checks

    return pa.DataFrameSchema(
        {
            column.name: pa.Column(source.dtype(column), checks=checks(column), nullable=column.nullable)
            for column in schema.columns
        },
        strict=True,
    )


def refused(frame: pl.DataFrame, schema: Schema) -> Mapping[int, str]:
    """Return the reasons for invalid rows of an untyped frame, by row number."""
    rows = source.conform(frame, schema)
    reasons: dict[int, list[str]] = {}
    for column in schema.columns:  # non-null cells that can't be converted to the column's kind
        lost = frame[column.name].is_not_null() & rows[column.name].is_null()
        for row in lost.arg_true():
            reasons.setdefault(row, []).append(
                f"{column.name}: {_display(frame[column.name][row], column)} is not {kinds.of(column).cell_form(column)}"
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
            problem = (
                "is missing"
                if case["check"] == "not_nullable"
                else f"{_display(case['failure_case'], schema[name])} fails {case['check']}"
            )
            reasons.setdefault(row, []).append(f"{name}: {problem}")
    return {row: "; ".join(texts) for row, texts in reasons.items()}


def _display(value: object, column: Column) -> str:
    if column.personal:
        return "a personal value"
    return f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)


def validate(project: Project, run: str, store: Store) -> dict[str, Any]:
    """Write the valid rows and the quarantine.

    Raises DataError if more than `Project.quarantine_share` of the rows are invalid, or if the target has one class.
    """
    raw = pl.read_parquet(store.read(f"staging/{project.name}/{run}/raw.parquet"))
    frame = source.transformed(raw, project)
    reasons = refused(frame, project.schema)
    quarantine = None
    if reasons:
        numbers = sorted(reasons)
        quarantine = f"quarantine/{project.name}/{run}.parquet"
        report = pl.DataFrame(
            [pl.Series("row", numbers, dtype=pl.Int64), pl.Series("reason", [reasons[row] for row in numbers])]
        )
        # Only `transform` knows which source columns are personal, so the quarantine then holds just the row numbers.
        if not any(column.personal for column in project.schema.columns):
            report = pl.concat([raw[numbers], report], how="horizontal")
        store.write(quarantine, parquet(report))
        logger.warning("%d of %d rows are in quarantine (%s)", len(reasons), frame.height, quarantine)
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
    if target is not None and kinds.of_target(target) is kinds.CATEGORY and good[target.name].n_unique() < 2:
        raise DataError(
            f"The target {target.name} of {project.name} holds one class: {good[target.name].unique().to_list()}",
            fix="Give rows of at least two classes",
        )
    key = f"staging/{project.name}/{run}/valid.parquet"
    store.write(key, parquet(good))
    return {"valid": key, "rows": good.height, "quarantined": len(reasons), "quarantine": quarantine}
