"""`python -m services.monitor.ui` serves Evidently's pages (`evidently ui`) over the workspace of the platform's reports.

Everyone who reaches it may read. A change needs the secret `evidently_secret` in the header `evidently-secret`, as
Evidently's `RemoteWorkspace` sends it.
"""

from __future__ import annotations

import os

# Read by Evidently on import: it disables telemetry.
os.environ["DO_NOT_TRACK"] = "1"
os.environ.setdefault("GIT_COMMIT", "-")  # else Evidently asks git for the commit of its own source

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from phaseflow import access, discovery
from phaseflow.access import Application, Receive, Scope, Send
from phaseflow.errors import PlatformError
from phaseflow.loops import Loops
from phaseflow.settings import Settings
from phaseflow.store import Store
from services.monitor import workspace
from services.monitor.serve import serve

MAX_BODY_BYTES: Final = 64 << 20
"""A run with 100 columns takes 10 MiB."""
MIRROR_SECONDS: Final = float(os.environ.get("PHASEFLOW_EVIDENTLY_MIRROR_SECONDS", "5"))
REMOTE_MIRROR_SECONDS: Final = 60.0
"""On S3 each look is a request per project, which costs money."""
MIRROR_MAX_AGE_SECONDS: Final = 600.0
"""Longer than an outage of the store for which the pages need not be restarted."""
SECRET_HEADER: Final = b"evidently-secret"
CONTENT_TYPES: Final = frozenset({"application/json", "multipart/form-data"})
READS_BY_POST: Final = re.compile(r"/api/v2/snapshots/[^/]+/data_series_batch")
"""Route of the series of a dashboard. It changes nothing, and Evidently's own page calls it."""

PATH: Final = re.compile(r"(/[\w.\- ]{0,200})+")
"""Paths of Evidently's pages and API. For others, such as those with a NUL byte, its file server would fail with 500."""


def application(settings: Settings) -> Application:
    """Evidently's pages and API behind the access rules."""
    folder = settings.home / "evidently"
    projects = [discovery.get(name) for name in discovery.names()]
    workspace.prepare(projects, folder)
    # Without the secret nothing can be changed.
    pages, state = _evidently(folder, _secret(settings) or secrets.token_urlsafe(32))
    loops = Loops()
    store = Store(settings.store)

    async def mirror() -> None:
        for project in projects:
            await asyncio.to_thread(workspace.mirror, store, project, folder)
            workspace.refresh(state, project)  # on the thread that reads it, for requests
            loops.beat("workspace")

    async def health(_: Request) -> JSONResponse:
        overdue = loops.overdue()
        return JSONResponse({"status": "overdue" if overdue else "ok", "overdue": overdue}, 503 if overdue else 200)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with pages.lifespan():
            seconds = REMOTE_MIRROR_SECONDS if store.remote else MIRROR_SECONDS
            loops.start("workspace", mirror, seconds=seconds, max_age=MIRROR_MAX_AGE_SECONDS)
            yield
            await loops.stop()

    routes = [Route("/healthz", health), Mount("/", _confined(_protected(pages, settings), _policy()))]
    rules = access.policy(settings, content_types=lambda _: CONTENT_TYPES)
    return access.guarded(Starlette(routes=routes, lifespan=lifespan), rules)


def _evidently(folder: Path, secret: str) -> tuple[Any, Any]:
    """The application of `evidently ui --workspace FOLDER --secret SECRET`, without telemetry, and its `LocalState`."""
    # Slow: tests import the rest of this module.
    from evidently.ui.service.app import create_app, get_config  # noqa: PLC0415
    from evidently.ui.service.components.storage import LocalStorageComponent  # noqa: PLC0415
    from evidently.ui.service.storage.local import LocalState, create_local_project_manager  # noqa: PLC0415

    state = LocalState.load(str(folder), None)
    manager = create_local_project_manager(str(folder), autorefresh=False, state=state)

    class Storage(LocalStorageComponent):  # type: ignore[misc]
        def project_manager_provider(self) -> Any:
            async def provide() -> Any:
                return manager

            return provide

    config = get_config(secret=secret, request_max_body_size=MAX_BODY_BYTES)
    config.storage = Storage(path=str(folder), autorefresh=False)
    config.dashboard.path = str(folder)
    config.telemetry.enabled = False
    with contextlib.redirect_stdout(None):  # it prints its dependencies
        return create_app(config), state


def _protected(application: Application, settings: Settings) -> Application:
    """Refuse odd paths, and changes without the secret.

    Evidently checks the secret too, but not on the routes of traces and of LLM judges.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope.get("method", "GET"), scope["path"]
        if not PATH.fullmatch(path):
            return await _refusal(404, "There is no such page", "See the projects at /.")(scope, receive, send)
        if method in access.SAFE_METHODS or (method == "POST" and READS_BY_POST.fullmatch(path)):
            return await application(scope, receive, send)
        values = [value for name, value in scope["headers"] if name == SECRET_HEADER]
        expected = _secret(settings).encode()
        if expected and len(values) == 1 and hmac.compare_digest(values[0], expected):
            return await application(scope, receive, send)
        problem = "The secret of Evidently is missing or wrong"
        fix = "Pass it: RemoteWorkspace(url, secret=...). It is the platform's secret evidently_secret."
        return await _refusal(401, problem, fix)(scope, receive, send)

    return app


def _refusal(status: int, problem: str, fix: str) -> JSONResponse:
    """An error response. Evidently's own client reads `detail`."""
    return JSONResponse({"error": {"problem": problem, "fix": fix}, "detail": f"{problem}. {fix}"}, status)


def _secret(settings: Settings) -> str:
    """The secret that lets clients change something. Empty if there is none."""
    try:
        return settings.secret("evidently_secret")
    except PlatformError:
        return ""


def _policy() -> bytes:
    """The Content-Security-Policy of the pages: scripts of this server alone, by file or by the hash of the page's own."""
    from evidently.ui.service.api.static import BASE_PATH  # noqa: PLC0415  # as above

    page = (Path(BASE_PATH) / "index.html").read_text()
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    )
    return (
        f"default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "font-src 'self' data:; object-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ).encode()


def _confined(application: Application, policy: bytes) -> Application:
    """Add the headers that keep the pages from loading anything else."""
    headers = [
        (b"content-security-policy", policy),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def sender(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        await application(scope, receive, sender)

    return app


if __name__ == "__main__":
    serve("evidently", application)
