"""The drift that `phaseflow traffic --drift` simulates: the shop now sells and rents bicycles."""

from __future__ import annotations

import numpy as np
import polars as pl

from projects.assistant import shop


def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Replace rows [N] by N questions about new products and topics, with their responses.

    The questions do not derive from `rows`. The column `question` groups different wordings of the same question.
    """
    questions = shop.questions(shop.CYCLES)
    sample = [questions[index] for index in random.integers(0, len(questions), rows.height)]
    return rows.with_columns(
        instruction=pl.Series([shop.politely(question.text, random) for question in sample], dtype=pl.String),
        context=pl.lit(None, pl.String),
        response=pl.Series([question.answer for question in sample], dtype=pl.String),
        question=pl.Series([question.text for question in sample], dtype=pl.String),
    )
