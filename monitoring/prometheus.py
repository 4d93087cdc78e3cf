"""Prometheus's configuration: what is scraped, which rules, where alerts go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.login import credentials
from monitoring.windows import Windows


def configuration(
    windows: Windows,
    targets: Mapping[str, str],
    alertmanager: str,
    rules: str,
    passwords: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Scrape each target (job -> host:port), evaluate the rule files that match `rules`.

    `passwords` are the files of the passwords of those jobs that have a login; alerts go to Alertmanager with that of its job.
    """
    every = f"{windows.scrape_seconds}s"
    files = passwords or {}

    def login(job: str) -> dict[str, Any]:
        return {"basic_auth": credentials(files[job])} if job in files else {}

    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}], **login("alertmanager")}]},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}], **login(job)}
            for job, target in sorted(targets.items())
        ],
    }
