"""What the attacks need of the platform."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests import wire
from tests.conftest import Platform
from tests.security import doors


@pytest.fixture(scope="session")
def credentials(platform: Platform) -> Mapping[str, str]:
    """The right `Authorization` by name."""
    settings = platform.settings
    return doors.credentials_of(settings.secret, settings.login, settings.airflow_url)


@pytest.fixture(scope="session")
def addresses(platform: Platform) -> Mapping[str, tuple[str, int]]:
    """Where each service listens, by its name among the ports."""
    names = {door.service for door in doors.DOORS}
    return {name: wire.address_of(getattr(platform.settings, f"{name}_url")) for name in sorted(names)}
