"""The monitor's HTTP: the hook, reports, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import msgspec
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from phaseflow import access, registry
from phaseflow.errors import PhaseflowError, PlatformError, suggestion
from phaseflow.log import logger
from phaseflow.loops import Loops
from phaseflow.settings import ROOT, Settings
from phaseflow.store import Store
from services.monitor.airflow import Airflow
from services.monitor.hook import Hook, decoder
from services.monitor.observed import LastIterations, Observed, Runs

LARGEST: Final = 1 << 20
"""Bytes of an alert payload."""
REPORT_SECONDS: Final = 240
LOOK_SECONDS: Final = float(os.environ.get("PHASEFLOW_MONITOR_LOOK_SECONDS", "5"))
LOOK_MAX_AGE_SECONDS: Final = 120.0
RESUME_SECONDS: Final = 30.0
RESUME_MAX_AGE_SECONDS: Final = 600.0
"""Airflow may keep each project's run waiting."""
FILES: Final = {"report.html": "text/html; charset=utf-8", "report.json": "application/json"}
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "sandbox allow-scripts; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Evidently's page holds its scripts, and words that clients sent. It loads nothing from anywhere, and has an origin of its own: what runs
in it can read neither the monitor nor what else is behind the same front door."""
WINDOW: Final = re.compile(r"\d{8}T\d{6}Z")


def refuse(status: int, problem: str, fix: str) -> JSONResponse:
    """An error with its fix."""
    return JSONResponse({"error": {"problem": problem, "fix": fix}}, status)


def application(settings: Settings) -> access.Application:
    """The monitor of this machine or namespace, behind the rules of who may call it."""

    def tokens() -> dict[str, str]:
        try:
            return {"hook": settings.secret("hook_token")}
        except PlatformError as error:
            logger.warning("nobody may post: %s", error)
            return {}

    rules = access.policy(settings, protected=_changes, tokens=tokens, credential="the secret hook_token")
    return access.guarded(_routes(settings), rules)


def _changes(method: str, _path: str) -> bool:
    return method not in access.SAFE_METHODS


def _routes(settings: Settings) -> Starlette:
    observed = Observed()
    airflow = Airflow(settings)
    hook = Hook(settings, airflow, observed)
    runs = Runs(settings, airflow)
    loops = Loops()
    observed.registry.register(runs)
    observed.registry.register(LastIterations(loops))
    store = Store(settings.store)
    one_report = asyncio.Lock()  # they are heavy: one at a time

    async def alerts(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                return refuse(
                    413, "The payload is larger than 1 MiB", "Lower max_alerts in Alertmanager's configuration."
                )
        try:
            payload = decoder.decode(bytes(body))
        except msgspec.DecodeError as error:
            return refuse(422, f"The payload is not Alertmanager's: {error}", "Send its webhook format, version 4.")
        try:
            return JSONResponse({"outcomes": await hook.receive(payload)})
        except PhaseflowError as error:
            return refuse(503, f"The alert waits: {error.problem}", f"{error.fix}; Alertmanager sends the alert again.")
        except (httpx.HTTPError, LookupError, ValueError, TypeError) as error:  # it is away, or answers something else
            return refuse(
                503, f"Airflow did not take the run: {error!r}", "Start Airflow; Alertmanager sends the alert again."
            )

    async def report(request: Request) -> Response:
        name, known = request.path_params["project"], registry.names()
        if name not in known:
            return refuse(
                404,
                f"There is no project {name!r:.100}",
                suggestion(name[:100], known) or f"There are: {', '.join(known)}.",
            )
        async with one_report:
            status, found = await _report(settings, name)
        if status == 200 and found["rows"]:
            observed.report(name, found)
        return JSONResponse(found, status)

    async def page(request: Request) -> Response:
        name, window, file = (request.path_params[key] for key in ("project", "window", "file"))
        absent = refuse(404, "There is no such report", "See /reports.")
        if name not in registry.names() or not WINDOW.fullmatch(window) or file not in FILES:
            return absent
        try:
            content = await asyncio.to_thread(store.read, f"reports/{name}/{window}/{file}")
        except FileNotFoundError:
            return absent
        headers = {"Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
        return Response(content, headers=headers | {"Content-Type": FILES[file]})

    async def reports(_: Request) -> Response:
        keys = await asyncio.to_thread(lambda: [key for key in store.keys("reports") if key.endswith("report.html")])
        lines = "".join(f"<li><a href='{html.escape(key)}'>{html.escape(key)}</a>" for key in reversed(keys))
        return HTMLResponse(
            f"<!doctype html><meta charset='utf-8'><title>reports</title><h1>Reports</h1><ul>{lines or 'none yet'}</ul>"
        )

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(observed.registry), media_type="text/plain; version=0.0.4")

    async def health(_: Request) -> Response:
        overdue = loops.overdue()
        return JSONResponse({"status": "overdue" if overdue else "ok", "overdue": overdue}, 503 if overdue else 200)

    async def unavailable(_: Request, error: Exception) -> Response:
        """The store is away."""
        problem, fix = (error.problem, error.fix) if isinstance(error, PhaseflowError) else (str(error), "Try again")
        return refuse(503, problem, fix)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        _last_reports(store, observed)
        loops.start(
            "runs", lambda: runs.look(lambda: loops.beat("runs")), seconds=LOOK_SECONDS, max_age=LOOK_MAX_AGE_SECONDS
        )
        loops.start("pending", hook.resume, seconds=RESUME_SECONDS, max_age=RESUME_MAX_AGE_SECONDS)
        yield
        await loops.stop()

    return Starlette(
        routes=[
            Route("/hooks/alertmanager", alerts, methods=["POST"]),
            Route("/projects/{project}/report", report, methods=["POST"]),
            Route("/reports", reports),
            Route("/reports/{project}/{window}/{file:str}", page),
            Route("/metrics", metrics),
            Route("/healthz", health),
            Route("/readyz", health),
        ],
        exception_handlers={PhaseflowError: unavailable},
        lifespan=lifespan,
    )


async def _report(settings: Settings, name: str) -> tuple[int, dict[str, Any]]:
    """Status and result of a report made now."""
    async with httpx.AsyncClient(timeout=10) as client:
        try:
            model = await client.get(f"{settings.serving(name)}/{name}/model")
        except httpx.HTTPError as error:
            return 503, {"error": f"The service at {settings.serving(name)} can't be reached: {error!r}"}
    if model.status_code != 200:
        return 200, {"rows": 0, "reason": f"{name} has no champion yet"}
    command = ["-m", "services.monitor.report", "--project", name, "--snapshot", model.json()["snapshot"]]
    child = await asyncio.create_subprocess_exec(
        *("nice", "-n", "10"),  # where processors are short, scrapes and alerts go before it
        sys.executable,
        *command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, errors = await asyncio.wait_for(child.communicate(), REPORT_SECONDS)
    except TimeoutError:
        child.kill()
        await child.wait()
        return 504, {"error": f"The report took longer than {REPORT_SECONDS} s"}
    finally:
        if child.returncode is None:
            child.kill()
    if child.returncode:
        return 500, {"error": errors.decode(errors="replace").strip()[-2000:]}
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return 200, found


def _last_reports(store: Store, observed: Observed) -> None:
    """Metrics of the reports that were made before this process; one that can't be read is left out."""
    for name in registry.names():
        try:
            keys = [key for key in store.keys(f"reports/{name}") if key.endswith("report.json")]
            if keys:
                observed.report(name, json.loads(store.read(keys[-1])))
        except Exception as error:  # whatever is in that file, the hook must start
            logger.warning("the last report of %s can't be read: %s: %s", name, type(error).__name__, error)
