"""Settings whose data mirror and home are a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from phaseflow.settings import Settings, from_environment


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return from_environment(
        {"PHASEFLOW_HOME": str(tmp_path), "PHASEFLOW_OFFLINE": "1", "PHASEFLOW_DATA_MIRROR": str(tmp_path)}
    )
