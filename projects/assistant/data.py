"""Instructions and responses, one JSON object per line: databricks-dolly-15k, or a synthetic sample."""

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
"""Share of the questions that come with the help page that answers them (`context`)."""
COLUMNS: Final = ("instruction", "context", "response")
QUESTION: Final = "question"
"""Column of the question without its polite phrases. Rows that share it form one group of the split.

The public file has no such column: there the instruction itself is the group.
"""


def sample(seed: int) -> bytes:
    """Generate questions. Each wording about a product occurs once, so that every holdout question is new."""
    random = np.random.default_rng(seed)
    questions = shop.questions(shop.FURNITURE)
    lines = []
    for index in random.permutation(len(questions))[:QUESTIONS]:
        question = questions[index]
        record = {
            "instruction": shop.politely(question.text, random),
            QUESTION: question.text,
            "context": question.page if random.random() < IN_SIGHT else "",
            "response": question.answer,
            "category": question.topic,
        }
        lines.append(json.dumps(record) + "\n")
    return "".join(lines).encode()


def read(content: bytes) -> pl.DataFrame:
    """Read `instruction`, `context` (null if empty), `response` and `question` of each line.

    Raises DataError with the line number if a line is malformed.
    """
    rows = []
    for number, line in enumerate(content.decode().splitlines(), start=1):
        try:
            record = json.loads(line)
            cells = [record[name].strip() or None for name in COLUMNS]
            question = record.get(QUESTION)
            rows.append([*cells, question if isinstance(question, str) else cells[0]])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f"Line {number} is not an instruction with its response: {error!r}",
                fix='Write one JSON object per line: {"instruction", "context", "response"}',
            ) from error
    return pl.DataFrame(rows, schema=dict.fromkeys((*COLUMNS, QUESTION), pl.String), orient="row")


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Return `raw` unchanged: its columns already match the schema."""
    return raw
