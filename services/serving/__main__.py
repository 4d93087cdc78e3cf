"""`python -m services.serving [--host H] [--port P]`: one process that serves every project until SIGTERM."""

from __future__ import annotations

import argparse

import uvicorn

from phaseflow import limits, log
from phaseflow.connections import LimitedProtocol, connection_limit
from phaseflow.settings import from_environment
from services.serving.app import application
from services.serving.service import Phaseflow
from services.serving.state import current


def main() -> None:
    """Serve until SIGTERM, then finish the requests in flight and ship the log."""
    log.configure("serving", from_environment().log_format)
    LimitedProtocol.max_connections = connection_limit(limits.raise_file_limit())
    service = current()
    parser = argparse.ArgumentParser(prog="services.serving")
    parser.add_argument("--host", default=service.settings.host)
    parser.add_argument("--port", type=int, default=service.settings.port("serving"))
    args = parser.parse_args()
    uvicorn.run(
        application(Phaseflow.to_asgi(), service),  # type: ignore[attr-defined]  # bentoml's decorator makes a Service of the class
        host=args.host,
        port=args.port,
        loop="uvloop",
        log_config=None,
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
