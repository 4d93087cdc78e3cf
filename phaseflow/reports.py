"""Names of Evidently's reports: their keys in the store, and their addresses in Evidently's pages."""

from __future__ import annotations

import uuid
from typing import Final

from phaseflow.settings import Settings

NAMESPACE: Final = uuid.UUID("6f1d5b0e-3c52-5e5c-9d0b-5a8f3f6c9a11")
"""Namespace of all ids in Evidently's workspace (RFC 9562, version 5): the same name has the same id everywhere."""


def project_id(project: str) -> uuid.UUID:
    """The id of a project in Evidently."""
    return uuid.uuid5(NAMESPACE, project)


def run_id(project: str, window: str, run: str) -> uuid.UUID:
    """The id in Evidently of the run `drift`, `summary` or `quality` of a window."""
    return uuid.uuid5(NAMESPACE, f"{project}/{window}/{run}")


def run_key(project: str, window: str, run: str) -> str:
    """The key of a run in the store: JSON of an Evidently workspace, compressed with gzip."""
    return f"reports/{project}/{window}/{run}.run.json.gz"


def page_key(project: str, window: str, page: str) -> str:
    """The key of a page in the store: HTML, compressed with gzip because Evidently embeds 4 MB of scripts in each."""
    return f"reports/{project}/{window}/{page}.html.gz"


def project_page(settings: Settings, project: str) -> str:
    """The address of a project's dashboard in Evidently. Empty if the address of Evidently is not known."""
    address = settings.page("evidently")
    return f"{address}/projects/{project_id(project)}" if address else ""


def run_page(settings: Settings, project: str, window: str, run: str) -> str:
    """The address of a run in Evidently. Empty if the address of Evidently is not known."""
    address = project_page(settings, project)
    return f"{address}/reports/{run_id(project, window, run)}" if address else ""
