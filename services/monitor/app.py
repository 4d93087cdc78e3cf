"""The monitor's HTTP: the hook, reports, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
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

from phaseflow import registry
from phaseflow.errors import PhaseflowError, suggestion
from phaseflow.settings import ROOT, Settings
from phaseflow.store import Store
from services.monitor.airflow import Airflow
from services.monitor.hook import Hook, decoder
from services.monitor.observed import Observed, Runs

LARGEST: Final = 1 << 20
"""Bytes of an alert payload."""
REPORT_SECONDS: Final = 240
LOOK_SECONDS: Final = float(os.environ.get("PHASEFLOW_MONITOR_LOOK_SECONDS", "5"))
WINDOW: Final = re.compile(r"\d{8}T\d{6}Z")


def refuse(status: int, problem: str, fix: str) -> JSONResponse:
    """An error with its fix."""
    return JSONResponse({"error": {"problem": problem, "fix": fix}}, status)


def application(settings: Settings) -> Starlette:
    """The monitor of this machine or namespace."""
    observed = Observed()
    airflow = Airflow(settings)
    hook = Hook(settings, airflow, observed)
    runs = Runs(settings, airflow)
    observed.registry.register(runs)
    store = Store(settings.store)
    one_report = asyncio.Lock()  # they are heavy: one at a time

    def allowed(request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(token.encode(), settings.secret("hook_token").encode())

    async def alerts(request: Request) -> Response:
        if not allowed(request):
            return refuse(401, "The token is wrong", "Send `Authorization: Bearer` with the secret hook_token.")
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
        except (httpx.HTTPError, PhaseflowError) as error:
            return refuse(
                503, f"Airflow did not take the run: {error!r}", "Start Airflow; Alertmanager sends the alert again."
            )

    async def report(request: Request) -> Response:
        if not allowed(request):
            return refuse(401, "The token is wrong", "Send `Authorization: Bearer` with the secret hook_token.")
        name, known = request.path_params["project"], registry.names()
        if name not in known:
            return refuse(
                404, f"There is no project {name!r:.100}", suggestion(name, known) or f"There are: {', '.join(known)}."
            )
        async with one_report:
            status, found = await _report(settings, name)
        if status == 200 and found["rows"]:
            observed.report(name, found)
        return JSONResponse(found, status)

    async def page(request: Request) -> Response:
        name, window = request.path_params["project"], request.path_params["window"]
        key = f"reports/{name}/{window}/{request.path_params['file']}"
        if name not in registry.names() or not WINDOW.fullmatch(window) or not store.exists(key):
            return refuse(404, "There is no such report", "See /reports.")
        if key.endswith(".json"):
            return JSONResponse(json.loads(store.read(key)))
        # Evidently's page holds its scripts; it may load nothing from anywhere.
        policy = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
        return HTMLResponse(store.read(key), headers={"Content-Security-Policy": policy})

    async def reports(_: Request) -> Response:
        keys = [key for key in store.keys("reports") if key.endswith("report.html")]
        lines = "".join(f"<li><a href='{html.escape(key)}'>{html.escape(key)}</a>" for key in reversed(keys))
        return HTMLResponse(
            f"<!doctype html><meta charset='utf-8'><title>reports</title><h1>Reports</h1><ul>{lines or 'none yet'}</ul>"
        )

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(observed.registry), media_type="text/plain; version=0.0.4")

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        _last_reports(store, observed)
        await hook.resume()
        task = asyncio.create_task(runs.follow(LOOK_SECONDS))
        yield
        task.cancel()

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
    """Metrics of the reports that were made before this process."""
    for name in registry.names():
        keys = [key for key in store.keys(f"reports/{name}") if key.endswith("report.json")]
        if keys:
            observed.report(name, json.loads(store.read(keys[-1])))
