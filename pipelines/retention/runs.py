"""Remove old runs from the pipeline engine with the REST calls that KFP and the local engine share.

The local engine removes a run with all files of its steps. A KFP server removes only its record of the run and leaves
the artifacts in the object store. A lifecycle rule of the bucket removes those; see docs/retention.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from phaseflow import retention
from phaseflow.clients import kfp, rest
from phaseflow.contract import Project
from phaseflow.settings import Settings


def clean(settings: Settings, project: Project, now: datetime, *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Remove the project's runs that are older than `Keep.pipeline_days` and return the summary.

    Raises PlatformError if the engine can't be reached, and PermanentError if it refuses the token.
    """
    with rest.Client(kfp.server(settings)) as client:
        planned = list(items(client, project, now))
        for item in planned:
            if item.remove and not dry_run:
                for key in item.keys:
                    client.send(kfp.delete(key))
    return retention.summary(planned)


def items(client: rest.Client, project: Project, now: datetime) -> Iterator[retention.Item]:
    """Yield the project's runs, whose names are `<project> <run>`."""
    days = project.keep.pipeline_days
    edge = now - timedelta(days=days)
    for run in kfp.all_runs(client):
        if str(run.get("display_name", "")).partition(" ")[0] != project.name:
            continue
        old = datetime.fromisoformat(run["created_at"]) < edge
        ended = run.get("state") in kfp.ENDED
        why = f"older than {days} days" if old and ended else "it has not ended" if old else f"within {days} days"
        remove = old and ended
        name = run["display_name"]
        keys = (run["run_id"],) if remove else ()
        yield retention.Item(kind="pipeline runs", name=name, keys=keys, remove=remove, why=why)
