"""Answers that an earlier process gave and whose truth may still come: the newest of the prediction log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from phaseflow import logs
from phaseflow.contract import Project
from phaseflow.errors import PlatformError
from phaseflow.log import logger
from phaseflow.store import Store
from services.serving.observed import Remembered

MAX_ROWS: Final = 50_000
"""Rows of a project."""
MAX_AGE: Final = timedelta(days=1)
"""Of an answer whose truth is still waited for in memory; a later truth counts in the reports and in training alone."""


def recent(
    store: Store, project: Project, limit: int = MAX_ROWS, now: datetime | None = None
) -> Iterator[tuple[str, Remembered]]:
    """At most `limit` answers of the last `MAX_AGE` without a truth, the newest ones, the oldest of them first.

    No more than that many rows and a batch are in memory. Where the store is away nothing is remembered, which a warning says.
    """
    until = now or datetime.now(UTC)
    slices = [part.column for part in project.gate.slices]
    columns = {"id", "time", "version", "prediction", *slices}
    try:
        answers = logs.newest(store, "predictions", project.name, until - MAX_AGE, until, limit, columns)
        if answers.is_empty():
            return
        since = answers["time"].min() or until  # a truth is never older than its prediction
        for labels in logs.window(store, "feedback", project.name, since, until, {"id"}):  # type: ignore[arg-type]  # a time
            answers = answers.join(labels, on="id", how="anti", maintain_order="left")
    except PlatformError as error:
        logger.warning("earlier answers of %s are not remembered: %s", project.name, error)
        return
    missing = [pl.lit(None).alias(name) for name in slices if name not in answers.columns]
    ordered = answers.with_columns(missing).select("id", "version", "prediction", *slices)
    for identity, version, prediction, *values in ordered.iter_rows():
        yield identity, (project.name, version, prediction, tuple(values))
