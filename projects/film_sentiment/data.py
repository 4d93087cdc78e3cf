"""Two files, a sentence a line: the friendly ones and the others."""

from __future__ import annotations

from typing import Any, Final

import narwhals as nw
import numpy as np
import polars as pl

from projects.film_sentiment import grammar

SENTENCES: Final = 2000
SARCASTIC: Final = 0.04
"""Share of sentences that mean the opposite of what they say, and of a reader's best figure that nobody reaches."""


def sample(seed: int) -> tuple[bytes, bytes]:
    """Made sentences in the layout of the real files: the friendly ones, then the others."""
    random = np.random.default_rng(seed)
    friendly = np.arange(SENTENCES) % 2 == 0
    said = friendly ^ (random.random(SENTENCES) < SARCASTIC)
    made = np.array(grammar.sentences(said.tolist(), grammar.CRITIC, random))
    positive, negative = (
        "\n".join(dict.fromkeys(side.tolist())).encode() + b"\n" for side in (made[friendly], made[~friendly])
    )
    return positive, negative


def read(positive: bytes, negative: bytes) -> pl.DataFrame:
    """`review` and `sentiment` of each line of both files."""
    parts = [
        pl.DataFrame(
            {"review": content.decode().splitlines(), "sentiment": [name] * len(content.decode().splitlines())}
        )
        for content, name in ((positive, "positive"), (negative, "negative"))
    ]
    return pl.concat(parts).with_columns(pl.col("review").str.strip_chars())


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """The columns are the schema's already."""
    return raw
