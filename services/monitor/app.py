"""The monitor's HTTP API: the webhook, reports and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import html
import json
import os
import re
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import msgspec
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from phaseflow import access, discovery
from phaseflow.clients import airflow
from phaseflow.clients.rest import AsyncClient
from phaseflow.errors import PhaseflowError, PlatformError, from_output, suggestion
from phaseflow.log import logger
from phaseflow.loops import Loops
from phaseflow.reports import page_key
from phaseflow.settings import ROOT, Settings
from phaseflow.store import Store
from services.monitor.hook import Hook, decoder
from services.monitor.metrics import LastIterations, MonitorMetrics, Runs

MAX_PAYLOAD_BYTES: Final = 1 << 20
REPORT_SECONDS: Final = 240
LOOK_SECONDS: Final = float(os.environ.get("PHASEFLOW_MONITOR_LOOK_SECONDS", "5"))
LOOK_MAX_AGE_SECONDS: Final = 120.0
RESTORE_SECONDS: Final = 5.0
RESUME_SECONDS: Final = 30.0
RESUME_MAX_AGE_SECONDS: Final = 600.0
"""Long enough for Airflow to be slow for every project."""
DATA: Final = "report.json"
PAGES: Final = frozenset({"report.html", "summary.html", "quality.html"})
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "sandbox allow-scripts; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Evidently's page contains inline scripts, and text that clients sent. The policy lets the page load nothing, and gives it an opaque
origin: a script in it can read neither the monitor nor anything else behind the same reverse proxy."""
WINDOW: Final = re.compile(r"\d{8}T\d{6}Z")


def refuse(status: int, problem: str, fix: str) -> JSONResponse:
    """An error response with a problem and its fix."""
    return JSONResponse({"error": {"problem": problem, "fix": fix}}, status)


def application(settings: Settings) -> access.Application:
    """The monitor of this machine or namespace, behind the access rules."""

    def tokens() -> dict[str, str]:
        try:
            return {"hook": settings.secret("hook_token")}
        except PlatformError as error:
            logger.warning("all POST requests are rejected: %s", error)
            return {}

    rules = access.policy(settings, protected=_changes, tokens=tokens, credential="the secret hook_token")
    return access.guarded(Monitor(settings).application(), rules)


def _changes(method: str, _path: str) -> bool:
    return method not in access.SAFE_METHODS


