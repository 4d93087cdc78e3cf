"""Remove old runs from the pipeline engine, by the REST calls that KFP and the local engine share.

With a run the local engine removes all that its steps wrote. A KFP server removes its record of the run and leaves the artifacts in the
object store: a lifecycle rule of the bucket removes those, as docs/retention.md says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import httpx

from phaseflow import retention
from phaseflow.contract import Project
from phaseflow.errors import PermanentError, PlatformError
from phaseflow.settings import Settings

API: Final = "/apis/v2beta1"
PAGE: Final = 100
ENDED: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})


def clean(settings: Settings, project: Project, now: datetime, *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Remove the project's runs that were made before `Keep.pipeline_days`; gives the summary.

    Raises PlatformError where the engine can't be reached, PermanentError where it refuses.
    """
    # A connection that is kept may be closed by the engine in the moment of the next request.
    fresh = httpx.Limits(max_keepalive_connections=0)
    url = f"{settings.pipelines_url}{API}"
    try:
        with httpx.Client(
            base_url=url, timeout=30, limits=fresh, headers=settings.bearer("engine_token"), trust_env=False
        ) as client:
            planned = list(items(client, project, now))
            for item in planned:
                if item.remove and not dry_run:
                    for key in item.keys:
                        _answer(client.delete(f"/runs/{key}"), gone=True)
    except httpx.HTTPError as error:
        raise PlatformError(
            f"The pipeline engine at {settings.pipelines_url} can't be reached: {error}",
            fix="Start it by `phaseflow up`",
        ) from error
    return retention.summary(planned)


def items(client: httpx.Client, project: Project, now: datetime) -> Iterator[retention.Item]:
    """The project's runs: they are called `<project> <run>`."""
    days = project.keep.pipeline_days
    edge = now - timedelta(days=days)
    for run in _runs(client):
        if str(run.get("display_name", "")).partition(" ")[0] != project.name:
            continue
        old = datetime.fromisoformat(run["created_at"]) < edge
        ended = run.get("state") in ENDED
        why = f"older than {days} days" if old and ended else "it has not ended" if old else f"within {days} days"
        remove = old and ended
        name = run["display_name"]
        keys = (run["run_id"],) if remove else ()
        yield retention.Item(kind="pipeline runs", name=name, keys=keys, remove=remove, why=why)


def _runs(client: httpx.Client) -> Iterator[dict[str, Any]]:
    token = ""
    while True:
        page = _answer(client.get("/runs", params={"page_size": PAGE, "page_token": token}))
        yield from page.get("runs", [])
        token = page.get("next_page_token", "")
        if not token:
            return


def _answer(response: httpx.Response, *, gone: bool = False) -> dict[str, Any]:
    """The JSON of an answer; `gone` says that what is not there is no error."""
    if gone and response.status_code == 404:
        return {}
    if response.status_code == 401:
        raise PermanentError(
            f"The pipeline engine at {response.url.host} refuses the token",
            fix="Give both the same secret engine_token",
        )
    if response.is_error:
        raise PlatformError(
            f"The pipeline engine answers {response.status_code}: {response.text[:200]}", fix="Read the engine's log"
        )
    content: dict[str, Any] = json.loads(response.content or b"{}")
    return content
