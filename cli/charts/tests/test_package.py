"""Tests of linting, packages and installation notes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

from cli.charts import charts
from cli.charts.tests.rendering import NAMESPACE, RELEASE, Helm
from phaseflow.settings import ROOT


@pytest.mark.parametrize("chart", charts.names())
def test_a_chart_lints(helm: Helm, chart: str) -> None:
    completed = helm.run("lint", "--strict", str(helm.charts / chart))
    assert completed.returncode == 0, completed.stdout


@pytest.mark.parametrize("chart", charts.names())
def test_a_package_renders_the_same_objects_as_its_folder(helm: Helm, chart: str, tmp_path: Path) -> None:
    completed = helm.run("package", str(helm.charts / chart), "--destination", str(tmp_path))
    assert completed.returncode == 0, completed.stderr
    (package,) = tmp_path.glob("*.tgz")
    assert package.name == f"{chart}-{charts.read(chart).about['version']}.tgz"
    # Helm stores the release in a Secret of at most 1 MiB; this limit is a third of that.
    assert package.stat().st_size < 350_000
    rendered = helm.run("template", RELEASE, str(package), "--namespace", NAMESPACE)
    assert rendered.returncode == 0, rendered.stderr
    kinds = [line for line in rendered.stdout.splitlines() if line.startswith("kind: ")]
    assert len(kinds) == len(helm.objects(chart))


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in charts.FOLDER.glob("*/Chart.yaml")))
def test_a_chart_has_the_metadata_of_artifact_hub(folder: str) -> None:
    about = charts.load(charts.FOLDER / folder / "Chart.yaml")
    assert {
        "description",
        "home",
        "sources",
        "maintainers",
        "keywords",
        "icon",
        "appVersion",
        "kubeVersion",
    } <= about.keys()
    annotations = about["annotations"]
    assert annotations["artifacthub.io/license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    addresses = [about["icon"], *(link["url"] for link in yaml.safe_load(annotations["artifacthub.io/links"]))]
    for address in addresses:  # files of this repository
        path = address.partition("/main/")[2]
        assert (ROOT / path).is_file(), address


@pytest.mark.parametrize("chart", charts.names())
def test_the_notes_have_the_next_commands(helm: Helm, chart: str) -> None:
    notes = helm.notes(chart)
    assert "Next:" in notes
    assert f"kubectl -n {NAMESPACE} get pods --watch" in notes
    assert f"helm -n {NAMESPACE} test {RELEASE}" in notes
    assert "%!" not in notes
    assert "<no value>" not in notes


@pytest.mark.parametrize("chart", charts.names())
def test_the_notes_name_existing_objects(helm: Helm, chart: str) -> None:
    """The chart creates each Secret and Service that a command names."""
    objects = {(manifest["kind"].lower(), manifest["metadata"]["name"]) for manifest in helm.objects(chart)}
    words = helm.notes(chart).split()
    for before, word in itertools.pairwise(words):
        if before == "secret":
            assert ("secret", word) in objects
        if word.startswith("service/"):
            assert ("service", word.removeprefix("service/")) in objects
