"""Instructions and what somebody answered, a JSON object a line: databricks-dolly-15k, and a made file of the same layout."""

from __future__ import annotations

import json
from typing import Any, Final

import narwhals as nw
import numpy as np
import polars as pl

from phaseflow.errors import DataError
from projects.assistant import shop

QUESTIONS: Final = 1000
COLUMNS: Final = ("instruction", "context", "response")


def sample(seed: int) -> bytes:
    """What customers of the made shop asked, each question once."""
    random = np.random.default_rng(seed)
    asked: dict[str, str] = {}
    while len(asked) < QUESTIONS:
        instruction, response, topic = shop.question(shop.FURNITURE, random)
        line = {"instruction": instruction, "context": "", "response": response, "category": topic}
        asked[instruction] = json.dumps(line)
    return ("\n".join(asked.values()) + "\n").encode()


def read(content: bytes) -> pl.DataFrame:
    """`instruction`, `context` (null where there is none) and `response` of each line; raises DataError with the line's number."""
    rows = []
    for number, line in enumerate(content.decode().splitlines(), start=1):
        try:
            found = json.loads(line)
            rows.append([found[name].strip() or None for name in COLUMNS])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f"Line {number} is not an instruction with its response: {error!r}",
                fix='Give a JSON object a line: {"instruction", "context", "response"}',
            ) from error
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The columns are the schema's already."""
    return raw
