"""`python -m services.monitor`: at its port of this machine (`PHASEFLOW_MONITOR_HOST` moves it)."""

from __future__ import annotations

import os

import uvicorn

from phaseflow.settings import from_environment
from services.monitor.app import application

if __name__ == "__main__":
    settings = from_environment()
    uvicorn.run(
        application(settings),
        host=os.environ.get("PHASEFLOW_MONITOR_HOST", "127.0.0.1"),
        port=settings.port("monitor"),
        log_level="warning",
        access_log=False,
    )
