"""The charts as people get them: linted, packaged, with the next commands after an installation."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from helm import charts
from helm.tests.rendering import NAMESPACE, RELEASE, Helm


@pytest.mark.parametrize("chart", charts.names())
def test_a_chart_lints(helm: Helm, chart: str) -> None:
    done = helm.run("lint", "--strict", str(helm.charts / chart))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("chart", charts.names())
def test_a_package_installs_what_its_folder_does(helm: Helm, chart: str, tmp_path: Path) -> None:
    done = helm.run("package", str(helm.charts / chart), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    assert package.name == f"{chart}-{charts.read(chart).about['version']}.tgz"
    # A package is a third of what a release's Secret may hold, with every chart in it.
    assert package.stat().st_size < 350_000
    found = helm.run("template", RELEASE, str(package), "--namespace", NAMESPACE)
    assert found.returncode == 0, found.stderr
    kinds = [line for line in found.stdout.splitlines() if line.startswith("kind: ")]
    assert len(kinds) == len(helm.objects(chart))


@pytest.mark.parametrize("chart", charts.names())
def test_the_notes_say_the_next_commands(helm: Helm, chart: str) -> None:
    notes = helm.notes(chart)
    assert "Next:" in notes
    assert f"kubectl -n {NAMESPACE} get pods --watch" in notes
    assert f"helm -n {NAMESPACE} test {RELEASE}" in notes
    assert "%!" not in notes
    assert "<no value>" not in notes


@pytest.mark.parametrize("chart", charts.names())
def test_the_notes_name_what_there_is(helm: Helm, chart: str) -> None:
    """Each Secret and Service in a command is one that the chart makes."""
    made = {(it["kind"].lower(), it["metadata"]["name"]) for it in helm.objects(chart)}
    words = helm.notes(chart).split()
    for before, word in itertools.pairwise(words):
        if before == "secret":
            assert ("secret", word) in made
        if word.startswith("service/"):
            assert ("service", word.removeprefix("service/")) in made
