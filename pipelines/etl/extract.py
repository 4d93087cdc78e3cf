"""Copy the source to `staging/<project>/<run>/raw.parquet`."""

from __future__ import annotations

import io
from typing import Any

import polars as pl

from phaseflow.contract import Project
from phaseflow.settings import Settings
from phaseflow.store import Store
from phaseflow.toolkit import source


def parquet(frame: pl.DataFrame) -> bytes:
    """Serialize the frame as a Parquet file."""
    content = io.BytesIO()
    frame.write_parquet(content)
    return content.getvalue()


def extract(project: Project, run: str, settings: Settings, store: Store) -> dict[str, Any]:
    """Copy the source unchanged. Raises DataError if it can't be read."""
    loaded = source.load(project, settings, store)
    key = f"staging/{project.name}/{run}/raw.parquet"
    store.write(key, parquet(loaded.frame))
    return {"raw": key, "source": loaded.origin, "sha256": loaded.sha256, "rows": loaded.frame.height}
