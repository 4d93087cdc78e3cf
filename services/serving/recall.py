"""Answers that an earlier process gave and whose truth may still come: the newest of the prediction log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from phaseflow.contract import Project
from phaseflow.errors import PlatformError
from phaseflow.log import logger
from phaseflow.store import Store
from services.serving.observed import Remembered

MAX_ROWS: Final = 50_000
"""Rows of a project."""


def recent(store: Store, project: Project, limit: int = MAX_ROWS) -> Iterator[tuple[str, Remembered]]:
    """At most `limit` answers without a truth, the newest ones, the oldest of them first; never more than a file above it is in memory."""
    slices = [part.column for part in project.gate.slices]
    frames, rows, since = [], 0, ""
    entries = store.entries(f"predictions/{project.name}")
    for entry in sorted(entries, key=lambda entry: (_hour(entry.key), entry.modified), reverse=True):
        key = entry.key
        frame = _read(store, key, ["id", "time", "version", "prediction", *slices])
        if frame is not None:
            frames.append(frame)
            rows, since = rows + frame.height, _hour(key)
        if rows >= limit:
            break
    if not rows:
        return
    answers = pl.concat(frames, how="diagonal_relaxed").sort("time").tail(limit)
    frames.clear()
    for key in store.keys(f"feedback/{project.name}"):
        labels = (
            _read(store, key, ["id"]) if _hour(key) >= since else None
        )  # a truth is never older than its prediction
        if labels is not None:
            answers = answers.join(labels, on="id", how="anti", maintain_order="left")
    for identity, version, prediction, *values in answers.select("id", "version", "prediction", *slices).iter_rows():
        yield identity, (project.name, version, prediction, tuple(values))


def _hour(key: str) -> str:
    """`date=…/hour=…` of a key."""
    return "/".join(key.split("/")[2:4])


def _read(store: Store, key: str, columns: list[str]) -> pl.DataFrame | None:
    """The file's columns; None where it can't be read, also because the store is away."""
    try:
        return pl.read_parquet(store.read(key), columns=columns)
    except (OSError, PlatformError, pl.exceptions.PolarsError) as error:
        logger.warning("%s is left out: %s", key, error)
        return None
