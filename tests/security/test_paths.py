"""Path traversal in reports, the portal's pages, the engine's records and MLflow's artifacts: no leak, and no 5xx."""

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
    """Combine each prefix with each traversal sequence and target file, and with odd names."""
    variants = []
    for prefix in prefixes:
        variants += [f"{prefix}{up * depth}{target}" for up in UP for depth in (1, 8) for target in TARGETS]
        variants += [f"{prefix}{odd}" for odd in ODD] + [f"{prefix}{odd}/report.html" for odd in ODD[:4]]
    return variants


PREFIXES: Mapping[str, tuple[str, ...]] = {
    "monitor": ("/reports/", "/reports/titanic/", "/reports/titanic/20260101T000000Z/", "/projects/"),
    "evidently": ("/", "/static/", "/projects/", "/api/projects/", "/api/v2/dashboards/"),
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
    requested = paths(*PREFIXES[service])
    breaches = []
    for path in requested:
        response = wire.exchange(address, wire.request("GET", path, headers))
        leaked = (
            b"root:" in response.body or b"SQLite format" in response.body or any(v in response.body for v in values)
        )
        cookie = response.header("set-cookie")
        if response.status >= 500 or response.late or leaked or cookie:
            breaches.append(f"{path[:100]}: {response.status} {response.body[:100]!r}")
        if response.status == 200 and b"<script>" in response.body and "<script>" in path:
            breaches.append(f"{path[:100]}: the page repeats a script")
    tally.add(Row(what=f"paths that leave a folder: {service}", attempts=len(requested), breaches=breaches))


def test_mlflow_serves_nothing_outside_a_runs_folder(
    platform: Platform, addresses: Mapping[str, tuple[str, int]], tally: Tally
) -> None:
    """The local MLflow has no login, so that any local client may write models; other files must stay out of reach."""
    address = addresses["mlflow"]
    headers = [("Host", f"{address[0]}:{address[1]}"), ("Connection", "close"), ("Content-Type", "application/json")]

    def ask(method: str, path: str, body: object = None) -> wire.Response:
        content = b"" if body is None else json.dumps(body).encode()
        return wire.exchange(address, wire.request(method, path, headers, content), method=method, seconds=30)

    values = [path.read_bytes().strip() for path in platform.settings.secrets.iterdir()]
    name = f"attack-{secrets.token_hex(4)}"
    home = platform.settings.home
    attempts, breaches = 0, []
    for prefix in (
        "/api/2.0/mlflow-artifacts/artifacts/",
        "/get-artifact?path=",
        "/model-versions/get-artifact?name=titanic&version=1&path=",
    ):
        for path in paths(prefix):
            response = ask("GET", path)
            attempts += 1
            if (
                response.late
                or b"root:" in response.body
                or b"SQLite format" in response.body
                or any(v in response.body for v in values)
            ):
                breaches.append(f"{path[:100]}: {response.status} {response.body[:80]!r}")
    for location in (
        f"file://{home}/secrets",
        f"{home}/secrets",
        "file:///etc",
        "mlflow-artifacts:/../../secrets",
        "/etc",
        "ftp://x/y",
    ):
        attempts += 1
        created = ask(
            "POST", "/api/2.0/mlflow/experiments/create", {"name": f"{name}-{attempts}", "artifact_location": location}
        )
        if created.status != 200:
            continue
        identity = json.loads(created.body)["experiment_id"]
        run = json.loads(ask("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": identity}).body)["run"]["info"][
            "run_id"
        ]
        for path in ("", "secrets", "hook_token", "passwd", "../secrets"):
            for url in (
                f"/api/2.0/mlflow/artifacts/list?run_id={run}&path={path}",
                f"/get-artifact?run_uuid={run}&path={path}",
            ):
                response = ask("GET", url)
                attempts += 1
                if (
                    b"root:" in response.body
                    or any(v in response.body for v in values)
                    or (b"hook_token" in response.body and response.status == 200)
                ):
                    breaches.append(f"{location} {url}: {response.body[:100]!r}")
        ask("POST", "/api/2.0/mlflow/experiments/delete", {"experiment_id": identity})
    tally.add(Row(what="MLflow's artifacts", attempts=attempts, breaches=breaches))
