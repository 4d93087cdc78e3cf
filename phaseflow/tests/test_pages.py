"""The functions, commands and options that pages name exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cli.app import app
from phaseflow.settings import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("projects/*/README.md")])
REFERENCE = re.compile(r"`([\w/]+\.py):(\w+)`")
COMMAND = re.compile(r"^bin/phaseflow ([^#\n]+)", re.MULTILINE)


def definitions(path: Path) -> set[str]:
    """Names of the functions and classes of a module."""
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


def test_the_walkthrough_names_functions_that_exist() -> None:
    references = REFERENCE.findall((ROOT / "docs" / "walkthrough.md").read_text())
    assert len(references) >= 15
    for file, name in references:
        assert name in definitions(ROOT / file), f"{file}:{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_code_blocks_parse(page: Path) -> None:
    for line in COMMAND.findall(page.read_text()):
        parse(shlex.split(line))


def parse(words: list[str]) -> None:
    """Parse a command line without running it; raises an exception if an option, an argument or the command is wrong."""
    root: Any = typer.main.get_command(app)
    context = root.make_context("phaseflow", words)
    name, command, rest = root.resolve_command(context, [*context._protected_args, *context.args])
    if "--help" not in rest:
        command.make_context(name, rest, parent=context)
