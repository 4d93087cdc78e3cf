"""The name of a DAG run in the other parts of the platform."""

from __future__ import annotations

import re


def run_key(run_id: str) -> str:
    """The *run* of ARCHITECTURE.md: Airflow's run id with everything but letters, digits, `.`, `_`, `-` replaced by `-`."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", run_id)
