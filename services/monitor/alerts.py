"""What Prometheus says of alerts: which rules there are, and which fire now.

Alertmanager takes an alert from whoever reaches it. So an alert that it delivers is only a hint: the hook acts on what Prometheus itself
says, and on nothing that the delivered alert says beside its labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from phaseflow.errors import PlatformError
from phaseflow.settings import Settings

IDENTITY = ("alertname", "project", "action")
"""Labels that a delivered alert must share with its rule."""


class Alert(msgspec.Struct, frozen=True):
    """An alert by Prometheus's API (https://prometheus.io/docs/prometheus/latest/querying/api/#alerts)."""

    labels: dict[str, str]
    state: str
    annotations: dict[str, str] = {}  # msgspec copies it
    active_at: str = msgspec.field(name="activeAt", default="")


class _Rule(msgspec.Struct, frozen=True):
    name: str
    labels: dict[str, str] = {}


class _Group(msgspec.Struct, frozen=True):
    rules: list[_Rule]


class _Alerts(msgspec.Struct, frozen=True):
    alerts: list[Alert]


class _Groups(msgspec.Struct, frozen=True):
    groups: list[_Group]


class Prometheus:
    """The two calls that the hook needs; each raises PlatformError when Prometheus is away or answers something else."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(timeout=10, trust_env=False)

    async def firing(self) -> list[Alert]:
        """Alerts that fire now."""
        alerts: _Alerts = await self._data("alerts", _Alerts)
        return [alert for alert in alerts.alerts if alert.state == "firing"]

    async def rules(self) -> list[Mapping[str, str]]:
        """Labels of every alerting rule, its name as `alertname`."""
        groups: _Groups = await self._data("rules?type=alert", _Groups)
        return [{**rule.labels, "alertname": rule.name} for group in groups.groups for rule in group.rules]

    async def _data(self, call: str, kind: type[Any]) -> Any:
        url = f"{self._settings.prometheus_url}/api/v1/{call}"
        try:
            response = await self._client.get(url, auth=self._settings.login("prometheus"))
            response.raise_for_status()
            return msgspec.convert(response.json()["data"], kind)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            fix = "Give the monitor Prometheus's password (the secret prometheus_password)"
            raise PlatformError(
                f"Prometheus answers {status} at {url}", fix=fix if status == 401 else "Look at its log"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PlatformError(f"Prometheus at {url} is away: {error!r}", fix="Start it") from error
        except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
            raise PlatformError(
                f"Prometheus at {url} answers something else: {error!r}", fix="Correct PHASEFLOW_PROMETHEUS_URL"
            ) from error


def confirmed(labels: Mapping[str, str], firing: list[Alert]) -> Alert | None:
    """The firing alert that a delivered alert's labels name; None where Prometheus knows of none.

    Alertmanager may hold more labels (external ones), never other values.
    """
    for alert in firing:
        if shares_identity(labels, alert.labels) and alert.labels.items() <= labels.items():
            return alert
    return None


def shares_identity(labels: Mapping[str, str], rule: Mapping[str, str]) -> bool:
    """Whether an alert may be of a rule: the same name, project and action, none of them empty."""
    return all(labels.get(name) and labels.get(name) == rule.get(name) for name in IDENTITY)
