"""Alertmanager's HTTP API (https://prometheus.io/docs/alerting/latest/clients)."""

from __future__ import annotations

from typing import Any

from phaseflow.clients import rest
from phaseflow.clients.login import Login
from phaseflow.settings import Settings


def server(settings: Settings) -> rest.Server:
    """The API with its login."""
    return rest.Server(
        name="Alertmanager",
        url=settings.alertmanager_url,
        setting="PHASEFLOW_ALERTMANAGER_URL",
        auth=Login(settings, "alertmanager"),
        secret="alertmanager_password",  # noqa: S106  # the secret's name
    )


def alerts(settings: Settings, project: str) -> list[dict[str, Any]]:
    """List the active alerts of a project."""
    call: rest.Call[list[dict[str, Any]]] = rest.Call(
        path="/api/v2/alerts", params={"filter": f'project="{project}"', "active": "true"}, read=list
    )
    with rest.Client(server(settings)) as client:
        return client.send(call)
