"""The event log: CloudEvents 1.0 (https://cloudevents.io) in JSON, one object per event."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from phaseflow.contract import Project
from phaseflow.store import Store

TYPES: Final = frozenset({"snapshot", "run", "verdict", "promotion", "rollback", "alert", "retraining", "swap"})


def record(store: Store, project: Project | str, type_: str, data: Mapping[str, Any], *, source: str) -> str:
    """Write one event and return its key, `events/<project>/<time>-<type>-<id>.json`.

    `source` is the component that writes the event. Raises ValueError for an unknown type.
    """
    if type_ not in TYPES:
        raise ValueError(f"event type {type_!r}; allowed: {', '.join(sorted(TYPES))}")
    name = project if isinstance(project, str) else project.name
    now = datetime.now(UTC)
    identity = uuid.uuid4().hex
    event = {
        "specversion": "1.0",
        "id": identity,
        "type": f"dev.phaseflow.{type_}",
        "source": f"phaseflow/{source}",
        "subject": name,
        "time": now.isoformat(),
        "datacontenttype": "application/json",
        "data": dict(data),
    }
    key = f"events/{name}/{now:%Y%m%dT%H%M%S.%fZ}-{type_}-{identity[:8]}.json"
    store.write(key, json.dumps(event, separators=(",", ":"), default=str).encode())
    return key


def read(store: Store, project: str) -> list[dict[str, Any]]:
    """Read all events of `project`, oldest first."""
    return [json.loads(store.read(key)) for key in store.keys(f"events/{project}")]
