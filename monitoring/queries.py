"""Asks Prometheus what the dashboards ask, to find panels that would show nothing."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from monitoring import dashboards
from monitoring.windows import rehearsal
from phaseflow import registry
from phaseflow.embedded.rest import door
from phaseflow.settings import Settings


def empty(settings: Settings, only: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
    """(dashboard, panel, query) of every query that gives no sample now.

    Raises httpx.HTTPError when Prometheus can't be reached or refuses a query.
    """
    found = []
    with httpx.Client(timeout=20, auth=door(settings)) as client:
        for board in dashboards.boards(registry.all_projects(), rehearsal(settings)):
            if only and board.uid not in only:
                continue
            for panel, query in dashboards.queries(board):
                answer = client.get(f"{settings.prometheus_url}/api/v1/query", params={"query": query})
                answer.raise_for_status()
                if not answer.json()["data"]["result"]:
                    found.append((board.uid, panel, query))
    return found
