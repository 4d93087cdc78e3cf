"""Only MLflow's own answer means that a project has no champion."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from phaseflow.settings import from_environment
from phaseflow.store import Store
from phaseflow.testing import Request, Response, http_server
from services.serving.manager import Manager


def follow(responses: Sequence[Response], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Manager, int]:
    """A manager after one poll per response of its registry, and the number of connections that it opened."""
    addresses = []

    def respond(request: Request) -> Response:
        addresses.append(request.client)
        return responses[len(addresses) - 1]

    with http_server(respond, keep_alive=True) as url:
        for name, value in {"MLFLOW_URL": url, "HOME": str(tmp_path), "ONLY": "titanic"}.items():
            monkeypatch.setenv(f"PHASEFLOW_{name}", value)
        settings = from_environment()
        manager = Manager(settings, Store(settings.store))

        async def poll() -> None:
            for _ in responses:
                await manager.follow()
            await manager.close()

        asyncio.run(poll())
    return manager, len(set(addresses))


ABSENT = Response({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}, 404)
FOREIGN = (Response("<h1>not found</h1>", 404), Response("[]", 400), Response({"detail": "Not Found"}, 404))


def test_a_model_that_mlflow_does_not_have_is_no_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager, connections = follow([ABSENT, ABSENT], tmp_path, monkeypatch)
    assert manager.registry_up
    assert connections == 1


@pytest.mark.parametrize("response", FOREIGN)
def test_another_server_is_not_mlflow(
    response: Response, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection is closed, so that the next poll reaches MLflow if the address has changed hands."""
    with caplog.at_level(logging.WARNING):
        manager, connections = follow([response, ABSENT], tmp_path, monkeypatch)
    assert "MLflow is unreachable; the loaded models stay in use: Client error '40" in caplog.text
    assert connections == 2
    assert manager.registry_up  # by the second response
