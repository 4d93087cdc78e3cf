"""An Airflow plugin for SQLite: the API server answers one writing request at a time.

SQLite has one writer. Airflow's API server writes from its worker threads, and the audit log of the next request from its event loop
(`airflow.api_fastapi.logging.decorators`). While the loop waits there for the database, the thread's session, which only the loop
can close, keeps it: the server answers nobody until the driver gives up, and then an error. PostgreSQL locks rows, and needs no plugin.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class OneWriter:
    """ASGI middleware (https://asgi.readthedocs.io): a request that may write waits until the one before it is done, commit and all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request when it is its turn."""
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        async with self._turn:
            await self._app(scope, receive, send)


class OneWriterPlugin(AirflowPlugin):
    """Tells Airflow of the middleware."""

    name = "one_writer"
    fastapi_root_middlewares = [{"name": name, "middleware": OneWriter}]  # noqa: RUF012  # as the base class declares it
