"""What the answers of the tests' AWS share."""

from __future__ import annotations

import json
from typing import Any, Final

from werkzeug.wrappers import Request

ACCOUNT: Final = "123456789012"
REGION: Final = "eu-central-1"

Answer = dict[str, Any]


class NotThereError(Exception):
    """The object does not exist."""


def entry(rows: dict[tuple[str, str], Answer], key: tuple[str, str], *, remove: bool = False) -> Answer:
    """Return the row of a key, and remove it if asked; raise NotThereError if there is none."""
    if key not in rows:
        raise NotThereError(f"No {key[1]} in {key[0]}")
    return rows.pop(key) if remove else rows[key]


def request_body(request: Request) -> Answer:
    """Return the JSON of a request."""
    content: Answer = json.loads(request.get_data() or b"{}")
    return content
