"""`python -m services.monitor` serves the monitor on its configured port."""

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
    limits.raise_file_limit()
    LimitedProtocol.max_connections = MAX_CONNECTIONS
    settings = from_environment()
    log.configure("monitor", settings.log_format)
    uvicorn.run(
        application(settings),
        log_config=None,
        host=settings.host,
        port=settings.port("monitor"),
        log_level="warning",
        access_log=False,
        http=LimitedProtocol,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
