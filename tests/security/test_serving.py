"""The service under malformed requests: no 5xx, no crash, a bounded response time, and other clients are served."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from phaseflow import discovery
from phaseflow.testing import wait_for
from tests import wire
from tests.conftest import Platform
from tests.security import corpus
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform
SECONDS = 10.0
"""Limit of the response time of a malformed request, also on two busy cores."""
CONNECTIONS = 600
"""Number of slow clients of the service."""
HEALTH = {"pipelines": "/apis/v2beta1/healthz", "monitor": "/healthz", "portal": "/healthz"}
SLOW_CLIENTS = 300
"""Number of slow clients of each component in `HEALTH`, which accepts 256 connections."""
HALF_REQUEST_SECONDS = 20.0
"""Longer than a component's limit for receiving the headers."""


def example(project: str) -> dict[str, Any]:
    """Return a valid row."""
    return dict(discovery.get(project).example)


def predicted(platform: Platform) -> bool:
    """Return whether a well-behaved client gets a prediction."""
    with contextlib.suppress(httpx.HTTPError):
        url = f"{platform.settings.serving_url}/titanic/predict"
        return httpx.post(url, json=example("titanic"), timeout=SECONDS).status_code == 200
    return False


def test_no_malformed_request_is_answered_by_a_5xx_or_crashes_the_service(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], tally: Tally
) -> None:
    address = addresses["serving"]
    pid = platform.programs()["serving"]["pid"]
    image = {"project": "from_scratch", "column": discovery.get("from_scratch").schema.features[0].name}
    breaches, attempts, slowest = [], 0, 0.0
    for malformed in corpus.requests(f"{address[0]}:{address[1]}", example("titanic"), image):
        response = wire.exchange(address, malformed.request, method=malformed.method, seconds=SECONDS)
        attempts, slowest = attempts + 1, max(slowest, response.seconds)
        if response.status not in malformed.allowed or response.late:
            breaches.append(
                f"{malformed.name}: {response.status} after {response.seconds:.1f} s {response.body[:80]!r}"
            )
        elif b"Traceback" in response.body or b"root:" in response.body:
            breaches.append(f"{malformed.name}: {response.body[:80]!r}")
    assert predicted(platform)
    programs = platform.programs()
    assert programs["serving"]["pid"] == pid
    assert programs["serving"]["healthy"]
    tally.add(
        Row(
            what="malformed requests to the service",
            attempts=attempts,
            breaches=breaches,
            note=f"slowest {slowest:.1f} s",
        )
    )


def test_a_huge_header_is_431(addresses: Mapping[str, tuple[str, int]], tally: Tally) -> None:
    address = addresses["serving"]
    breaches = []
    sizes = (100_000, 1_000_000, 20_000_000)
    for size in sizes:
        headers = [("Host", f"{address[0]}:{address[1]}"), ("X", "x" * size)]
        response = wire.exchange(address, wire.request("GET", "/healthz", headers))
        # If the connection is reset while the client still sends, the response is lost.
        if response.status not in {431, 0} or response.late:
            breaches.append(f"{size}: {response.status}")
    tally.add(Row(what="huge headers", attempts=len(sizes), breaches=breaches))


def test_slow_clients_stop_neither_honest_ones_nor_the_loops(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], tally: Tally
) -> None:
    address = addresses["serving"]
    refused = []
    with contextlib.ExitStack() as stack:
        slow = []
        for number in range(CONNECTIONS):
            with contextlib.suppress(OSError):  # the service may refuse further connections
                connection = stack.enter_context(socket.create_connection(address, timeout=SECONDS))
                half = b"POST /titanic/predict HTTP/1.1\r\nHost: %s\r\n" % address[0].encode()
                connection.sendall(half if number % 2 else half + b"Content-Length: 100\r\n\r\n{")
                slow.append(connection)
        wait_for("a prediction beside slow clients", lambda: predicted(platform), 60)
        refused += [] if predicted(platform) else ["a prediction beside slow clients"]
        ready = httpx.get(f"{platform.settings.serving_url}/readyz", timeout=SECONDS).status_code
        assert ready == 200
    metrics = httpx.get(f"{platform.settings.serving_url}/metrics", timeout=SECONDS).text
    loops = [
        line for line in metrics.splitlines() if line.startswith("phaseflow_loop_last_iteration_timestamp_seconds{")
    ]
    assert len(loops) >= 2, "every loop says when it last succeeded"
    wait_for("an iteration of each loop", lambda: all(_age(platform) < 30 for _ in range(1)), 60)
    tally.add(Row(what="slow clients of the service", attempts=CONNECTIONS, breaches=refused))


