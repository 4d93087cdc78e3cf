"""Fixtures of the attacks."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests import wire
from tests.conftest import Platform
from tests.security import routes


@pytest.fixture(scope="session")
def credentials(platform: Platform) -> Mapping[str, str]:
    """The valid `Authorization` headers by name."""
    settings = platform.settings
    return routes.credentials_of(settings.secret, settings.login, settings.airflow_url)


@pytest.fixture(scope="session")
def addresses(platform: Platform) -> Mapping[str, tuple[str, int]]:
    """Host and port of each service, by its name in `phaseflow.settings.PORTS`."""
    names = {route.service for route in routes.ROUTES}
    return {name: wire.address_of(getattr(platform.settings, f"{name}_url")) for name in sorted(names)}
