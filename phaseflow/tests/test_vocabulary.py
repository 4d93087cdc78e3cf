"""Names say what a thing is: `predictions`, `labels`, `response`, `index`. Words for what was done to it are refused."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from phaseflow.settings import ROOT
from phaseflow.tests.sources import files

BANNED = frozenset(
    {
        *("found", "said", "told", "asked", "answered", "given", "kept", "made", "known", "wanted", "tried"),
        *(
            "done",
            "gone",
            "came",
            "held",
            "seen",
            "judged",
            "taken",
            "one",
            "ones",
            "it",
            "its",
            "them",
            "mine",
            "ours",
        ),
        *("theirs", "place", "places"),
    }
)
FILES = files(".py")


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that a module defines: variables, attributes, parameters, functions and classes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name  # type: ignore[attr-defined]  # an alias has a line since Python 3.10


def banned(path: Path) -> list[str]:
    """`file:line name` of each name of a file that is refused."""
    where = path.relative_to(ROOT)
    return [
        f"{where}:{line} {name}"
        for line, name in sorted(names(ast.parse(path.read_text())))
        if name.strip("_").lower() in BANNED
    ]


@pytest.mark.parametrize("folder", sorted({path.relative_to(ROOT).parts[0] for path in FILES}))
def test_names_say_what_a_thing_is(folder: str) -> None:
    assert [line for path in FILES if path.relative_to(ROOT).parts[0] == folder for line in banned(path)] == []


def test_a_name_of_the_list_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(banned.__globals__, "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text("def made(told, *, index=0):\n    for one in told:\n        self.found = one\n    return _kept\n")
    assert [line.partition(":")[2] for line in banned(path)] == ["1 made", "1 told", "2 one", "3 found"]
