"""Runs the queries of the dashboards, to find panels without data."""

from __future__ import annotations

from collections.abc import Sequence

from monitoring import dashboards
from monitoring.windows import rehearsal
from phaseflow import discovery
from phaseflow.clients import prometheus
from phaseflow.settings import Settings


def empty(settings: Settings, only: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
    """(dashboard, panel, query) of every query that currently returns no samples.

    Raises PlatformError if Prometheus can't be reached or refuses a query.
    """
    empty_queries = []
    with prometheus.client(settings) as client:
        for board in dashboards.boards(discovery.all_projects(), rehearsal(settings)):
            if only and board.uid not in only:
                continue
            for panel, query in dashboards.queries(board):
                if not client.send(prometheus.query(query)):
                    empty_queries.append((board.uid, panel, query))
    return empty_queries


def unreached(settings: Settings) -> list[tuple[str, str, str]]:
    """(job, address, reason) of every target whose last scrape failed, which explains empty panels.

    Raises PlatformError if Prometheus can't be reached.
    """
    with prometheus.client(settings) as client:
        targets = client.send(prometheus.targets())
    return [
        (target["labels"]["job"], target["scrapeUrl"], target["lastError"])
        for target in targets
        if target["health"] == "down"
    ]
