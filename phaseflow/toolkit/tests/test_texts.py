"""Words of texts, and a bag of them, by the graph's own nodes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from phaseflow.contract import Column, Schema
from phaseflow.errors import PhaseflowError
from phaseflow.toolkit import bag, graph, texts

SCHEMA = Schema(
    features=(Column(name="note", kind="text", nullable=True),), target=Column(name="topic", kind="category")
)


def inner(text: str | None) -> list[str]:
    (found,) = texts.words(pl.Series([text], dtype=pl.String))
    assert found[0] == texts.BEGIN
    assert found[-1] == texts.END
    return found[1:-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The film, well-made, isn't BAD!", ["the", "film", "well", "made", "isn't", "bad"]),
        ("", []),
        (None, []),
        ("... !?", []),
        ("7 of 10", ["7", "of", "10"]),
        ("naïve 日本", ["na", "ve"]),
    ],
)
def test_words_of_a_text(text: str | None, expected: list[str]) -> None:
    assert inner(text) == expected


def test_a_text_is_read_alike_alone_and_among_others() -> None:
    mixed = ["", "one two three four", "!!", "five"]
    assert texts.words(pl.Series(mixed)) == [texts.words(pl.Series([one]))[0] for one in mixed]


def test_a_long_text_is_cut() -> None:
    (found,) = texts.words(pl.Series(["word " * 1000]))
    assert len(found) == texts.MOST_WORDS


def rows(topics: tuple[str, ...]) -> pl.DataFrame:
    random = np.random.default_rng(1)
    own = {topic: [f"{topic}{place}" for place in range(6)] for topic in topics}
    common = [f"common{place}" for place in range(30)]
    truth = [topics[place % len(topics)] for place in range(90)]
    made = [" ".join([*random.choice(own[topic], 2), *random.choice(common, 6)]) for topic in truth]
    return pl.DataFrame({"note": ["", *made], "topic": [topics[0], *truth]})


@pytest.mark.parametrize("topics", [("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("together", [1, 2])
def test_a_bag_learns_and_its_graph_says_what_scikit_learn_says(topics: tuple[str, ...], together: int) -> None:
    known = rows(topics)
    trained = bag.fit(known, SCHEMA, together=together)  # raises where they differ
    said = graph.run(trained.onnx, graph.feed(known, SCHEMA))
    assert (said["label"] == known["topic"].to_numpy()).mean() > 0.95
    assert trained.classes == topics
    assert trained.pictures["words.png"].startswith(b"\x89PNG")
    odd = pl.DataFrame({"note": [None, "", "nothing known"]}, schema={"note": pl.String})
    assert np.isfinite(graph.run(trained.onnx, graph.feed(odd, SCHEMA))["probabilities"]).all()


def test_a_bag_reads_one_text() -> None:
    two = Schema(features=(Column(name="a", kind="text"), Column(name="b", kind="text")), target=SCHEMA.target)
    with pytest.raises(PhaseflowError, match=r"A bag of words reads one text; the schema has 2\. Keep one feature"):
        bag.fit(rows(("a", "b")), two)
