"""Empties the home for a demo, and keeps what was in it."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cli.local import lifecycle
from phaseflow.settings import Settings, from_environment
from phaseflow.store import write_atomic

FILE: Final = "environment"
"""File in the home with the settings that the demo set. Later commands read it."""
SETTINGS: Final = {
    # Drift is evaluated over one minute instead of one hour: with production's windows the demo would take hours.
    "PHASEFLOW_DRIFT_WINDOW_SECONDS": "60",
    # With fewer rows the PSI is mostly noise, about (bins - 1) / rows.
    "PHASEFLOW_DRIFT_MINIMUM_ROWS": "150",
    "PHASEFLOW_DRIFT_COOLDOWN_SECONDS": "120",
    # After the setup the demo makes no requests outside this machine: it reads the mirror or the sample. 0 allows them.
    "PHASEFLOW_OFFLINE": "1",
}


def load() -> None:
    """Set the `PHASEFLOW_*` variables of the home's file. The caller's environment takes precedence."""
    try:
        lines = (from_environment().home / FILE).read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and key.startswith("PHASEFLOW_"):
            os.environ.setdefault(key.strip(), value.strip())


def create() -> Settings:
    """Empty the home except for the cache of source files.

    The old content is moved to `previous`, which keeps only the last demo, or to `kept-<time>` if it is not of a demo.
    """
    os.environ.update({key: os.environ.get(key) or value for key, value in SETTINGS.items()})
    settings = from_environment()
    lifecycle.down(settings)
    entries = [p for p in settings.home.glob("*") if p.name != "previous" and not p.name.startswith("kept-")]
    if entries:
        was_demo = (settings.home / "demo.json").exists() or (settings.home / FILE).exists()
        archive = settings.home / ("previous" if was_demo else f"kept-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        shutil.rmtree(archive, ignore_errors=True)
        archive.mkdir()
        for path in entries:
            path.rename(archive / path.name)
        sources = archive / "store" / "sources"
        if sources.is_dir() and settings.store == str(settings.home / "store"):
            Path(settings.store).mkdir(parents=True)
            sources.rename(Path(settings.store) / "sources")
    text = "".join(f"{key}={os.environ[key]}\n" for key in SETTINGS)
    write_atomic(settings.home / FILE, text.encode())
    return settings
