"""Tokenisation of texts and bags of words, by nodes of the graph."""

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
    (tokens,) = texts.words(pl.Series([text], dtype=pl.String))
    assert tokens[0] == texts.BEGIN
    assert tokens[-1] == texts.END
    return tokens[1:-1]


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


def test_a_text_has_the_same_tokens_alone_and_in_a_batch() -> None:
    mixed = ["", "one two three four", "!!", "five"]
    assert texts.words(pl.Series(mixed)) == [texts.words(pl.Series([text]))[0] for text in mixed]


def test_a_long_text_is_cut() -> None:
    (tokens,) = texts.words(pl.Series(["word " * 1000]))
    assert len(tokens) == texts.MAX_WORDS


def rows(topics: tuple[str, ...]) -> pl.DataFrame:
    random = np.random.default_rng(1)
    own = {topic: [f"{topic}{index}" for index in range(6)] for topic in topics}
    common = [f"common{index}" for index in range(30)]
    labels = [topics[index % len(topics)] for index in range(90)]
    notes = [" ".join([*random.choice(own[topic], 2), *random.choice(common, 6)]) for topic in labels]
    return pl.DataFrame({"note": ["", *notes], "topic": [topics[0], *labels]})


@pytest.mark.parametrize("topics", [("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("ngram_size", [1, 2])
def test_a_bag_learns_and_its_graph_matches_scikit_learn(topics: tuple[str, ...], ngram_size: int) -> None:
    train = rows(topics)
    trained = bag.fit(train, SCHEMA, ngram_size=ngram_size)  # raises if they differ
    outputs = graph.run(trained.onnx, graph.feed(train, SCHEMA))
    assert (outputs["label"] == train["topic"].to_numpy()).mean() > 0.95
    assert trained.classes == topics
    assert trained.pictures["words.png"].startswith(b"\x89PNG")
    odd = pl.DataFrame({"note": [None, "", "nothing known"]}, schema={"note": pl.String})
    assert np.isfinite(graph.run(trained.onnx, graph.feed(odd, SCHEMA))["probabilities"]).all()


def test_a_bag_reads_one_text() -> None:
    two = Schema(features=(Column(name="a", kind="text"), Column(name="b", kind="text")), target=SCHEMA.target)
    with pytest.raises(PhaseflowError, match=r"A bag of words reads one text; the schema has 2\. Keep one feature"):
        bag.fit(rows(("a", "b")), two)
