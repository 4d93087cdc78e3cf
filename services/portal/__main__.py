"""`python -m services.portal` serves the portal on its configured port."""

from __future__ import annotations

from typing import Final

import uvicorn

from phaseflow import limits, log
from phaseflow.connections import LimitedProtocol
from phaseflow.settings import from_environment
from services.portal.app import application

MAX_CONNECTIONS: Final = 256
KEEP_ALIVE_SECONDS: Final = 5


def main() -> None:
    """Serve until the process is stopped."""
    limits.raise_file_limit()
    LimitedProtocol.max_connections = MAX_CONNECTIONS
    settings = from_environment()
    log.configure("portal", settings.log_format)
    uvicorn.run(
        application(settings),
        log_config=None,
        log_level="info",
        host=settings.host,
        port=settings.port("portal"),
        access_log=False,
        server_header=False,
        http=LimitedProtocol,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )


if __name__ == "__main__":
    main()
