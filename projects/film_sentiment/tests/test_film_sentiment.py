"""What the two readers are held to: the graph says what the network said, and order is read."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from phaseflow import registry
from phaseflow.toolkit import graph, texts
from projects.film_sentiment import data, grammar, lstm, model
from projects.film_sentiment.lstm import Reader, Settings

PROJECT = registry.get("film_sentiment")
SMALL = Settings(width=8, memory=6, epochs=2, rate=0.05)
ODD = ["", "!!", "One", "the plot IS dull , but don't stop", "näïve ☃ 日本", "word " * 500, "\n\tthe plot\u00a0is dull"]


def frame(values: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"review": values})


def test_the_graph_says_what_the_network_says() -> None:
    torch.manual_seed(3)
    rows = data.read(*data.sample(1)).sample(60, seed=1)["review"].to_list() + ODD
    read = texts.words(pl.Series(rows))
    words = (texts.BEGIN, texts.END, *texts.frequent(read, 50))
    network = Reader(len(words) + 2, 2, SMALL).eval()
    ids = lstm.numbered(read, words)
    lengths = torch.tensor([len(row) for row in ids])
    with torch.no_grad():
        expected = network(pad_sequence(ids, batch_first=True), lengths).softmax(dim=1).numpy()
    content = lstm.to_onnx(network, words, PROJECT.schema, "review", model.CLASSES)
    said = graph.run(content, graph.feed(frame(rows), PROJECT.schema))["probabilities"]
    np.testing.assert_allclose(said, expected, atol=1e-5)
    alone = [graph.run(content, graph.feed(frame([text]), PROJECT.schema))["probabilities"][0] for text in ODD]
    np.testing.assert_allclose(np.array(alone), said[-len(ODD) :], atol=1e-5)


def test_a_network_that_reads_in_order_understands_a_turn_and_a_bag_can_not() -> None:
    rows = data.read(*data.sample(PROJECT.seed))
    turns = [
        "the plot is dull at first , but the ending is truly moving",
        "the plot is moving at first , but the ending is truly dull",
    ]
    said = {
        candidate.name: graph.run(model.train(rows, PROJECT, candidate).onnx, graph.feed(frame(turns), PROJECT.schema))
        for candidate in PROJECT.candidates
    }
    assert said["lstm"]["label"].tolist() == ["positive", "negative"]
    bag = said["bag_of_words"]["probabilities"]
    np.testing.assert_allclose(bag[0], bag[1], atol=1e-6)  # the same words


@pytest.mark.parametrize("words", [grammar.CRITIC, grammar.FAN])
def test_every_sentence_of_the_grammar_is_whole(words: grammar.Lexicon) -> None:
    made = grammar.sentences([True, False] * 200, words, np.random.default_rng(1))
    assert not any("{" in text or "  " in text for text in made)
    assert len(set(made)) > 300


def test_the_real_files_layout_is_read() -> None:
    rows = data.read("a  \nb é\n".encode(), b"c\n")
    assert rows.rows() == [("a", "positive"), ("b é", "positive"), ("c", "negative")]
