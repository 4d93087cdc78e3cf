"""`python -m dags.keep` prints the time before which rows of Airflow's database may be removed, in ISO 8601."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from phaseflow import discovery
from phaseflow.contract import Keep, Project


def days(projects: Iterable[Project]) -> int:
    """The maximum of the projects' `Keep.airflow_days`; without projects, the default."""
    return max((project.keep.airflow_days for project in projects), default=Keep().airflow_days)


def main() -> None:
    """Print the time. Declarations that can't be read are ignored: their DAG runs are removed with the others."""
    projects, _ = discovery.readable()
    print((datetime.now(UTC) - timedelta(days=days(projects))).isoformat(timespec="seconds"))


if __name__ == "__main__":
    main()
