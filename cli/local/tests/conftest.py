"""A home with its own ports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.local import lifecycle, supervisor
from phaseflow.settings import Settings, from_environment
from phaseflow.testing import free_port


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("PHASEFLOW_HOME", str(tmp_path / "a home"))
    monkeypatch.setenv("PHASEFLOW_PORT_OFFSET", str(free_port() - 3000))  # serving's port is a free one
    home_settings = from_environment()
    yield home_settings
    lifecycle.down(home_settings)
    assert supervisor.members(home_settings) == []
