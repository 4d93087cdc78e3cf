"""Prometheus's HTTP API, the four calls that the portal makes (https://prometheus.io/docs/prometheus/latest/querying/api)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from phaseflow.errors import PlatformError
from services.portal import source

PART = "Prometheus"


@dataclass(frozen=True, slots=True)
class Series:
    """A labelled series: `points` are (unix seconds, value), oldest first, at least one, each finite."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """The last value."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus server at `url`. Each call raises source.AwayError, or PlatformError with what Prometheus refused."""

    http: httpx.AsyncClient
    url: str
    login: tuple[str, str] | None = None
    """User and password."""

    async def ready(self, patience: httpx.Timeout | None = None) -> None:
        """Return when it answers; raises source.AwayError otherwise, within `patience` where one is given."""
        options: dict[str, Any] = {"auth": self.login} | ({} if patience is None else {"timeout": patience})
        response = await source.get(self.http, PART, f"{self.url}/-/ready", **options)
        if response.status_code == 401:
            raise source.locked(PART, self.url)
        if response.status_code != 200:
            raise source.AwayError(f"{PART} is starting (it answered {response.status_code})", fix="Wait a moment")

    async def query(self, expression: str) -> list[Series]:
        """The value of `expression` now."""
        return _series(await self._data("query", {"query": expression}))

    async def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """The values of `expression` from `start` to `end` (unix seconds), every `step` seconds."""
        span = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return _series(await self._data("query_range", {"query": expression, **span}))

    async def began(self, start: float, end: float, step: float) -> float:
        """When it first measured anything after `start`, so that a young platform's charts are not empty for the most part.

        At least three minutes before `end`.
        """
        found = await self.query_range("count(up)", start, end, step)
        return min([*(series.points[0][0] for series in found), end - 180.0])

    async def label_values(self, label: str, metric: str = "") -> list[str]:
        """Values of `label`, of the series that `metric` selects."""
        found = await self._data(f"label/{label}/values", {"match[]": metric} if metric else {})
        return [str(value) for value in found]

    async def alerts(self) -> list[dict[str, Any]]:
        """Pending and firing alerts."""
        return list((await self._data("alerts", {}))["alerts"])

    async def _data(self, call: str, params: Mapping[str, str]) -> Any:
        answer = await source.get_json(self.http, PART, f"{self.url}/api/v1/{call}", params, auth=self.login)
        if not isinstance(answer, dict) or answer.get("status") != "success":
            said = answer.get("error", answer) if isinstance(answer, dict) else answer
            raise PlatformError(f"Prometheus refused {params.get('query', call)!r}: {said}", fix="Correct the query")
        return answer["data"]


def _series(data: Mapping[str, Any]) -> list[Series]:
    if data["resultType"] in {"scalar", "string"}:
        results: Sequence[Mapping[str, Any]] = [{"metric": {}, "value": data["result"]}]
    else:
        results = data["result"]
    found = []
    for result in results:
        raw = result.get("values") or ([result["value"]] if "value" in result else [])
        points = tuple((float(at), float(value)) for at, value in raw if math.isfinite(float(value)))
        if points:
            found.append(Series(result["metric"], points))
    return found
