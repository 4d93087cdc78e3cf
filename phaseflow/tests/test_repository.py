"""What must hold of the repository itself."""

from __future__ import annotations

import re
import tomllib

import pytest

from phaseflow import registry
from phaseflow.contract import TASKS
from phaseflow.settings import ROOT


def test_the_lock_names_the_public_index_alone() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))
    assert hosts <= {"pypi.org", "files.pythonhosted.org"}


def test_every_component_has_its_group_in_the_one_lock() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    makefile = re.search(r"^COMPONENTS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert makefile is not None
    assert set(makefile[1].split()) <= groups.keys()


@pytest.mark.parametrize(
    "page",
    sorted(p for p in ROOT.rglob("*.md") if not {".venvs", ".phaseflow", "build"} & set(p.parts)),
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_links_between_pages_lead_somewhere(page) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    assert set(re.findall(r"bin/phaseflow ([a-z]+)", text)) <= _commands("app") | {"cluster"}


def test_commands_on_a_cluster_exist_wherever_a_page_or_an_error_names_one() -> None:
    known = _commands("cluster")
    assert {"up", "down", "urls", "backup", "restore"} <= known
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("helm/**/*.md"),
        *ROOT.glob("phaseflow/**/*.py"),
    ]:
        if "charts" not in path.relative_to(ROOT).parts:
            assert set(re.findall(r"phaseflow cluster ([a-z]+)", path.read_text())) <= known, path


def _commands(module: str) -> set[str]:
    source = (ROOT / "phaseflow" / "cli" / f"{module}.py").read_text()
    named = set(re.findall(r'command\([^)]*?name="([a-z]+)"', source)) | set(
        re.findall(r'command\(\s*"([a-z]+)"', source)
    )
    return named | set(re.findall(r"^def ([a-z]+)\(", source, re.MULTILINE))


def test_no_script_of_bench_hides_a_package() -> None:
    """Python looks for a script's imports beside it first."""
    assert not {path.stem for path in (ROOT / "bench").glob("*.py")} & {
        path.parent.name for path in ROOT.glob("*/__init__.py")
    }


def test_a_project_is_nothing_but_its_folder() -> None:
    for name in registry.names():
        assert (ROOT / "projects" / name / "README.md").exists()
        for path in ROOT.rglob("*.py"):
            if (
                not {".venvs", "tests", "projects", "bench"} & set(path.relative_to(ROOT).parts)
                and path.name != "stage.py"  # whose demo it is where nobody says
                and name not in TASKS  # a word of the contract itself
            ):
                assert f'"{name}"' not in path.read_text(), path
