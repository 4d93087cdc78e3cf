"""The exported graph agrees with the network, and the LSTM takes the order of the words into account."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from phaseflow import discovery
from phaseflow.toolkit import graph, texts
from projects.film_sentiment import data, grammar, lstm, model, ratios
from projects.film_sentiment.lstm import Reader, Settings

PROJECT = discovery.get("film_sentiment")
SMALL = Settings(width=8, memory=6, epochs=2, rate=0.05)
ODD = ["", "!!", "One", "the plot IS dull , but don't stop", "näïve ☃ 日本", "word " * 500, "\n\tthe plot\u00a0is dull"]


def frame(values: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"review": values})


def test_the_exported_graph_agrees_with_the_network() -> None:
    torch.manual_seed(3)
    rows = data.read(*data.sample(1)).sample(60, seed=1)["review"].to_list() + ODD
    tokens = texts.words(pl.Series(rows))
    words = (texts.BEGIN, texts.END, *texts.frequent(tokens, 50))
    network = Reader(len(words) + 2, 2, SMALL).eval()
    ids = lstm.encode(tokens, words)
    lengths = torch.tensor([len(row) for row in ids])
    with torch.no_grad():
        expected = network(pad_sequence(ids, batch_first=True), lengths).softmax(dim=1).numpy()
    content = lstm.to_onnx(network, words, PROJECT.schema, "review", model.CLASSES)
    probabilities = graph.run(content, graph.feed(frame(rows), PROJECT.schema))["probabilities"]
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    single = [graph.run(content, graph.feed(frame([text]), PROJECT.schema))["probabilities"][0] for text in ODD]
    np.testing.assert_allclose(np.array(single), probabilities[-len(ODD) :], atol=1e-5)


def test_the_lstm_understands_a_turn_and_a_bag_of_words_does_not() -> None:
    rows = data.read(*data.sample(PROJECT.seed))
    turns = [
        "the plot is dull at first , but the ending is truly moving",
        "the plot is moving at first , but the ending is truly dull",
    ]
    outputs = {
        candidate.name: graph.run(model.train(rows, PROJECT, candidate).onnx, graph.feed(frame(turns), PROJECT.schema))
        for candidate in PROJECT.candidates
    }
    assert outputs["lstm"]["label"].tolist() == ["positive", "negative"]
    bag = outputs["bag_of_words"]["probabilities"]
    np.testing.assert_allclose(bag[0], bag[1], atol=1e-6)  # both sentences contain the same words


def test_pairs_of_words_understand_a_negation_and_beat_the_bag_of_words() -> None:
    rows = data.read(*data.sample(PROJECT.seed)).sample(fraction=1.0, shuffle=True, seed=1)
    train, rest = rows.head(1500), rows.tail(400)
    accuracies, predictions = {}, {}
    for candidate in PROJECT.candidates[:2]:
        content = model.train(train, PROJECT, candidate).onnx
        labels = graph.run(content, graph.feed(rest, PROJECT.schema))["label"]
        accuracies[candidate.name] = (labels == rest["sentiment"].to_numpy()).mean()
        denied = frame(["the cast is not dull at all", "the cast is not moving at all"])
        predictions[candidate.name] = graph.run(content, graph.feed(denied, PROJECT.schema))["label"].tolist()
    assert accuracies["words_and_pairs"] > accuracies["bag_of_words"] + 0.1
    assert predictions["words_and_pairs"] == ["positive", "negative"]


def test_the_ratio_of_a_word_by_hand() -> None:
    presence = np.array([[1, 0], [1, 1], [0, 1]])
    actual = ratios.log_ratios(presence, np.array([True, True, False]))
    np.testing.assert_allclose(actual, np.log([3 / 5, 2 / 5]) - np.log([1 / 3, 2 / 3]))


@pytest.mark.parametrize("words", [grammar.CRITIC, grammar.FAN])
def test_every_sentence_of_the_grammar_is_complete(words: grammar.Lexicon) -> None:
    generated = grammar.sentences([True, False] * 200, words, np.random.default_rng(1))
    assert not any("{" in text or "  " in text for text in generated)
    assert len(set(generated)) > 300


def test_the_real_files_layout_is_read() -> None:
    rows = data.read("a  \nb é\n".encode(), b"c\n")
    assert rows.rows() == [("a", "positive"), ("b é", "positive"), ("c", "negative")]
