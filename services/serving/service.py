"""The BentoML service of every project: `bentoml serve services.serving.service:Phaseflow`.

Every request enters BentoML's server. The middleware `services.serving.app` responds to the hot routes, and all other
routes are BentoML's own, such as its typed API over the same models. BentoML's process manager imports this module
too, so what only the server needs is imported by the functions that use it.
"""

from __future__ import annotations

import os

# Disables telemetry; BentoML reads these variables when it is imported.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("DO_NOT_TRACK", "1")
# BentoML sets it for services with several workers. It would make prometheus_client keep our metrics in files.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import bentoml
from bentoml.exceptions import BentoMLException

from phaseflow import log
from phaseflow.settings import from_environment
from services.serving import server

_settings = from_environment()
log.configure("serving", _settings.log_format)
server.configure()

BENTOML: Final[dict[str, Any]] = {
    "http": {"host": _settings.host, "port": _settings.port("serving")},
    "workers": 1,
    "traffic": {"timeout": server.TIMEOUT_SECONDS},
    # These three cost more time per request than a prediction of a small model.
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": ".*"},
}
"""Defaults of the service. BENTOML_CONFIG and BENTOML_CONFIG_OPTIONS override them."""


@bentoml.service(name="phaseflow", **BENTOML)
class Phaseflow:
    """Every project's champion."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]  # bentoml's decorators have no types
    async def start(self) -> None:
        """Start the models and loops before the first request."""
        from services.serving import state

        await state.current().start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]  # bentoml's decorators have no types
    async def stop(self) -> None:
        """Stop them after the last request."""
        from services.serving import state

        await state.current().stop()

    @bentoml.api  # type: ignore[untyped-decorator]  # bentoml's decorators have no types
    async def predict(self, project: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Predict rows of a project, like `POST /<project>/predict`."""
        from services.serving import requests, state
        from services.serving.requests import RefusedError
        from services.serving.work import IMAGE_READERS, WORKERS, in_thread

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
        from services.serving import state

        return state.current().projects()


def _middleware(app: Any) -> Callable[..., Any]:
    from services.serving import state
    from services.serving.app import application

    return application(app, state.current())


Phaseflow.add_asgi_middleware(_middleware)  # type: ignore[attr-defined]  # bentoml's decorator makes a Service of the class
