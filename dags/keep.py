"""`python -m dags.keep` prints since when rows of Airflow's database are kept, in ISO 8601."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from phaseflow import registry
from phaseflow.contract import Keep, Project
from phaseflow.errors import PhaseflowError


def days(projects: Iterable[Project]) -> int:
    """The longest of their `Keep.airflow_days`; of no project the default."""
    return max((project.keep.airflow_days for project in projects), default=Keep().airflow_days)


def main() -> None:
    """Print it. A declaration that can't be read says nothing: its DAG runs go as the others' do."""
    projects = []
    for name in registry.names():
        try:
            projects.append(registry.get(name))
        except PhaseflowError:
            continue
    print((datetime.now(UTC) - timedelta(days=days(projects))).isoformat(timespec="seconds"))


if __name__ == "__main__":
    main()
