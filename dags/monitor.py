"""Has the monitor report on the latest window."""

from __future__ import annotations

from typing import Any

import httpx
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from phaseflow.settings import from_environment


class ReportOperator(BaseOperator):
    """`POST /projects/<project>/report` of the monitor; its answer is the result. Skips where the window is empty."""

    def __init__(self, *, project: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project

    def execute(self, context: Context) -> Any:  # noqa: ARG002  # Airflow's signature
        """Ask for the report."""
        settings = from_environment()
        answer = httpx.post(
            f"{settings.monitor_url}/projects/{self.project}/report",
            headers={"Authorization": f"Bearer {settings.secret('hook_token')}"},
            timeout=240,
            trust_env=False,
        )
        if answer.is_error:
            raise AirflowException(f"The monitor answers {answer.status_code}: {answer.text[:500]}")
        report = answer.json()
        self.log.info("%s", report)
        if not report["rows"]:
            raise AirflowSkipException(report.get("reason") or "The window holds no rows: there is nothing to judge.")
        return report
