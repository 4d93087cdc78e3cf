"""`python -m pipelines.engine`: the engine at its port."""

from __future__ import annotations

import uvicorn

from phaseflow.settings import from_environment
from pipelines.engine.server import application

if __name__ == "__main__":
    settings = from_environment()
    uvicorn.run(application(settings), host=settings.host, port=settings.port("pipelines"), log_level="warning")
