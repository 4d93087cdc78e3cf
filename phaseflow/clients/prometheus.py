"""Prometheus's HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from phaseflow.clients import rest
from phaseflow.clients.login import Login
from phaseflow.clients.rest import Call, Result
from phaseflow.settings import Settings

API: Final = "/api/v1"
Sample = tuple[dict[str, str], float]
"""The labels and the value of a series."""


def server(settings: Settings) -> rest.Server:
    """The API with its login."""
    return rest.Server(
        name="Prometheus",
        url=settings.prometheus_url,
        setting="PHASEFLOW_PROMETHEUS_URL",
        auth=Login(settings, "prometheus"),
        secret="prometheus_password",  # noqa: S106  # the secret's name
    )


def client(settings: Settings) -> rest.Client:
    """A synchronous client."""
    return rest.Client(server(settings))


def data(path: str, read: Callable[[Any], Result], params: Mapping[str, str] | None = None) -> Call[Result]:
    """A call whose result is in the field `data` of the response."""
    return Call(path=f"{API}/{path}", params=params, read=lambda body: read(body["data"]))


def query(expression: str) -> Call[list[Sample]]:
    """Evaluate an instant query, and return the labels and the value of each series."""
    return data(
        "query",
        lambda content: [(series["metric"], float(series["value"][1])) for series in content["result"]],
        {"query": expression},
    )


def alerts(project: str) -> Call[list[dict[str, Any]]]:
    """List the pending and firing alerts of a project."""
    return data(
        "alerts", lambda content: [alert for alert in content["alerts"] if alert["labels"].get("project") == project]
    )


def targets() -> Call[list[dict[str, Any]]]:
    """List the active scrape targets: `labels`, `scrapeUrl`, `health`, `lastError`."""
    return data("targets", lambda content: list(content["activeTargets"]), {"state": "active"})
