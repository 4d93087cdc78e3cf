"""Receivers of alerts for people: the examples of the documentation, and wrong files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cli.local.binaries import Binaries
from monitoring import alertmanager, generate, receivers
from monitoring.tests.conftest import load
from monitoring.windows import Windows
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT

SHORT = Windows(window_seconds=600, minimum_rows=100, hold_seconds=60)


def test_the_receivers_of_the_documentation_are_valid(programs: Binaries, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "send-alerts.md").read_text()
    one_machine, chart = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "receivers.yaml"
    path.write_text(one_machine)
    both = [receivers.read(path), yaml.safe_load(chart)["monitoring"]["alertmanager"]["receivers"]]
    for index, entries in enumerate(both):
        file = tmp_path / f"{index}.yaml"
        file.write_text(generate.text(alertmanager.configuration(SHORT, "http://m", "/t", entries)))
        load(programs, file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: people", "is not a list of receivers"),
        ("[]", "is not a list of receivers"),
        ("- {slack_configs: []}", "has a receiver without a name"),
        ("- {name: retrain}", "has a receiver 'retrain', which is the one that starts retrainings. Rename it"),
        ("[{name: a}, {name: a}]", "has two receivers of the same name: a, a. Rename one of them"),
        ("- {name: a", "The receivers of alerts can't be read from"),
        (None, "No such file or directory"),
    ],
)
def test_a_wrong_file_of_receivers_is_reported(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "receivers.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PlatformError, match=re.escape(problem)) as error:
        receivers.read(path)
    assert str(path) in str(error.value)
