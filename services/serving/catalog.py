"""The projects that the service knows."""

from __future__ import annotations

from typing import Final

from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.log import logger

_TOLD: Final[set[str]] = set()


def projects() -> list[Project]:
    """Every project, sorted by name; one whose declaration is wrong is said once, and left out: the others go on."""
    found = []
    for name in registry.names():
        try:
            found.append(registry.get(name))
        except Exception as error:  # the module of a project may raise anything
            if name not in _TOLD:
                logger.warning("%s is left out: %s: %s", name, type(error).__name__, error)
            _TOLD.add(name)
    return found
