"""The table of routes covers every listening port, and every service enforces it."""

from __future__ import annotations

from collections.abc import Mapping

import psutil
import pytest

from cli.local import supervisor
from phaseflow.settings import PORTS
from tests import wire
from tests.conftest import Platform
from tests.security import routes
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform
ABSENT = frozenset({"grafana"})
"""Components that are not installed for these tests."""


def listening(platform: Platform) -> set[tuple[str, int]]:
    """Return the addresses on which a process of the platform accepts connections."""
    listeners = set()
    for process in supervisor.members(platform.settings):
        try:
            connections = process.net_connections("inet")
        except psutil.Error:
            continue  # ended meanwhile
        listeners |= {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}
    return listeners


def test_every_listening_port_is_in_the_table(platform: Platform, addresses: Mapping[str, tuple[str, int]]) -> None:
    assert set(addresses) == PORTS.keys() - ABSENT
    assert listening(platform) == set(addresses.values())


@pytest.mark.parametrize("service", sorted({route.service for route in routes.ROUTES}))
def test_only_who_may_gets_in(
    service: str, addresses: Mapping[str, tuple[str, int]], credentials: Mapping[str, str], tally: Tally
) -> None:
    attempts, breaches = 0, list[str]()
    for route in routes.ROUTES:
        if route.service == service:
            number, problems = routes.check_route(route, addresses[service], credentials)
            attempts, breaches = attempts + number, breaches + problems
    tally.add(Row(what=f"host, origin, token and content type: {service}", attempts=attempts, breaches=breaches))


def test_no_response_without_a_login_is_readable_by_a_foreign_page(
    addresses: Mapping[str, tuple[str, int]], tally: Tally
) -> None:
    """Send a simple request, and the preflight of one that is not simple."""
    attempts, readable = 0, []
    for route in routes.ROUTES:
        host, port = addresses[route.service]
        base = [("Host", f"{host}:{port}"), ("Origin", "https://evil.example"), ("Connection", "close")]
        preflight = [
            ("Access-Control-Request-Method", route.method),
            ("Access-Control-Request-Headers", "content-type, authorization"),
        ]
        for method, headers in (("GET", base), ("OPTIONS", base + preflight)):
            response = wire.exchange((host, port), wire.request(method, route.path, headers), method=method)
            attempts += 1
            if response.status < 400 and response.header("access-control-allow-origin") in {
                "*",
                "https://evil.example",
                "null",
            }:
                readable.append(f"{route.service} {method} {route.path}: {response.status}")
    tally.add(Row(what="reading by a foreign page", attempts=attempts, breaches=readable))
