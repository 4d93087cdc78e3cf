"""`python -m services.monitor`: at its port of this machine."""

from __future__ import annotations

import uvicorn

from phaseflow.settings import from_environment
from services.monitor.app import application

if __name__ == "__main__":
    settings = from_environment()
    uvicorn.run(
        application(settings),
        host=settings.host,
        port=settings.port("monitor"),
        log_level="warning",
        access_log=False,
    )
