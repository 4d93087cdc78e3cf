"""The list of projects: grouped by phase, and searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.portal.model import ProjectStatus

PHASES: Final[Mapping[int, str]] = {
    1: "Foundations",
    2: "Classic machine learning",
    3: "Deep learning",
    4: "Vision, language and generative AI",
    5: "MLOps",
    6: "Capstones",
}
"""Titles of the phases of the learning roadmap."""
MAX_QUERY: Final = 100
"""Characters of a search that are used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The projects of one phase; phase 0 has those whose declaration can't be read."""

    phase: int
    title: str
    projects: tuple[ProjectStatus, ...]


def matches(query: str, *texts: str) -> bool:
    """Whether each word of `query` occurs in one of `texts`, in any case."""
    content = "\n".join(texts).casefold()
    return all(word in content for word in query[:MAX_QUERY].casefold().split())


def grouped(projects: Sequence[ProjectStatus], query: str = "") -> tuple[Group, ...]:
    """The projects that match `query`, by phase and name; empty groups are left out."""
    groups = []
    for phase in sorted({project.phase for project in projects}):
        title = PHASES.get(phase, "Declarations that can't be read")
        members = tuple(
            project
            for project in projects
            if project.phase == phase
            and matches(
                query, project.name, project.title, project.description, project.task, title, project.state.text
            )
        )
        if members:
            groups.append(Group(phase=phase, title=title, projects=members))
    return tuple(groups)
