"""The projects that the service serves."""

from __future__ import annotations

from typing import Final

from phaseflow import discovery
from phaseflow.contract import Project
from phaseflow.log import logger

_REPORTED: Final[set[str]] = set()


def projects() -> list[Project]:
    """Every project, sorted by name; a project with an invalid declaration is logged once and skipped."""
    readable, problems = discovery.readable()
    for name in problems.keys() - _REPORTED:
        logger.warning("project %s is skipped: %s", name, problems[name])
    _REPORTED.update(problems)
    return readable
