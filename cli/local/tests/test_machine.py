"""What this machine must have, and what the processes get from it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cli.local import lifecycle, machine, supervisor
from phaseflow.errors import PlatformError
from phaseflow.settings import from_environment


def test_too_little_disk_and_memory_are_reported_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"disk: .* GiB free at .*, 1048576\.0 needed") as error:
        machine.require(machine.disk(tmp_path / "not" / "yet", needed=1 << 50))
    assert str(error.value).endswith("Free disk space, or set PHASEFLOW_HOME to a folder on another disk.")
    with pytest.raises(PlatformError, match=r"memory: .* needed\. Close programs that use much memory\."):
        machine.require(machine.memory(needed=1 << 50))


def test_missing_environments_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHASEFLOW_VENVS", str(tmp_path))
    with pytest.raises(PlatformError, match=r"missing in .*: command, dags.* Run `make setup`"):
        machine.require(machine.environments(from_environment()))


def test_a_long_home_still_has_a_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path / ("long" * 30)))
    settings = from_environment()
    path = supervisor.socket_path(settings)
    assert len(os.fsencode(path)) < 100
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    settings.home.mkdir()
    lifecycle.down(settings)
    assert not path.parent.exists()


def test_a_process_reads_the_data_that_the_settings_name_and_not_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASEFLOW_DATA_MIRROR", "/elsewhere")
    monkeypatch.setenv("PHASEFLOW_OFFLINE", "")
    environment = supervisor.environment(from_environment({"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1"}))
    assert from_environment(environment).data_mirror is None
    assert from_environment(environment).offline
