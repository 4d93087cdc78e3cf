"""Restores the newest predictions of earlier processes from the log, whose labels may still arrive."""

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
from services.serving.metrics import PendingPrediction

MAX_ROWS: Final = 50_000
"""Per project."""
MAX_AGE: Final = timedelta(days=1)
"""Of a prediction in memory that waits for a label; later labels count only in the reports and in training."""


def recent(
    store: Store, project: Project, limit: int = MAX_ROWS, now: datetime | None = None
) -> Iterator[tuple[str, PendingPrediction]]:
    """Yield the newest `limit` predictions of the last `MAX_AGE` that have no label, oldest first.

    At most `limit` rows and one batch are in memory. If the store is unavailable, logs a warning and yields nothing.
    """
    until = now or datetime.now(UTC)
    slices = [part.column for part in project.gate.slices]
    columns = {"id", "time", "version", "prediction", *slices}
    try:
        predictions = logs.newest(store, "predictions", project.name, until - MAX_AGE, until, limit, columns)
        if predictions.is_empty():
            return
        since = predictions["time"].min() or until  # a label is never older than its prediction
        for labels in logs.window(store, "feedback", project.name, since, until, {"id"}):  # type: ignore[arg-type]  # a time
            predictions = predictions.join(labels, on="id", how="anti", maintain_order="left")
    except PlatformError as error:
        logger.warning("earlier predictions of %s could not be restored: %s", project.name, error)
        return
    missing = [pl.lit(None).alias(name) for name in slices if name not in predictions.columns]
    ordered = predictions.with_columns(missing).select("id", "version", "prediction", *slices)
    for identity, version, prediction, *values in ordered.iter_rows():
        yield identity, (project.name, version, prediction, tuple(values))
