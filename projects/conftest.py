"""Selects the tests of the projects that belong to the current training environment, and marks those that train fully.

A test module whose name ends in `_<environment>` runs in that environment instead of its project's, for example to
compare NumPy code with torch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# A second thread does not speed up small problems, and slows them down on a busy machine. NumPy reads these on import.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402

from phaseflow import discovery  # noqa: E402  # after the settings above
from phaseflow.contract import ENVIRONMENTS  # noqa: E402

HERE = Path(__file__).parent
ENVIRONMENT = Path(sys.prefix).name
"""The environment's group (`.venvs/<group>`); any other environment runs all tests."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Ignore tests that need the libraries of another environment."""
    parts = collection_path.relative_to(HERE).parts
    if ENVIRONMENT not in ENVIRONMENTS or collection_path.suffix != ".py" or len(parts) < 3:
        return None
    named = collection_path.stem.rsplit("_", 1)[-1]
    environment = named if named in ENVIRONMENTS else discovery.get(parts[0]).environment
    return True if environment != ENVIRONMENT else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that train candidates on the whole sample, so that `-m "not training"` leaves them out."""
    for item in items:
        if "fitted" in getattr(item, "fixturenames", ()):
            item.add_marker("training")
