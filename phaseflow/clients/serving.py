"""The HTTP API of the service."""

from __future__ import annotations

from typing import Any

from phaseflow.clients import rest
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings


def server(settings: Settings, project: str) -> rest.Server:
    """The service of a project."""
    return rest.Server(name="The service", url=settings.serving(project), setting="PHASEFLOW_SERVING_URL")


def model(settings: Settings, project: str) -> dict[str, Any] | None:
    """Get the served model of a project. None if there is none yet."""
    call: rest.Call[dict[str, Any]] = rest.Call(path=f"/{project}/model", read=dict)
    with rest.Client(server(settings, project)) as client:
        try:
            return client.send(call)
        except PlatformError:
            return None
