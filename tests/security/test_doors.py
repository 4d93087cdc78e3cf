"""Every port that listens has a row in the table of who gets in, and the table holds."""

from __future__ import annotations

from collections.abc import Mapping

import psutil
import pytest

from phaseflow.embedded import supervisor
from phaseflow.settings import PORTS
from tests import wire
from tests.conftest import Platform
from tests.security import doors
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform
ABSENT = frozenset({"grafana"})
"""Parts that these tests' machine has not."""


def listening(platform: Platform) -> set[tuple[str, int]]:
    """Addresses on which a process of the platform accepts connections."""
    found = set()
    for process in supervisor.members(platform.settings):
        try:
            connections = process.net_connections("inet")
        except psutil.Error:
            continue  # ended meanwhile
        found |= {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def test_every_listening_port_is_in_the_table(platform: Platform, addresses: Mapping[str, tuple[str, int]]) -> None:
    assert set(addresses) == PORTS.keys() - ABSENT
    assert listening(platform) == set(addresses.values())


@pytest.mark.parametrize("service", sorted({door.service for door in doors.DOORS}))
def test_only_who_may_gets_in(
    service: str, addresses: Mapping[str, tuple[str, int]], credentials: Mapping[str, str], tally: Tally
) -> None:
    tried, wrong = 0, []
    for door in doors.DOORS:
        if door.service == service:
            number, problems = doors.checked(door, addresses[service], credentials)
            tried, wrong = tried + number, wrong + problems
    tally.add(Row(what=f"host, origin, token and content type: {service}", tried=tried, got_in=wrong))


def test_no_response_without_a_login_is_readable_by_a_foreign_page(
    addresses: Mapping[str, tuple[str, int]], tally: Tally
) -> None:
    """A simple request, and a preflight for one that is not simple."""
    tried, readable = 0, []
    for door in doors.DOORS:
        host, port = addresses[door.service]
        base = [("Host", f"{host}:{port}"), ("Origin", "https://evil.example"), ("Connection", "close")]
        asked = [
            ("Access-Control-Request-Method", door.method),
            ("Access-Control-Request-Headers", "content-type, authorization"),
        ]
        for method, headers in (("GET", base), ("OPTIONS", base + asked)):
            response = wire.exchange((host, port), wire.request(method, door.path, headers), method=method)
            tried += 1
            if response.status < 400 and response.header("access-control-allow-origin") in {
                "*",
                "https://evil.example",
                "null",
            }:
                readable.append(f"{door.service} {method} {door.path}: {response.status}")
    tally.add(Row(what="reading by a foreign page", tried=tried, got_in=readable))
