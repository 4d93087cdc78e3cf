"""The BentoML service: packaging, BentoML's page, and its native API over the same models.

`bentoml serve services.serving.service:Phaseflow` serves all routes. `python -m services.serving` handles the hot
routes in front of BentoML, at a tenth of the cost per request.
"""

from __future__ import annotations

import os

# Disables telemetry; BentoML reads these variables when it is imported.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("DO_NOT_TRACK", "1")

from http import HTTPStatus
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException

from phaseflow import log
from services.serving import requests, state
from services.serving.app import application
from services.serving.requests import RefusedError
from services.serving.work import IMAGE_READERS, WORKERS, in_thread


@bentoml.service(name="phaseflow", traffic={"timeout": 30}, metrics={"enabled": False}, workers=1)
class Phaseflow:
    """Every project's champion."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # bentoml's decorators have no types
    async def start(self) -> None:
        """Start the models and loops before the first request."""
        service = state.current()
        log.configure("serving", service.settings.log_format)
        await service.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # bentoml's decorators have no types
    async def stop(self) -> None:
        """Stop them after the last request."""
        await state.current().stop()

    @bentoml.api  # type: ignore[untyped-decorator]  # bentoml's decorators have no types
    async def predict(self, project: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Predict rows of a project, like `POST /<project>/predict`."""
        service = state.current()
        try:
            model = service.model(project)
            reader = requests.get_reader(project)
            return service.complete(
                await in_thread(
                    IMAGE_READERS if reader.images else WORKERS,
                    lambda work: service.predict(model, requests.convert(reader, rows, work.check), work.check),
                )
            )
        except RefusedError as error:
            raise BentoMLException(f"{error.problem}. {error.fix}", error_code=HTTPStatus(error.status)) from error

    @bentoml.api  # type: ignore[untyped-decorator]  # bentoml's decorators have no types
    async def projects(self) -> list[dict[str, Any]]:
        """Served projects and their versions."""
        return state.current().projects()


Phaseflow.add_asgi_middleware(application, service=state.current())  # type: ignore[attr-defined]  # bentoml's decorator makes a Service of the class
