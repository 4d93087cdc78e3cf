"""A client for the calls of Prometheus's HTTP API that the portal needs (https://prometheus.io/docs/prometheus/latest/querying/api)."""

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
    """A labelled series: `points` are (Unix seconds, value), oldest first; there is at least one, and all are finite."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """The last value."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus server at `url`. Each call raises source.AwayError if it is unavailable, PlatformError if it refuses the query."""

    http: httpx.AsyncClient
    url: str
    login: tuple[str, str] | None = None
    """User and password."""

    async def ready(self, patience: httpx.Timeout | None = None) -> None:
        """Return once the server responds; raises source.AwayError if it does not, or not within `patience`."""
        options: dict[str, Any] = {"auth": self.login} | ({} if patience is None else {"timeout": patience})
        response = await source.get(self.http, PART, f"{self.url}/-/ready", **options)
        if response.status_code == 401:
            raise source.locked(PART, self.url)
        if response.status_code != 200:
            raise source.AwayError(f"{PART} is starting (it responded {response.status_code})", fix="Wait a moment")

    async def query(self, expression: str) -> list[Series]:
        """The current values of `expression`."""
        return _series(await self._data("query", {"query": expression}))

    async def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """The values of `expression` from `start` to `end` (Unix seconds), every `step` seconds."""
        span = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return _series(await self._data("query_range", {"query": expression, **span}))

    async def first_sample_time(self, start: float, end: float, step: float) -> float:
        """The time of the first sample after `start`, at least three minutes before `end`.

        Charts of a young platform that begin here are not mostly empty.
        """
        results = await self.query_range("count(up)", start, end, step)
        return min([*(series.points[0][0] for series in results), end - 180.0])

    async def label_values(self, label: str, metric: str = "") -> list[str]:
        """The values of `label` in the series that `metric` selects."""
        values = await self._data(f"label/{label}/values", {"match[]": metric} if metric else {})
        return [str(value) for value in values]

    async def alerts(self) -> list[dict[str, Any]]:
        """Pending and firing alerts."""
        return list((await self._data("alerts", {}))["alerts"])

    async def _data(self, call: str, params: Mapping[str, str]) -> Any:
        response = await source.get_json(self.http, PART, f"{self.url}/api/v1/{call}", params, auth=self.login)
        if not isinstance(response, dict) or response.get("status") != "success":
            message = response.get("error", response) if isinstance(response, dict) else response
            raise PlatformError(f"Prometheus refused {params.get('query', call)!r}: {message}", fix="Correct the query")
        return response["data"]


def _series(data: Mapping[str, Any]) -> list[Series]:
    if data["resultType"] in {"scalar", "string"}:
        results: Sequence[Mapping[str, Any]] = [{"metric": {}, "value": data["result"]}]
    else:
        results = data["result"]
    series = []
    for result in results:
        raw = result.get("values") or ([result["value"]] if "value" in result else [])
        points = tuple((float(at), float(value)) for at, value in raw if math.isfinite(float(value)))
        if points:
            series.append(Series(result["metric"], points))
    return series
