"""`python -m services.monitor`: at its port of this machine."""

from __future__ import annotations

from typing import Final

import uvicorn

from phaseflow import limits, log
from phaseflow.connections import LimitedProtocol
from phaseflow.settings import from_environment
from services.monitor.app import application

MAX_CONNECTIONS: Final = 256
KEEP_ALIVE_SECONDS: Final = 5

if __name__ == "__main__":
    log.configure()
    limits.raise_file_limit()
    LimitedProtocol.max_connections = MAX_CONNECTIONS
    settings = from_environment()
    uvicorn.run(
        application(settings),
        host=settings.host,
        port=settings.port("monitor"),
        log_level="warning",
        access_log=False,
        http=LimitedProtocol,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
