"""Prometheus's configuration: what is scraped, which rules, where alerts go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.windows import Windows


def configuration(windows: Windows, targets: Mapping[str, str], alertmanager: str, rules: str) -> dict[str, Any]:
    """Scrape each target (job -> host:port), evaluate the rule files that match `rules`."""
    every = f"{windows.scrape_seconds}s"
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in sorted(targets.items())
        ],
    }
