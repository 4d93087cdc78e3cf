"""The parts of the platform, and whether they are healthy."""

from __future__ import annotations

from typing import Final

import httpx

from phaseflow import discovery
from phaseflow.settings import USER, Settings
from services.portal import source
from services.portal.model import Part

PARTS: Final = (
    # name, title, path of its user interface, path of its health check, purpose
    ("airflow", "Airflow", "", "/api/v2/monitor/health", "runs the DAGs"),
    ("pipelines", "Pipeline engine", "/apis/v2beta1/healthz", "/apis/v2beta1/healthz", "trains and evaluates models"),
    ("mlflow", "MLflow", "", "/health", "stores the models"),
    ("serving", "Service", "/docs", "/healthz", "serves predictions"),
    ("monitor", "Monitor", "/healthz", "/healthz", "makes drift reports and triggers retraining"),
    ("evidently", "Evidently", "", "/healthz", "shows the reports over time"),
    ("prometheus", "Prometheus", "", "/-/ready", "collects metrics"),
    ("alertmanager", "Alertmanager", "", "/-/ready", "routes alerts"),
    ("grafana", "Grafana", "", "/api/health", "draws dashboards"),
)
PROTECTED: Final = frozenset({"prometheus", "alertmanager"})
"""Parts with a login that the portal knows."""
OPTIONAL: Final = frozenset({"grafana"})
"""Parts that need not run: this portal draws the same dashboards."""


async def probe(
    http: httpx.AsyncClient, settings: Settings, name: str, title: str, page: str, health: str, purpose: str
) -> Part:
    """Request a part's health check."""
    base: str = settings.serving(discovery.names()[0]) if name == "serving" else getattr(settings, f"{name}_url")
    state, detail = "up", ""
    try:
        response = await source.get(
            http, title, base + health, auth=settings.login(name) if name in PROTECTED else None
        )
        if response.status_code == 401:
            state, detail = "degraded", "rejects the portal's password"
        elif response.status_code >= 500:
            state, detail = "degraded", f"responded {response.status_code}"
        elif name == "airflow":
            state, detail = _airflow(response)
    except source.AwayError as error:
        slow = isinstance(error.__cause__, httpx.TimeoutException)
        state, detail = ("slow", f"no response in {http.timeout.read:g} s") if slow else ("away", "not running")
    return Part(
        name=name,
        title=title,
        purpose=purpose,
        url=f"{address}{page}" if (address := settings.page(name)) else "",
        state=state,
        detail=detail,
        optional=name in OPTIONAL,
        login=_login(settings, name),
    )


def _login(settings: Settings, name: str) -> str:
    """Where to find the login of a part; empty behind the reverse proxy, where only the proxy has a password."""
    if name not in PROTECTED or settings.public_url or settings.login(name) is None:
        return ""
    return f"user `{USER}`, password in `{settings.secrets / f'{name}_password'}`"


def _airflow(response: httpx.Response) -> tuple[str, str]:
    """State and detail from Airflow's health check: its web server also responds while its scheduler is dead."""
    try:
        health = response.json()
        unhealthy = [
            name for name, part in health.items() if isinstance(part, dict) and part.get("status") == "unhealthy"
        ]
    except (ValueError, AttributeError):
        return "up", ""
    return ("degraded", f"{', '.join(unhealthy)} unhealthy") if unhealthy else ("up", "")
