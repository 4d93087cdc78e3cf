"""`python -m services.serving [--host H] [--port P]`: one process for every project, until SIGTERM."""

from __future__ import annotations

import argparse

import uvicorn

from phaseflow import limits, log
from phaseflow.connections import LimitedProtocol, connection_limit
from services.serving.app import application
from services.serving.service import Phaseflow
from services.serving.state import current


def main() -> None:
    """Serve; on SIGTERM answer what is under way, then ship the log."""
    log.configure()
    LimitedProtocol.max_connections = connection_limit(limits.raise_file_limit())
    service = current()
    parser = argparse.ArgumentParser(prog="services.serving")
    parser.add_argument("--host", default=service.settings.host)
    parser.add_argument("--port", type=int, default=service.settings.port("serving"))
    told = parser.parse_args()
    uvicorn.run(
        application(Phaseflow.to_asgi(), service),  # type: ignore[attr-defined]  # bentoml's decorator makes a Service of the class
        host=told.host,
        port=told.port,
        loop="uvloop",
        http=LimitedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=20,
        timeout_keep_alive=30,
        backlog=512,
    )


if __name__ == "__main__":
    main()
