"""`python -m pipelines.engine`: serve the engine at its port."""

from __future__ import annotations

from typing import Final

import uvicorn

from phaseflow import limits, log
from phaseflow.connections import LimitedProtocol
from phaseflow.settings import from_environment
from pipelines.engine.server import application

MAX_CONNECTIONS: Final = 256
KEEP_ALIVE_SECONDS: Final = 5

if __name__ == "__main__":
    limits.raise_file_limit()
    LimitedProtocol.max_connections = MAX_CONNECTIONS
    settings = from_environment()
    log.configure("pipelines", settings.log_format)
    uvicorn.run(
        application(settings),
        log_config=None,
        host=settings.host,
        port=settings.port("pipelines"),
        log_level="warning",
        http=LimitedProtocol,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
