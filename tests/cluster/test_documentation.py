"""The pages that install the platform in a place: their commands parse, and the charts accept their values."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from cli.app import app
from phaseflow.settings import ROOT

PAGES = sorted((ROOT / "docs" / "how-to").glob("install-on-*.md"))
BLOCK = re.compile(r"^ *```(sh|yaml)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
PROFILE = {"install-on-eks": "production", "install-on-gke": "kind"}
"""The profile that a page's file of values is for."""


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a page in a language, without their indentation."""
    return [
        re.sub(r"^    ", "", text, flags=re.MULTILINE)
        if text.startswith("    ") and not text.startswith("     ")
        else text
        for kind, text in BLOCK.findall(page.read_text())
        if kind == language
    ]


def phaseflow_commands(page: Path) -> list[str]:
    """The lines with `bin/phaseflow`, in blocks and in the text."""
    text = page.read_text()
    in_blocks = [
        line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("bin/phaseflow")
    ]
    return [line.partition(" #")[0].strip() for line in (*in_blocks, *re.findall(r"`(bin/phaseflow [^`]+)`", text))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_phaseflow_command_of_a_page_has_valid_options(page: Path) -> None:
    group = typer.main.get_command(app)
    commands = phaseflow_commands(page)
    assert commands
    for line in commands:
        arguments = shlex.split(line)[1:]
        context = group.make_context("phaseflow", arguments)
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[attr-defined]
        assert command is not None, line
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_scripts_and_targets_of_a_page_exist_and_its_shell_is_valid(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = page.read_text()
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    for script in re.findall(r"\bbin/[a-z-]+", text):
        assert (ROOT / script).exists(), script
    for block in blocks(page, "sh"):
        checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        for manifest in re.findall(r"<<'END'\n(.*?)\nEND$", block, re.MULTILINE | re.DOTALL):
            assert {"apiVersion", "kind", "metadata"} <= yaml.safe_load(manifest).keys()


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem in PROFILE], ids=lambda page: page.stem)
def test_the_charts_accept_the_values_of_a_page(page: Path, tmp_path: Path) -> None:
    charts = tmp_path / "charts"
    subprocess.run([ROOT / "bin" / "charts", charts], check=True)
    profile = (ROOT / "helm" / "platform" / f"values-{PROFILE[page.stem]}.yaml").read_text()
    (tmp_path / "profile.yaml").write_text(re.sub(r"<[a-z-]+>", "example", profile))
    (values,) = blocks(page, "yaml")
    (tmp_path / "own.yaml").write_text(values)
    files = ["--values", str(tmp_path / "profile.yaml"), "--values", str(tmp_path / "own.yaml")]
    argv = ["helm", "template", "phaseflow", str(charts / "platform"), "--namespace", "phaseflow", *files]
    rendered = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stderr
    images = yaml.safe_load(values)["global"]["images"]
    assert f"image: {images['repository']}/portal:{images['tag']}" in rendered.stdout
