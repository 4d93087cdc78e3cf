"""A family's environment is made once, by whoever needs it first, and never where nothing can be made."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from phaseflow import environments
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings, from_environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A checkout whose `bin/environment` makes an empty interpreter and says so in a file."""
    maker = tmp_path / "bin" / "environment"
    maker.parent.mkdir()
    maker.write_text(
        '#!/bin/sh\nset -e\n[ "$1" != broken ] || { echo "no network" >&2; exit 1; }\n'
        "mkdir -p .venvs/$1/bin\necho $1 >>made\ntouch .venvs/$1/bin/python\n"
    )
    maker.chmod(0o755)
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "MAKER", maker)
    return from_environment({"PHASEFLOW_VENVS": str(tmp_path / ".venvs")})


def test_two_that_need_it_at_once_make_it_once(checkout: Settings, tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(environments.interpreter(checkout, "torch"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [checkout.python("torch")] * 4
    assert (tmp_path / "made").read_text() == "torch\n"


def test_one_that_broke_off_is_made_again(checkout: Settings, tmp_path: Path) -> None:
    checkout.python("torch").parent.mkdir(parents=True)
    checkout.python("torch").touch()  # the interpreter comes first, its packages later
    environments.interpreter(checkout, "torch")
    assert (tmp_path / "made").read_text() == "torch\n"


def test_what_can_not_be_made_says_why(checkout: Settings) -> None:
    with pytest.raises(PlatformError, match=r"The environment broken can't be made: no network\. Read what"):
        environments.interpreter(checkout, "broken")


def test_an_image_has_its_own_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "MAKER", tmp_path / "nowhere")
    settings = from_environment({"PHASEFLOW_VENVS": str(tmp_path)})
    with pytest.raises(
        PlatformError, match=r"does not exist\. Make it by `make .*, or on Kubernetes use the image of the family torch"
    ):
        environments.interpreter(settings, "torch")
    settings.python("tabular").parent.mkdir(parents=True)
    settings.python("tabular").touch()
    assert environments.interpreter(settings, "tabular") == settings.python("tabular")
