"""`python -m services.serving`: one process for every project, at its port of this machine (`PHASEFLOW_SERVING_HOST` moves it)."""

from __future__ import annotations

import os

import uvicorn

from services.serving.app import application
from services.serving.service import Phaseflow
from services.serving.state import current

if __name__ == "__main__":
    service = current()
    uvicorn.run(
        application(service, Phaseflow.to_asgi()),  # type: ignore[attr-defined]  # bentoml's decorator makes a Service of the class
        host=os.environ.get("PHASEFLOW_SERVING_HOST", "127.0.0.1"),
        port=int(os.environ.get("PHASEFLOW_SERVING_PORT", service.settings.port("serving"))),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=20,
        timeout_keep_alive=30,
    )
