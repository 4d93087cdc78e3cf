"""The portal's pages. They are read-only (GET and HEAD), need no session, and load nothing but this server's style sheet, script and icon."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import jinja2
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phaseflow import access, identity
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import ROOT, Settings, from_environment
from services.portal import collect, dashboards, detail, listing, source, text
from services.portal.model import Status
from services.portal.prometheus import Prometheus

HERE: Final = Path(__file__).parent
FRESH_SECONDS: Final = 2.0
"""A status younger than this is shown without asking the platform's parts again."""
STALE_SECONDS: Final = 30.0
"""A status older than this is not shown while a new one is gathered."""
PATIENCE_SECONDS: Final = 0.7
"""How long a page waits for a new status before it shows the last one."""
NOBODY: Final = {
    "field": None,
    "problem": "The portal does not know who asks",
    "fix": "Open it under the address of the reverse proxy, which asks for a login.",
}
HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


class Portal:
    """The status of one platform; all viewers share a status for FRESH_SECONDS."""

    def __init__(self, settings: Settings, patient: httpx.AsyncClient, hasty: httpx.AsyncClient) -> None:
        self.settings = settings
        self.prometheus = Prometheus(patient, settings.prometheus_url, settings.login("prometheus"))
        self._patient, self._hasty = patient, hasty
        self._round: asyncio.Task[Status] | None = None
        self._status: Status | None = None

    async def now(self) -> Status:
        """The status within a second: a fresh one, otherwise the last one, otherwise one of the parts that respond immediately."""
        latest = self._status
        age = math.inf if latest is None else time.time() - latest.time
        if latest is not None and age < FRESH_SECONDS:
            return latest
        refresh = self._refresh()
        if latest is not None and age < STALE_SECONDS:
            await asyncio.wait({refresh}, timeout=PATIENCE_SECONDS)
            return self._status or latest
        hasty = asyncio.create_task(collect.gather(self._hasty, self.settings))
        completed, _ = await asyncio.wait({refresh, hasty}, return_when=asyncio.FIRST_COMPLETED)
        if refresh not in completed:
            return hasty.result()
        hasty.cancel()
        return refresh.result()

    def _refresh(self) -> asyncio.Task[Status]:
        """The task that gathers the status; starts one if none is running."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(collect.gather(self._patient, self.settings))
            self._round.add_done_callback(self._store)
        return self._round

    def _store(self, task: asyncio.Task[Status]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._status = task.result()

    def close(self) -> None:
        """Cancel the running task."""
        if self._round is not None:
            self._round.cancel()


def application(settings: Settings) -> access.Application:
    """The portal behind the access rules; where the platform has one login, for people whom the reverse proxy names."""
    try:
        secret = settings.secret(identity.SECRET)
    except PlatformError:
        return access.guarded(create(settings), access.policy(settings))
    return access.guarded(_Identified(create(settings), secret), access.policy(settings))


def create(settings: Settings) -> Starlette:
    """The pages without access rules."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with source.client(source.PATIENT) as patient, source.client(source.HASTY) as hasty:
            app.state.portal = Portal(settings, patient, hasty)
            yield
            app.state.portal.close()

    app = Starlette(
        routes=[
            Route("/", _home),
            Route("/projects/{name}", _project),
            Route("/projects/{name}/readme", _readme),
            Route("/dashboards", _dashboards),
            Route("/dashboards/{name}", _dashboard),
            Route("/api/status", _api_status),
            Route("/healthz", _healthz),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        exception_handlers={HTTPException: _error, PhaseflowError: _error},
        lifespan=lifespan,
    )
    app.add_middleware(_Headers)
    return app


class _Identified:
    """Middleware that lets in who has a role, and keeps the identity in the request's state. Probes need none."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self.app, self._secret = app, secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/healthz":
            sender = identity.of(scope["headers"], self._secret)
            if sender is None:
                response = JSONResponse({"error": NOBODY}, 403)
                return await response(scope, receive, send)
            scope = {**scope, "state": {**scope.get("state", {}), "sender": sender}}
        await self.app(scope, receive, send)
        return None


class _Headers:
    """Middleware that adds HEADERS to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


async def _home(request: Request) -> Response:
    status, query = await _portal(request).now(), request.query_params.get("q", "")
    return _page(request, "home.html", status=status, groups=listing.grouped(status.projects, query), query=query)


async def _project(request: Request) -> Response:
    portal, name = _portal(request), request.path_params["name"]
    project = collect.declared(name)
    now, project_detail = await asyncio.gather(portal.now(), detail.gather(portal.prometheus, portal.settings, project))
    project_status = next(p for p in now.projects if p.name == name)
    return _page(
        request, "project.html", status=now, project=project, project_status=project_status, detail=project_detail
    )


async def _readme(request: Request) -> Response:
    path = ROOT / "projects" / collect.declared(request.path_params["name"]).name / "README.md"
    try:
        return PlainTextResponse(await asyncio.to_thread(path.read_text, "utf-8"))
    except OSError as error:
        raise HTTPException(404, f"{path.parent.name} has no README.md") from error


async def _dashboards(request: Request) -> Response:
    query = request.query_params.get("q", "")
    links = [
        link
        for link in dashboards.listed(_portal(request).settings.dashboards)
        if listing.matches(query, link.name, link.title)
    ]
    return _page(request, "dashboards.html", shown=links, query=query)


async def _dashboard(request: Request) -> Response:
    portal, name = _portal(request), request.path_params["name"]
    content = dashboards.load(portal.settings.dashboards, name)
    variables = {
        key.removeprefix("var-"): value for key, value in request.query_params.items() if key.startswith("var-")
    }
    dashboard = await dashboards.render(portal.prometheus, name, content, variables)
    return _page(request, "dashboard.html", dashboard=dashboard)


async def _api_status(request: Request) -> Response:
    return JSONResponse(dataclasses.asdict(await _portal(request).now(), dict_factory=_without_charts))


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _error(request: Request, error: Exception) -> Response:
    """An error page; 404 for errors of the platform."""
    code, message = (error.status_code, error.detail) if isinstance(error, HTTPException) else (404, str(error))
    return _page(request, "error.html", code, code=code, message=message)


def _portal(request: Request) -> Portal:
    portal: Portal = request.app.state.portal
    return portal


def _without_charts(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in items if key not in {"traffic", "drift"}}


def _page(request: Request, template: str, status_code: int = 200, **context: Any) -> HTMLResponse:
    portal = _portal(request)
    context |= {
        "path": request.url.path,
        "links": dashboards.listed(portal.settings.dashboards),
        "settings": portal.settings,
        "now": time.time(),
        "sender": getattr(request.state, "sender", None),
    }
    return HTMLResponse(PAGES.get_template(template).render(context), status_code)


def _safe(url: str) -> str:
    """The URL if it may be a link, otherwise ("javascript:", …) an empty string."""
    return url if url.startswith(("http://", "https://")) else ""


def _code(words: str) -> Markup:
    """The escaped text, with text between backticks as code."""
    parts = [escape(part) for part in words.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


def _breakable(name: str) -> Markup:
    """The escaped name, which may break after an underscore."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _pages() -> jinja2.Environment:
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: Mapping[str, Any] = {
        "figure": text.figure,
        "span": text.span,
        "ago": text.ago,
        "clock": text.clock,
        "moment": text.moment,
        "safe_url": _safe,
        "code": _code,
        "breakable": _breakable,
    }
    pages.filters.update(filters)
    # The command for a project's first model: on Kubernetes it triggers the DAG.
    pages.globals["command"] = f"bin/phaseflow {'--context NAME trigger' if from_environment().public_url else 'run'}"
    return pages


PAGES: Final = _pages()
