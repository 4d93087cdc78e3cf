"""Paths that would leave a folder: reports, the portal's pages, the engine's records, MLflow's artifacts. No secret comes out, and no 500."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

import pytest

from tests import wire
from tests.conftest import Platform
from tests.tally import Row, Tally

pytestmark = pytest.mark.platform
UP = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "....//", "..%252f", "%c0%ae%c0%ae/", "..;/")
TARGETS = ("etc/passwd", "secrets/hook_token")
ODD = (
    ".",
    "..",
    "%00",
    "a%00b",
    "%0d%0aSet-Cookie:x=1",
    "~",
    "%ff",
    "*",
    "a" * 5000,
    "%2f",
    "/",
    "%25",
    "con",
    "\u00fc",
    "{{7*7}}",
    "<script>",
)


def paths(*prefixes: str) -> list[str]:
    """Each prefix with each way up to a file, and with odd names."""
    found = []
    for prefix in prefixes:
        found += [f"{prefix}{up * depth}{target}" for up in UP for depth in (1, 8) for target in TARGETS]
        found += [f"{prefix}{odd}" for odd in ODD] + [f"{prefix}{odd}/report.html" for odd in ODD[:4]]
    return found


PREFIXES: Mapping[str, tuple[str, ...]] = {
    "monitor": ("/reports/", "/reports/titanic/", "/reports/titanic/20260101T000000Z/", "/projects/"),
    "portal": ("/projects/", "/dashboards/", "/static/", "/projects/titanic/"),
    "pipelines": ("/apis/v2beta1/runs/", "/apis/v2beta1/pipelines/", "/apis/v2beta1/"),
    "serving": ("/", "/v2/models/", "/static_content/"),
}


@pytest.mark.parametrize("service", sorted(PREFIXES))
def test_no_path_leaves_its_folder(
    service: str, platform: Platform, addresses: Mapping[str, tuple[str, int]], tally: Tally
) -> None:
    address = addresses[service]
    headers = [("Host", f"{address[0]}:{address[1]}"), ("Connection", "close")]
    values = [path.read_bytes().strip() for path in platform.settings.secrets.iterdir()]
    wanted = paths(*PREFIXES[service])
    got_in = []
    for path in wanted:
        response = wire.exchange(address, wire.request("GET", path, headers))
        leaked = (
            b"root:" in response.body or b"SQLite format" in response.body or any(v in response.body for v in values)
        )
        cookie = response.header("set-cookie")
        if response.status >= 500 or response.late or leaked or cookie:
            got_in.append(f"{path[:100]}: {response.status} {response.body[:100]!r}")
        if response.status == 200 and b"<script>" in response.body and "<script>" in path:
            got_in.append(f"{path[:100]}: the page repeats a script")
    tally.add(Row(what=f"paths that leave a folder: {service}", tried=len(wanted), got_in=got_in))


def test_mlflow_serves_nothing_outside_a_runs_folder(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], tally: Tally
) -> None:
    """Its API has no login on one machine, so that whoever reaches it may write models; files of others stay out of reach."""
    address = addresses["mlflow"]
    headers = [("Host", f"{address[0]}:{address[1]}"), ("Connection", "close"), ("Content-Type", "application/json")]

    def ask(method: str, path: str, body: object = None) -> wire.Response:
        content = b"" if body is None else json.dumps(body).encode()
        return wire.exchange(address, wire.request(method, path, headers, content), method=method, seconds=30)

    values = [path.read_bytes().strip() for path in platform.settings.secrets.iterdir()]
    name = f"attack-{secrets.token_hex(4)}"
    home = platform.settings.home
    tried, got_in = 0, []
    for prefix in (
        "/api/2.0/mlflow-artifacts/artifacts/",
        "/get-artifact?path=",
        "/model-versions/get-artifact?name=titanic&version=1&path=",
    ):
        for path in paths(prefix):
            response = ask("GET", path)
            tried += 1
            if (
                response.late
                or b"root:" in response.body
                or b"SQLite format" in response.body
                or any(v in response.body for v in values)
            ):
                got_in.append(f"{path[:100]}: {response.status} {response.body[:80]!r}")
    for location in (
        f"file://{home}/secrets",
        f"{home}/secrets",
        "file:///etc",
        "mlflow-artifacts:/../../secrets",
        "/etc",
        "ftp://x/y",
    ):
        tried += 1
        made = ask(
            "POST", "/api/2.0/mlflow/experiments/create", {"name": f"{name}-{tried}", "artifact_location": location}
        )
        if made.status != 200:
            continue
        identity = json.loads(made.body)["experiment_id"]
        run = json.loads(ask("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": identity}).body)["run"]["info"][
            "run_id"
        ]
        for path in ("", "secrets", "hook_token", "passwd", "../secrets"):
            for read in (
                f"/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}",
                f"/get-artifact?run_uuid={run}&path={path}",
            ):
                response = ask("GET", read)
                tried += 1
                if (
                    b"root:" in response.body
                    or any(v in response.body for v in values)
                    or (b"hook_token" in response.body and response.status == 200)
                ):
                    got_in.append(f"{location} {read}: {response.body[:100]!r}")
        ask("POST", "/api/2.0/mlflow/experiments/delete", {"experiment_id": identity})
    tally.add(Row(what="MLflow's artifacts", tried=tried, got_in=got_in))
