"""Serve an application of this component at its port, with limits on connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import uvicorn

from phaseflow import limits, log
from phaseflow.access import Application
from phaseflow.connections import LimitedProtocol
from phaseflow.settings import Settings, from_environment

MAX_CONNECTIONS: Final = 256
KEEP_ALIVE_SECONDS: Final = 5


def serve(name: str, application: Callable[[Settings], Application]) -> None:
    """Serve until the process is stopped. `name` is the component's in `phaseflow.settings.PORTS`, and in its log."""
    limits.raise_file_limit()
    LimitedProtocol.max_connections = MAX_CONNECTIONS
    settings = from_environment()
    log.configure(name, settings.log_format)
    uvicorn.run(
        application(settings),
        log_config=None,
        host=settings.host,
        port=settings.port(name),
        log_level="warning",
        access_log=False,
        http=LimitedProtocol,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
