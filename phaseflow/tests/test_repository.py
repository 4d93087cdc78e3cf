"""Consistency of the repository: lock, links and commands."""

from __future__ import annotations

import re
import tomllib

import pytest

from cli.reference import commands
from phaseflow import discovery
from phaseflow.kinds import KINDS
from phaseflow.settings import ROOT
from phaseflow.tests.sources import files


def test_the_lock_names_the_public_index_alone() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))
    assert hosts <= {"pypi.org", "files.pythonhosted.org"}


def test_every_component_has_a_dependency_group() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    makefile = re.search(r"^COMPONENTS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert makefile is not None
    assert set(makefile[1].split()) <= groups.keys()


@pytest.mark.parametrize(
    "page",
    files(".md"),
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_relative_links_exist(page) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_commands_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets


COMMAND = re.compile(r"phaseflow (?:--(?:context|namespace|release)[ =][^\s`]+ )*([a-z]+)[ `\"']")
"""A command in backticks, quotes or a shell block, after the options that select the platform."""


@pytest.mark.parametrize(
    "folder", ["*.md", "docs/**/*.md", "helm/**/*.md", "helm/**/*.yaml", "bin/*", ".github/**/*.yaml"]
)
def test_commands_in_documents_and_scripts_exist(folder: str) -> None:
    names = commands().keys()
    for path in {*ROOT.glob(folder)} - {ROOT / "CHANGELOG.md", *ROOT.glob("docs/adr/*.md")}:  # they name old commands
        lines = [line for line in path.read_text().splitlines() if re.search(r"(?:bin/|`)phaseflow ", line)]
        for line in lines:
            assert set(re.findall(r"(?:bin/|`)" + COMMAND.pattern, f"{line} ")) <= names, f"{path}: {line}"


def test_commands_in_messages_of_the_code_exist() -> None:
    names = commands().keys() | {"cluster"}
    for path in [*ROOT.glob("cli/**/*.py"), *ROOT.glob("phaseflow/**/*.py"), *ROOT.glob("services/**/*.py")]:
        if not {"tests", "charts"} & set(path.relative_to(ROOT).parts):
            text = path.read_text()
            assert set(re.findall(r"`(?:bin/)?" + COMMAND.pattern, text)) <= names, path


def test_no_script_in_bench_shadows_a_package() -> None:
    """Python searches the folder of a script first when it imports modules."""
    assert not {path.stem for path in (ROOT / "bench").glob("*.py")} & {
        path.parent.name for path in ROOT.glob("*/__init__.py")
    }


def test_no_code_outside_of_its_folder_refers_to_a_project() -> None:
    tasks = {kind.prediction.task for kind in KINDS.values() if kind.prediction}
    assert not [name for name in discovery.names() if not (ROOT / "projects" / name / "README.md").exists()]
    names = [name for name in discovery.names() if name not in tasks]  # some are also the name of a task
    for path in files(".py"):
        if (
            not {"tests", "projects", "bench"} & set(path.relative_to(ROOT).parts)
            and path != ROOT / "cli" / "demo" / "settings.py"  # the default project of the demo
        ):
            text = path.read_text()
            assert not [name for name in names if f'"{name}"' in text], path
