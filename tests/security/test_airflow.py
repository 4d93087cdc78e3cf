"""Airflow's API without a login: forged tokens, guessed passwords, and simple requests from a web page."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from phaseflow.clients import airflow
from tests import wire
from tests.conftest import Platform
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform


def part(value: Any) -> str:
    """Encode a part of a token (RFC 7515)."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged(algorithm: str, key: bytes = b"", **claims: Any) -> str:
    """Create a forged token of the administrator."""
    now = int(time.time())
    payload: dict[str, Any] = {"sub": "admin", "role": "ADMIN", "iss": "phaseflow", "aud": "apache-airflow"}
    payload |= {"iat": now, "nbf": now, "exp": now + 3600, **claims}
    text = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(payload)}"
    signature = hmac.new(key, text.encode(), hashlib.sha512 if algorithm == "HS512" else hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode() if key else ''}"


def test_no_forged_token_and_no_guessed_password_gets_in(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], credentials: Mapping[str, str], tally: Tally
) -> None:
    address = addresses["airflow"]
    own = [("Host", f"{address[0]}:{address[1]}"), ("Connection", "close")]
    right = credentials["airflow"].removeprefix("Bearer ")
    header, payload, signature = right.split(".")
    changed = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"exp": int(time.time()) + 10**8}
    tokens = [
        "",
        forged("none"),
        forged("NONE"),
        forged("HS256", b"secret"),
        forged("HS512", b"secret"),
        forged("HS512", b"phaseflow"),
        forged("RS256", b"secret"),
        f"{header}.{payload}.",
        f"{header}.{part(changed)}.{signature}",
        f"{part({'alg': 'none'})}.{payload}.",
        f"{part({'alg': 'HS512', 'kid': '../../../../dev/null'})}.{payload}.{signature}",
        right[:-2],
    ]
    before = {run["dag_run_id"] for run in airflow.client(platform.settings).send(airflow.runs("titanic"))}
    body = json.dumps({"logical_date": None, "conf": {"reason": "{{ 7*7 }}"}}).encode()
    attempts = []
    for token in tokens:
        for credential in ([("Authorization", f"Bearer {token}")], [("Cookie", f"_token={token}")]):
            attempts.append(("GET", "/api/v2/dags/titanic", [*own, *credential], b""))
            attempts.append(
                (
                    "POST",
                    "/api/v2/dags/titanic/dagRuns",
                    [*own, *credential, ("Content-Type", "application/json")],
                    body,
                )
            )
    for media in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        page = [*own, ("Origin", "https://evil.example"), ("Content-Type", media)]
        attempts.append(("POST", "/api/v2/dags/titanic/dagRuns", page, body))
        attempts.append(("PATCH", "/api/v2/dags/titanic", page, b'{"is_paused": true}'))
        attempts.append(("POST", "/execution/task-instances/x/state", page, b"{}"))
    readable = (
        "/api/v2/connections",
        "/api/v2/variables",
        "/api/v2/config",
        "/auth/token",
        "/api/v2/../auth/token",
        "/execution/variables/x",
    )
    attempts += [("GET", path, own, b"") for path in readable]
    for user, password in (
        ("admin", ""),
        ("admin", "admin"),
        ("Admin", "admin"),
        ("admin", "airflow"),
        ("", ""),
        ("admin'--", "x"),
    ):
        login = json.dumps({"username": user, "password": password}).encode()
        attempts.append(("POST", "/auth/token", [*own, ("Content-Type", "application/json")], login))
        attempts.append(("POST", "/auth/token/cli", [*own, ("Content-Type", "application/json")], login))
    breaches = []
    for method, target, headers, content in attempts:
        response = wire.exchange(address, wire.request(method, target, headers, content), method=method, seconds=30)
        if not 400 <= response.status < 500:
            breaches.append(f"{method} {target} {headers[2:]}: {response.status} {response.body[:80]!r}")
    after = {run["dag_run_id"] for run in airflow.client(platform.settings).send(airflow.runs("titanic"))}
    breaches += [f"DAG run {run}" for run in after - before if not run.startswith(("retrain__", "scheduled__"))]
    tally.add(Row(what="Airflow without its login", attempts=len(attempts), breaches=breaches))
