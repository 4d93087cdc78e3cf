"""Reading a snapshot."""

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
    """The store of this process."""
    return Store(from_environment().store)


def split(project: Project, snapshot: str, side: str) -> pl.DataFrame:
    """The rows of `train` or `holdout`, in the order they were written, less those that were erased since.

    Raises DataError when there is no such snapshot, PlatformError when it is of another format.
    """
    held = erasure.current(store(), project.name, snapshot)
    try:
        manifest(project, held)
        return pl.read_parquet(store().read(f"datasets/{project.name}/{held}/{side}.parquet"))
    except FileNotFoundError as error:
        if erasure.current(store(), project.name, snapshot) != held:  # rewritten meanwhile
            return split(project, snapshot, side)
        raise DataError(
            f"There is no snapshot {snapshot!r} of {project.name} in the store {store().root}",
            fix="Make one by `python -m pipelines.etl snapshot`, or trigger the DAG",
        ) from error


def manifest(project: Project, snapshot: str) -> dict[str, Any]:
    """Where the snapshot comes from; raises FileNotFoundError, and PlatformError when it is of another format."""
    held = erasure.current(store(), project.name, snapshot)
    found: dict[str, Any] = json.loads(store().read(f"datasets/{project.name}/{held}/manifest.json"))
    formats.require(f"The snapshot {snapshot} of {project.name}", found.get("format"), *formats.SNAPSHOTS)
    return found
