"""Asks the monitor for a report on the latest window."""

from __future__ import annotations

from typing import Any

import httpx
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from phaseflow.settings import from_environment


class ReportOperator(BaseOperator):
    """Calls `POST /projects/<project>/report` of the monitor and returns its response. Skips if the window is empty."""

    def __init__(self, *, project: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project

    def execute(self, context: Context) -> Any:  # noqa: ARG002  # Airflow's signature
        """Request the report."""
        settings = from_environment()
        response = httpx.post(
            f"{settings.monitor_url}/projects/{self.project}/report",
            headers={"Authorization": f"Bearer {settings.secret('hook_token')}"},
            timeout=240,
            trust_env=False,
        )
        if response.is_error:
            raise AirflowException(f"The monitor responded {response.status_code}: {response.text[:500]}")
        report = response.json()
        self.log.info("%s", report)
        if not report["rows"]:
            raise AirflowSkipException(
                report.get("reason") or "The window contains no rows, so there is nothing to report."
            )
        return report
