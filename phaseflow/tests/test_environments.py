"""A training environment is created once, on first use, and only in a checkout."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from phaseflow import environments
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings, from_environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A checkout whose `bin/environment` creates an empty interpreter and appends its group to a file."""
    script = tmp_path / "bin" / "environment"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\nset -e\n[ "$1" != broken ] || { echo "no network" >&2; exit 1; }\n'
        "mkdir -p .venvs/$1/bin\necho $1 >>made\ntouch .venvs/$1/bin/python\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "SCRIPT", script)
    return from_environment({"PHASEFLOW_VENVS": str(tmp_path / ".venvs")})


def test_concurrent_callers_create_the_environment_once(checkout: Settings, tmp_path: Path) -> None:
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(environments.interpreter(checkout, "torch"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [checkout.python("torch")] * 4
    assert (tmp_path / "made").read_text() == "torch\n"


def test_an_incomplete_environment_is_created_again(checkout: Settings, tmp_path: Path) -> None:
    checkout.python("torch").parent.mkdir(parents=True)
    checkout.python("torch").touch()  # the interpreter exists before its packages are installed
    environments.interpreter(checkout, "torch")
    assert (tmp_path / "made").read_text() == "torch\n"


def test_the_error_of_a_failed_creation_contains_the_cause(checkout: Settings) -> None:
    with pytest.raises(PlatformError, match=r"The environment broken can't be created: no network\. Run"):
        environments.interpreter(checkout, "broken")


def test_an_image_contains_only_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "SCRIPT", tmp_path / "nowhere")
    settings = from_environment({"PHASEFLOW_VENVS": str(tmp_path)})
    with pytest.raises(
        PlatformError,
        match=r"does not exist\. Make it by `make .*, or on Kubernetes use the image of the environment torch",
    ):
        environments.interpreter(settings, "torch")
    settings.python("tabular").parent.mkdir(parents=True)
    settings.python("tabular").touch()
    assert environments.interpreter(settings, "tabular") == settings.python("tabular")
