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
IN_SIGHT: Final = 1 / 3
"""Share of the questions that come with the help page that answers them."""
COLUMNS: Final = ("instruction", "context", "response")
QUESTION: Final = "question"
"""The question without its politeness: those that share it are one group of the split. The real file has none, and its instructions do."""


def sample(seed: int) -> bytes:
    """What customers of the made shop asked. No wording about a product comes twice, so that a question of the holdout is new."""
    random = np.random.default_rng(seed)
    every = shop.questions(shop.FURNITURE)
    lines = []
    for place in random.permutation(len(every))[:QUESTIONS]:
        one = every[place]
        line = {
            "instruction": shop.politely(one.asked, random),
            QUESTION: one.asked,
            "context": one.page if random.random() < IN_SIGHT else "",
            "response": one.answer,
            "category": one.topic,
        }
        lines.append(json.dumps(line) + "\n")
    return "".join(lines).encode()


def read(content: bytes) -> pl.DataFrame:
    """`instruction`, `context` (null where there is none), `response` and `question` of each line; raises DataError with its number."""
    rows = []
    for number, line in enumerate(content.decode().splitlines(), start=1):
        try:
            found = json.loads(line)
            cells = [found[name].strip() or None for name in COLUMNS]
            question = found.get(QUESTION)
            rows.append([*cells, question if isinstance(question, str) else cells[0]])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f"Line {number} is not an instruction with its response: {error!r}",
                fix='Give a JSON object a line: {"instruction", "context", "response"}',
            ) from error
    return pl.DataFrame(rows, schema=dict.fromkeys((*COLUMNS, QUESTION), pl.String), orient="row")


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The columns are the schema's already."""
    return raw
