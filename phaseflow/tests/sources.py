"""The files of the repository, without environments and what programs wrote."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final

from phaseflow.settings import ROOT

SKIPPED: Final = frozenset({".git", ".venvs", ".phaseflow", "build", "node_modules", "_vendor"})


@functools.cache
def files(suffix: str) -> tuple[Path, ...]:
    """Return the files with a suffix such as `.py`, sorted. Folders of environments are not entered: they hold 200,000 files."""
    paths = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED]
        paths += [Path(folder, name) for name in names if name.endswith(suffix)]
    return tuple(sorted(paths))
