"""`python -m pipelines.engine`: the engine at its port."""

from __future__ import annotations

from typing import Final

import uvicorn

from phaseflow import log
from phaseflow.settings import from_environment
from pipelines.engine.server import application

MAX_CONNECTIONS: Final = 256
MAX_HEADER_BYTES: Final = 64 << 10
KEEP_ALIVE_SECONDS: Final = 5

if __name__ == "__main__":
    log.configure()
    settings = from_environment()
    uvicorn.run(
        application(settings),
        host=settings.host,
        port=settings.port("pipelines"),
        log_level="warning",
        http="h11",
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
