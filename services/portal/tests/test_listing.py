from __future__ import annotations

from phaseflow.settings import ROOT
from services.portal import listing
from services.portal.model import ProjectStatus, State


def project(name: str, phase: int, **more: str) -> ProjectStatus:
    return ProjectStatus(
        name=name,
        title=name.title(),
        task="regression",
        phase=phase,
        description="",
        state=State("quiet", "ok"),
        **more,
    )


PROJECTS = (project("b", 2), project("a", 4), project("c", 2), project("d", 0, problem="it fails"))


def test_groups_are_in_the_order_of_phases() -> None:
    groups = listing.grouped(PROJECTS)
    assert [(group.phase, group.title, [p.name for p in group.projects]) for group in groups] == [
        (0, "Declarations that can't be read", ["d"]),
        (2, "Classic machine learning", ["b", "c"]),
        (4, "Vision, language and generative AI", ["a"]),
    ]


def test_each_word_of_a_search_must_occur() -> None:
    names = lambda query: [p.name for group in listing.grouped(PROJECTS, query) for p in group.projects]  # noqa: E731  # one use
    assert names("classic REGRESSION") == ["b", "c"]
    assert names("quiet vision") == ["a"]
    assert names("classic vision") == []
    assert names("x" * 5000) == []


def test_the_titles_are_those_of_the_glossary() -> None:
    line = next(s for s in (ROOT / "docs" / "glossary.md").read_text().splitlines() if s.startswith("| phase |"))
    for phase, title in listing.PHASES.items():
        assert f"{phase} {title.casefold()}" in line.casefold()
