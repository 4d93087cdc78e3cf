"""Answers that an earlier process gave and whose truth may still come: the newest of the prediction log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

import polars as pl

from phaseflow.contract import Project
from phaseflow.store import Store
from services.serving.observed import Remembered

MOST: Final = 50_000
"""Rows of a project; a whole file more is read."""


def recent(store: Store, project: Project) -> Iterator[tuple[str, Remembered]]:
    """Answers without a truth, the oldest first."""
    slices = [part.column for part in project.gate.slices]
    frames, rows, since = [], 0, ""
    for key in sorted(store.keys(f"predictions/{project.name}"), reverse=True):
        found = _read(store, key, ["id", "time", "version", "prediction", *slices])
        frames.append(found)
        rows, since = rows + found.height, _hour(key)
        if rows >= MOST:
            break
    if not rows:
        return
    told = [
        _read(store, key, ["id"]) for key in store.keys(f"feedback/{project.name}") if _hour(key) >= since
    ]  # a truth is never older than its prediction
    answers = pl.concat(frames, how="diagonal_relaxed").sort("time")
    if told:
        answers = answers.join(pl.concat(told, how="diagonal_relaxed"), on="id", how="anti", maintain_order="left")
    for identity, version, prediction, *values in answers.select("id", "version", "prediction", *slices).iter_rows():
        yield identity, (project.name, version, prediction, tuple(values))


def _hour(key: str) -> str:
    """`date=…/hour=…` of a key."""
    return "/".join(key.split("/")[2:4])


def _read(store: Store, key: str, columns: list[str]) -> pl.DataFrame:
    try:
        return pl.read_parquet(store.read(key), columns=columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        print(f"warning: {key} is left out: {error}", file=sys.stderr, flush=True)
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.Null))
