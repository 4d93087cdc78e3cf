"""Which tests an environment runs: those of its own family's projects.

A test module that ends in `_<family>` runs in that family's environment, whichever its project's is: what NumPy computes is
held against torch where there is torch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Of small problems a second thread makes nothing faster, and on a busy machine much slower. Read when NumPy is imported.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from phaseflow import registry  # noqa: E402  # after the settings above
from phaseflow.contract import FAMILIES  # noqa: E402

HERE = Path(__file__).parent
FAMILY = Path(sys.prefix).name
"""The environment's group (`.venvs/<group>`); the image's own environment runs everything."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what another family's libraries are needed for."""
    parts = collection_path.relative_to(HERE).parts
    if FAMILY not in FAMILIES or collection_path.suffix != ".py" or len(parts) < 3:
        return None
    named = collection_path.stem.rsplit("_", 1)[-1]
    family = named if named in FAMILIES else registry.get(parts[0]).family
    return True if family != FAMILY else None
