"""The part of Kubeflow Pipelines' REST API (v2beta1) that the local engine shares: path, states of a run, token.

https://www.kubeflow.org/docs/components/pipelines/reference/api/kubeflow-pipeline-api-spec/
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

import httpx

from phaseflow.clients import rest
from phaseflow.clients.rest import Call
from phaseflow.settings import Settings

API: Final = "/apis/v2beta1"
PENDING: Final = "PENDING"
RUNNING: Final = "RUNNING"
SUCCEEDED: Final = "SUCCEEDED"
FAILED: Final = "FAILED"
CANCELED: Final = "CANCELED"
SKIPPED: Final = "SKIPPED"
ENDED: Final = frozenset({SUCCEEDED, FAILED, CANCELED, SKIPPED})
"""States of runs that have ended."""
LIVE: Final = frozenset({PENDING, RUNNING})
TOKEN: Final = "engine_token"  # noqa: S105  # the secret's name; a KFP server needs none
PAGE: Final = 100
Record = dict[str, Any]


class Token(httpx.Auth):
    """Sends the engine's token, if there is one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header."""
        request.headers.update(self._settings.bearer(TOKEN))
        yield request


def server(settings: Settings) -> rest.Server:
    """The API of a KFP server or of the local engine."""
    return rest.Server(
        name="The pipeline engine",
        url=settings.pipelines_url,
        setting="PHASEFLOW_PIPELINES_URL",
        auth=Token(settings),
        secret=TOKEN,
        keep_alive=False,
    )


def runs(page_token: str = "") -> Call[Record]:
    """Get a page of the runs, newest first: `runs` (absent if there are none), `next_page_token`."""
    query = {"page_size": PAGE, "sort_by": "created_at desc", "page_token": page_token}
    return Call(path=f"{API}/runs", params=query, read=dict)


def all_runs(client: rest.Client) -> Iterator[Record]:
    """Yield every run, newest first, page by page."""
    token = ""
    while True:
        page = client.send(runs(token))
        yield from page.get("runs") or ()
        token = page.get("next_page_token") or ""
        if not token:
            return


def delete(run_id: str) -> Call[None]:
    """Remove a run. It is no error if the run does not exist."""
    return Call(method="DELETE", path=f"{API}/runs/{run_id}", read=lambda _: None, results={404: None})
