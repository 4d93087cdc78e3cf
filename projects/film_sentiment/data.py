"""Sentences from film reviews in two files, one sentence per line: positive ones and negative ones."""

from __future__ import annotations

from typing import Any, Final

import narwhals as nw
import numpy as np
import polars as pl

from projects.film_sentiment import grammar

SENTENCES: Final = 2000
SARCASTIC: Final = 0.04
"""Share of sentences that mean the opposite of what they say: the label noise, which bounds the reachable accuracy."""


def sample(seed: int) -> tuple[bytes, bytes]:
    """Generate sentences in the layout of the real files: positive ones, then negative ones."""
    random = np.random.default_rng(seed)
    is_positive = np.arange(SENTENCES) % 2 == 0
    literal = is_positive ^ (random.random(SENTENCES) < SARCASTIC)
    texts = np.array(grammar.sentences(literal.tolist(), grammar.CRITIC, random))
    positive, negative = (
        "\n".join(dict.fromkeys(side.tolist())).encode() + b"\n" for side in (texts[is_positive], texts[~is_positive])
    )
    return positive, negative


def read(positive: bytes, negative: bytes) -> pl.DataFrame:
    """Read `review` and `sentiment` of each line of both files."""
    parts = [
        pl.DataFrame(
            {"review": content.decode().splitlines(), "sentiment": [name] * len(content.decode().splitlines())}
        )
        for content, name in ((positive, "positive"), (negative, "negative"))
    ]
    return pl.concat(parts).with_columns(pl.col("review").str.strip_chars())


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Return `raw` unchanged: its columns already match the schema."""
    return raw
