"""Asks Prometheus what the dashboards ask, to find panels that would show nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx

from monitoring import dashboards
from monitoring.windows import rehearsal
from phaseflow import registry
from phaseflow.embedded.rest import login
from phaseflow.settings import Settings


def empty(settings: Settings, only: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
    """(dashboard, panel, query) of every query that gives no sample now.

    Raises httpx.HTTPError when Prometheus can't be reached or refuses a query.
    """
    found = []
    with httpx.Client(timeout=20, auth=login(settings, "prometheus")) as client:
        for board in dashboards.boards(registry.all_projects(), rehearsal(settings)):
            if only and board.uid not in only:
                continue
            for panel, query in dashboards.queries(board):
                if not _ask(client, f"{settings.prometheus_url}/api/v1/query", {"query": query})["result"]:
                    found.append((board.uid, panel, query))
    return found


def unreached(settings: Settings) -> list[tuple[str, str, str]]:
    """(job, address, why) of every target whose last scrape failed: what their panels lack.

    Raises httpx.HTTPError when Prometheus can't be reached.
    """
    with httpx.Client(timeout=20, auth=login(settings, "prometheus")) as client:
        targets = _ask(client, f"{settings.prometheus_url}/api/v1/targets", {"state": "active"})["activeTargets"]
    return [
        (target["labels"]["job"], target["scrapeUrl"], target["lastError"])
        for target in targets
        if target["health"] == "down"
    ]


def _ask(client: httpx.Client, url: str, query: dict[str, str]) -> dict[str, Any]:
    answer = client.get(url, params=query)
    answer.raise_for_status()
    data: dict[str, Any] = answer.json()["data"]
    return data