def test_slow_clients_do_not_keep_the_other_parts_busy(addresses: Mapping[str, tuple[str, int]], tally: Tally) -> None:
    """Send more half requests than a component accepts connections: it serves others and ends half requests in time."""
    refused = []
    with contextlib.ExitStack() as stack:
        last: dict[str, socket.socket] = {}
        for part in HEALTH:
            half = b"GET / HTTP/1.1\r\nHost: %s\r\n" % addresses[part][0].encode()
            for _ in range(SLOW_CLIENTS):
                connection = stack.enter_context(socket.create_connection(addresses[part], timeout=SECONDS))
                with contextlib.suppress(OSError):
                    connection.sendall(half)
                last[part] = connection
        for part, path in HEALTH.items():
            response = wire.exchange(addresses[part], wire.request("GET", path, [("Host", addresses[part][0])]))
            if response.status != 200:
                refused.append(f"{part}: {response.status} beside slow clients")
        for part, connection in last.items():
            connection.settimeout(HALF_REQUEST_SECONDS)
            reply = connection.recv(100)  # raises TimeoutError if the connection stays open
            if not reply.startswith(b"HTTP/1.1 408 "):
                refused.append(f"{part}: {reply!r} for half a request")
    tally.add(Row(what="slow clients of the other parts", attempts=SLOW_CLIENTS * len(HEALTH), breaches=refused))


def _age(platform: Platform) -> float:
    """Return the seconds since the last iteration of the service's most delayed loop."""
    text = httpx.get(f"{platform.settings.serving_url}/metrics", timeout=SECONDS).text
    name = "phaseflow_loop_last_iteration_timestamp_seconds{"
    return max(time.time() - float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def test_a_pickle_is_never_loaded(
    addresses: Mapping[str, tuple[str, int]], platform: Platform, tally: Tally, tmp_path: Any
) -> None:
    """BentoML accepts pickles by content type; loading this pickle would write a file."""
    address, target = addresses["serving"], tmp_path / "loaded"
    command = f"touch {target}".encode()
    pickle = b"cposix\nsystem\n(X" + len(command).to_bytes(4, "little") + command + b"tR."
    medias = (
        *(
            "application/vnd.bentoml+pickle",
            "application/vnd.bentoml.pickle",
            "application/x-pickle",
            "application/octet-stream",
        ),
        *("application/vnd.bentoml.stream+pickle", "application/python-pickle"),
    )
    breaches, attempts = [], 0
    for path in (
        "/predict",
        "/projects",
        "/titanic/predict",
        "/v2/models/titanic/infer",
        "/is_ready",
        "/runner",
        "/infer",
    ):
        for media in medias:
            for extra in (
                [],
                [("Payload-Container", "DefaultContainer"), ("Args-Number", "1")],
                [("Bento-Name", "phaseflow")],
            ):
                headers = [
                    ("Host", f"{address[0]}:{address[1]}"),
                    ("Connection", "close"),
                    ("Content-Type", media),
                    *extra,
                ]
                response = wire.exchange(address, wire.request("POST", path, headers, pickle))
                attempts += 1
                if not (400 <= response.status < 500 or response.status == 0):
                    breaches.append(f"{path} {media}: {response.status}")
    breaches += ["the pickle was loaded"] if target.exists() else []
    assert json.loads(httpx.get(f"{platform.settings.serving_url}/healthz").text)["status"]
    tally.add(Row(what="pickles to BentoML", attempts=attempts, breaches=breaches))
