"""Prometheus's configuration: its targets, its rules, and the Alertmanager that receives its alerts."""

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
    """Scrape each target (job -> host:port), and evaluate the rule files that match `rules`.

    `passwords` are the password files of the jobs that have a login; the one of `alertmanager` is also used to send alerts.
    """
    interval = f"{windows.scrape_seconds}s"
    files = passwords or {}

    def login(job: str) -> dict[str, Any]:
        return {"basic_auth": credentials(files[job])} if job in files else {}

    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}], **login("alertmanager")}]},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}], **login(job)}
            for job, target in sorted(targets.items())
        ],
    }
