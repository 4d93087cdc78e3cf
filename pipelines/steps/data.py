"""Read snapshots from the store."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from phaseflow import erasure, formats
from phaseflow.contract import Project
from phaseflow.errors import DataError
from phaseflow.settings import from_environment
from phaseflow.store import Store


def store() -> Store:
    """Return the store of this process."""
    return Store(from_environment().store)


def split(project: Project, snapshot: str, side: str) -> pl.DataFrame:
    """Return the rows of `train` or `holdout` in the order in which they were written, without erased rows.

    Raises DataError if the snapshot does not exist, and PlatformError if it has another format.
    """
    current = erasure.current(store(), project.name, snapshot)
    try:
        manifest(project, current)
        return pl.read_parquet(store().read(f"datasets/{project.name}/{current}/{side}.parquet"))
    except FileNotFoundError as error:
        if erasure.current(store(), project.name, snapshot) != current:  # rewritten in the meantime
            return split(project, snapshot, side)
        raise DataError(
            f"There is no snapshot {snapshot!r} of {project.name} in the store {store().root}",
            fix="Make one by `python -m pipelines.etl snapshot`, or trigger the DAG",
        ) from error


def manifest(project: Project, snapshot: str) -> dict[str, Any]:
    """Return the snapshot's manifest.

    Raises FileNotFoundError if the snapshot does not exist, and PlatformError if it has another format.
    """
    current = erasure.current(store(), project.name, snapshot)
    content: dict[str, Any] = json.loads(store().read(f"datasets/{project.name}/{current}/manifest.json"))
    formats.require(f"The snapshot {snapshot} of {project.name}", content.get("format"), *formats.SNAPSHOTS)
    return content
