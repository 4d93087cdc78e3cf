"""The shape of the code: short modules, short functions, no import circles. `make check` runs this file too.

Each list names what is still beyond a limit, and may only shrink.
"""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from phaseflow.settings import ROOT

MAX_MODULE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60
PACKAGES: Final = (
    "phaseflow",
    "projects",
    "pipelines",
    "dags",
    "services",
    "monitoring",
    "cli",
    "bench",
    "tests",
    "terraform",
)
TABLES: Final = frozenset({"tests/security/corpus.py", "tests/security/routes.py"})
"""Modules that are data: one line an entry."""
LONG_FUNCTIONS: Final = frozenset(
    {
        "projects/house_prices/data.py:sample",  # a table of fixed values
    }
)
"""`path:function` of code; a test may be as long as its scenario."""


@functools.cache
def sources() -> dict[Path, str]:
    """The text of each module, by path relative to the repository's root, without generated code."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    texts = {path.relative_to(ROOT): path.read_text() for path in sorted(paths) if "generated" not in path.parts}
    return {path: text for path, text in texts.items() if path.as_posix() not in TABLES}


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """The qualified name of each function and its number of lines, with decorators and docstring."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}"
            if not isinstance(node, ast.ClassDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                assert node.end_lineno is not None
                yield name, node.end_lineno - first + 1
            yield from functions(node, f"{name}.")
        else:
            yield from functions(node, prefix)


def module_name(path: Path) -> str:
    """The dotted name of a module; a package is named without `__init__`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, modules: set[str]) -> set[str]:
    """The modules of `modules` that a module imports anywhere, late imports included."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in modules else node.module)
    return names & modules


def imports(texts: dict[Path, str]) -> dict[str, set[str]]:
    """The modules that each module imports, among the modules of `texts`."""
    trees = {module_name(path): ast.parse(text) for path, text in texts.items()}
    return {name: imported(tree, set(trees)) - {name} for name, tree in trees.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import circle, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def within(beyond: set[str], allowed: frozenset[str], fix: str) -> None:
    """Assert that `beyond` is `allowed`: nothing new, and nothing that has been repaired in the meantime."""
    assert not beyond - allowed, f"{fix}: {', '.join(sorted(beyond - allowed))}"
    assert not allowed - beyond, f"Remove from the list of this test: {', '.join(sorted(allowed - beyond))}"


def test_modules_are_short() -> None:
    long = {path.as_posix() for path, text in sources().items() if text.count("\n") > MAX_MODULE_LINES}
    assert not long, f"Split what has more than {MAX_MODULE_LINES} lines: {long}"


def test_functions_are_short() -> None:
    long = {
        f"{path.as_posix()}:{name}"
        for path, text in sources().items()
        if "tests" not in path.parts
        for name, lines in functions(ast.parse(text))
        if lines > MAX_FUNCTION_LINES
    }
    within(long, LONG_FUNCTIONS, f"Split what has more than {MAX_FUNCTION_LINES} lines")


def test_no_module_imports_itself_through_others() -> None:
    names = circle(imports(sources()))
    assert not names, f"Move what both need into a module of its own: {' -> '.join(names)}"


def test_a_late_import_closes_a_circle_too() -> None:
    texts = {Path("a/__init__.py"): "", Path("a/one.py"): "from a import two", Path("a/two.py"): "import os"}
    assert circle(imports(texts)) == []
    texts[Path("a/two.py")] = "def late():\n    from a.one import name"
    assert sorted(set(circle(imports(texts)))) == ["a.one", "a.two"]


def test_a_method_and_its_decorators_are_measured() -> None:
    text = "class A:\n    @property\n    def b(self):\n        def c():\n            pass\n        return c\n"
    assert list(functions(ast.parse(text))) == [("A.b", 5), ("A.b.c", 2)]


def test_the_lists_only_shrink() -> None:
    with pytest.raises(AssertionError, match="Split it: new"):
        within({"new", "old"}, frozenset({"old"}), "Split it")
    with pytest.raises(AssertionError, match="Remove from the list of this test: old"):
        within(set(), frozenset({"old"}), "Split it")
