"""The portal's pages. Read-only (GET and HEAD), no session, nothing from elsewhere: a page is one HTML, one CSS and one script of this server."""

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

from phaseflow import access, registry
from phaseflow.errors import PhaseflowError
from phaseflow.settings import ROOT, Settings, from_environment
from services.portal import dashboards, detail, source, status, text
from services.portal.prometheus import Prometheus

HERE: Final = Path(__file__).parent
FRESH_SECONDS: Final = 2.0
"""Viewers within it share one round of questions."""
STALE_SECONDS: Final = 30.0
"""What is older is not shown while a new round is under way."""
PATIENCE_SECONDS: Final = 0.7
"""How long a page waits for a new round while it has an older one."""
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
    """The pages of one platform; one round of questions serves every viewer for FRESH_SECONDS."""

    def __init__(self, settings: Settings, patient: httpx.AsyncClient, hasty: httpx.AsyncClient) -> None:
        self.settings = settings
        self.prometheus = Prometheus(patient, settings.prometheus_url, settings.login("prometheus"))
        self._patient, self._hasty = patient, hasty
        self._round: asyncio.Task[status.Status] | None = None
        self._status: status.Status | None = None

    async def now(self) -> status.Status:
        """What is going on, within a second: fresh, else as it was just before, else what answers at once."""
        known = self._status
        age = math.inf if known is None else time.time() - known.time
        if known is not None and age < FRESH_SECONDS:
            return known
        asking = self._ask()
        if known is not None and age < STALE_SECONDS:
            await asyncio.wait({asking}, timeout=PATIENCE_SECONDS)
            return self._status or known
        hasty = asyncio.create_task(status.gather(self._hasty, self.settings))
        done, _ = await asyncio.wait({asking, hasty}, return_when=asyncio.FIRST_COMPLETED)
        if asking not in done:
            return hasty.result()
        hasty.cancel()
        return asking.result()

    def _ask(self) -> asyncio.Task[status.Status]:
        """The round of questions that is under way."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(status.gather(self._patient, self.settings))
            self._round.add_done_callback(self._keep)
        return self._round

    def _keep(self, asked: asyncio.Task[status.Status]) -> None:
        if not asked.cancelled() and asked.exception() is None:
            self._status = asked.result()

    def close(self) -> None:
        """Ask no more."""
        if self._round is not None:
            self._round.cancel()


def application(settings: Settings) -> access.Application:
    """The portal behind the rules of who may ask it."""
    return access.guarded(create(settings), access.policy(settings))


def create(settings: Settings) -> Starlette:
    """The pages; whoever asks gets them."""

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


class _Headers:
    """Adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


async def _home(request: Request) -> Response:
    return _page(request, "home.html", status=await _portal(request).now())


async def _project(request: Request) -> Response:
    portal, name = _portal(request), request.path_params["name"]
    project = status.declared(name)
    now, found = await asyncio.gather(portal.now(), detail.gather(portal.prometheus, portal.settings, project))
    its = next(p for p in now.projects if p.name == name)
    return _page(request, "project.html", status=now, project=project, its=its, detail=found)


async def _readme(request: Request) -> Response:
    path = ROOT / "projects" / status.declared(request.path_params["name"]).name / "README.md"
    try:
        return PlainTextResponse(await asyncio.to_thread(path.read_text, "utf-8"))
    except OSError as error:
        raise HTTPException(404, f"{path.parent.name} has no README.md") from error


async def _dashboards(request: Request) -> Response:
    return _page(request, "dashboards.html")


async def _dashboard(request: Request) -> Response:
    portal, name = _portal(request), request.path_params["name"]
    content = dashboards.load(portal.settings.dashboards, name)
    chosen = {key.removeprefix("var-"): value for key, value in request.query_params.items() if key.startswith("var-")}
    found = await dashboards.render(portal.prometheus, name, content, chosen)
    return _page(request, "dashboard.html", dashboard=found)


async def _api_status(request: Request) -> Response:
    return JSONResponse(dataclasses.asdict(await _portal(request).now(), dict_factory=_without_charts))


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _error(request: Request, error: Exception) -> Response:
    """A page that says what is wrong: 404 for what is not there."""
    code, said = (error.status_code, error.detail) if isinstance(error, HTTPException) else (404, str(error))
    return _page(request, "error.html", code, code=code, said=said)


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
        "names": registry.names(),
        "settings": portal.settings,
        "now": time.time(),
    }
    return HTMLResponse(PAGES.get_template(template).render(context), status_code)


def _safe(url: str) -> str:
    """An address that may be a link; others ('javascript:', …) become none."""
    return url if url.startswith(("http://", "https://")) else ""


def _code(words: str) -> Markup:
    """Words escaped, what stands between backticks as code."""
    parts = [escape(part) for part in words.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


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
        "plain": text.plain,
        "span": text.span,
        "ago": text.ago,
        "clock": text.clock,
        "moment": text.moment,
        "safe_url": _safe,
        "code": _code,
    }
    pages.filters.update(filters)
    # How a person makes a project's first model: on Kubernetes by its DAG.
    pages.globals["command"] = f"bin/phaseflow {'cluster trigger' if from_environment().public_url else 'run'}"
    return pages


PAGES: Final = _pages()