class Monitor:
    """The routes and loops of one monitor."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.store)
        self._metrics = MonitorMetrics()
        airflow_client = AsyncClient(airflow.server(settings), timeout=15)
        self._hook = Hook(settings, airflow_client, self._metrics)
        self._runs = Runs(settings, airflow_client)
        self._loops = Loops()
        self._metrics.registry.register(self._runs)
        self._metrics.registry.register(LastIterations(self._loops))
        self._report_lock = asyncio.Lock()  # a report takes much memory and CPU: one at a time

    def application(self) -> Starlette:
        """The routes without the access rules."""
        return Starlette(
            routes=[
                Route("/hooks/alertmanager", self.alerts, methods=["POST"]),
                Route("/projects/{project}/report", self.report, methods=["POST"]),
                Route("/reports", self.reports),
                Route("/reports/{project}/{window}/{file:str}", self.page),
                Route("/metrics", self.exposition),
                Route("/healthz", self.health),
                Route("/readyz", self.health),
            ],
            exception_handlers={PhaseflowError: _unavailable},
            lifespan=self.lifespan,
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Poll the runs and send pending ones while the service is up."""
        loops = self._loops
        stopped = threading.Event()
        # Not a loop of `loops`: the monitor is healthy while the store is unavailable. A daemon, because a call may take a minute.
        restore = (self._store, self._metrics, stopped)
        threading.Thread(target=_restore_reports, args=restore, name="reports", daemon=True).start()
        loops.start(
            "runs",
            lambda: self._runs.look(lambda: loops.beat("runs")),
            seconds=LOOK_SECONDS,
            max_age=LOOK_MAX_AGE_SECONDS,
        )
        loops.start("pending", self._hook.resume, seconds=RESUME_SECONDS, max_age=RESUME_MAX_AGE_SECONDS)
        yield
        stopped.set()
        await loops.stop()

    async def alerts(self, request: Request) -> Response:
        """Alertmanager's webhook."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_PAYLOAD_BYTES:
                return refuse(
                    413, "The payload is larger than 1 MiB", "Lower max_alerts in Alertmanager's configuration."
                )
        try:
            payload = decoder.decode(bytes(body))
        except msgspec.DecodeError as error:
            return refuse(
                422, f"The payload is not Alertmanager's: {error}", "Send Alertmanager's webhook format, version 4."
            )
        try:
            return JSONResponse({"outcomes": await self._hook.receive(payload)})
        except PhaseflowError as error:
            return refuse(
                503,
                f"The alert is not handled yet: {error.problem}",
                f"{error.fix}; Alertmanager sends the alert again.",
            )

    async def report(self, request: Request) -> Response:
        """Make a report of a project now."""
        name, names = request.path_params["project"], discovery.names()
        if name not in names:
            return refuse(
                404,
                f"There is no project {name!r:.100}",
                suggestion(name[:100], names) or f"Use one of {', '.join(names)}.",
            )
        async with self._report_lock:
            status, summary = await _report(self._settings, name)
        if status == 200 and summary["rows"]:
            self._metrics.report(name, summary)
        return JSONResponse(summary, status)

    async def page(self, request: Request) -> Response:
        """A file of a report."""
        name, window, file = (request.path_params[key] for key in ("project", "window", "file"))
        absent = refuse(404, "There is no such report", "See the list at /reports.")
        if name not in discovery.names() or not WINDOW.fullmatch(window) or file not in {*PAGES, DATA}:
            return absent
        headers = {"Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
        try:
            if file == DATA:
                content = await asyncio.to_thread(self._store.read, f"reports/{name}/{window}/{file}")
                return Response(content, headers=headers, media_type="application/json")
            content = await asyncio.to_thread(_page, self._store, name, window, file)
        except FileNotFoundError:
            return absent
        headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            content = await asyncio.to_thread(gzip.decompress, content)
        return Response(content, headers=headers, media_type="text/html")

    async def reports(self, _: Request) -> Response:
        """The list of all reports, newest first."""
        keys = await asyncio.to_thread(self._report_keys)
        lines = "".join(f"<li><a href='{html.escape(key)}'>{html.escape(key)}</a>" for key in reversed(keys))
        return HTMLResponse(
            f"<!doctype html><meta charset='utf-8'><title>reports</title><h1>Reports</h1><ul>{lines or 'none yet'}</ul>"
        )

    def _report_keys(self) -> list[str]:
        keys = (key.removesuffix(".gz") for key in self._store.keys("reports"))
        return [key for key in keys if key.endswith(".html")]

    async def exposition(self, _: Request) -> Response:
        """The Prometheus metrics."""
        return Response(generate_latest(self._metrics.registry), media_type="text/plain; version=0.0.4")

    async def health(self, _: Request) -> Response:
        """503 if a loop is overdue."""
        overdue = self._loops.overdue()
        return JSONResponse({"status": "overdue" if overdue else "ok", "overdue": overdue}, 503 if overdue else 200)


def _page(store: Store, project: str, window: str, file: str) -> bytes:
    """A page, compressed. Reports of earlier versions are not compressed in the store.

    Raises FileNotFoundError if there is no such page.
    """
    try:
        return store.read(page_key(project, window, file.removesuffix(".html")))
    except FileNotFoundError:
        return gzip.compress(store.read(f"reports/{project}/{window}/{file}"))


async def _unavailable(_: Request, error: Exception) -> Response:
    """The response while the store is unavailable."""
    problem, fix = (error.problem, error.fix) if isinstance(error, PhaseflowError) else (str(error), "Try again")
    return refuse(503, problem, fix)


async def _report(settings: Settings, name: str) -> tuple[int, dict[str, Any]]:
    """Make a report now; returns an HTTP status and the response body."""
    async with httpx.AsyncClient(timeout=10) as client:
        try:
            model = await client.get(f"{settings.serving(name)}/{name}/model")
        except httpx.HTTPError as error:
            return 503, {"error": f"The service at {settings.serving(name)} can't be reached: {error!r}"}
    if model.status_code != 200:
        return 200, {"rows": 0, "reason": f"{name} has no champion yet"}
    command = ["-m", "services.monitor.report", "--project", name, "--snapshot", model.json()["snapshot"]]
    child = await asyncio.create_subprocess_exec(
        *("nice", "-n", "10"),  # if CPU is scarce, scrapes and alerts come first
        sys.executable,
        *command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, stderr = await asyncio.wait_for(child.communicate(), REPORT_SECONDS)
    except TimeoutError:
        child.kill()
        await child.wait()
        return 504, {"error": f"The report took longer than {REPORT_SECONDS} s"}
    finally:
        if child.returncode is None:
            child.kill()
    if child.returncode:
        text = stderr.decode(errors="replace").strip()
        return 500, {"error": str(from_output(text) or text[-2000:])}
    summary: dict[str, Any] = json.loads(output.splitlines()[-1])
    return 200, summary


def _restore_reports(store: Store, metrics: MonitorMetrics, stopped: threading.Event) -> None:
    """Restore the metrics of the projects' last reports, as soon as the store is available."""
    names = list(discovery.names())
    while names:
        try:
            _last_report(store, metrics, names[0])
            del names[0]
        except PlatformError as error:
            logger.warning("the last reports can't be read yet: %s", error)
            if stopped.wait(RESTORE_SECONDS):
                return


def _last_report(store: Store, metrics: MonitorMetrics, name: str) -> None:
    """Restore the metrics of a project's last report. A report that can't be read is skipped.

    Raises PlatformError if the store is unavailable.
    """
    try:
        keys = [key for key in store.keys(f"reports/{name}") if key.endswith("report.json")]
        if keys:
            metrics.report(name, json.loads(store.read(keys[-1])))
    except PlatformError:
        raise
    except Exception as error:  # a report may contain anything
        logger.warning("the last report of %s can't be read: %s: %s", name, type(error).__name__, error)
