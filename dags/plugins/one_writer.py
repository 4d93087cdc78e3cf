"""An Airflow plugin for SQLite: the API server handles one writing request at a time.

SQLite allows one writer. Airflow's API server writes from its worker threads, but it writes the audit log of the next request from its
event loop (`airflow.api_fastapi.logging.decorators`). While the loop waits for the database, the session of the thread, which only the
loop can close, keeps it locked: the server is blocked until the driver times out, and then responds with an error. PostgreSQL locks rows
and needs no plugin.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class OneWriter:
    """ASGI middleware (https://asgi.readthedocs.io): a request that may write waits until the previous one has committed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the request once no other writing request is in progress."""
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        async with self._turn:
            await self._app(scope, receive, send)


class OneWriterPlugin(AirflowPlugin):
    """Registers the middleware with Airflow."""

    name = "one_writer"
    fastapi_root_middlewares = [{"name": name, "middleware": OneWriter}]  # noqa: RUF012  # as the base class declares it
