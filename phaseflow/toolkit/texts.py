"""Words of a text, read by nodes of the served graph itself, so that training and serving can't disagree about what a word is."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnxruntime
import polars as pl
from onnx import NodeProto, TensorProto, helper

from phaseflow.contract import Column, Schema
from phaseflow.toolkit import graph

WORD: Final = "[a-z0-9]+(?:'[a-z]+)*"
"""A word, after letters became small ones (RE2's syntax): "don't" is one, "well-made" are two, punctuation is none."""
BEGIN, END, PAD = "\x02", "\x03", ""
"""Stand before and after the words of a text, and fill the shorter ones of several: what the node `Tokenizer` writes."""
MOST_WORDS: Final = 200
"""Words of a text that are read; a longer one is cut."""


def reading(column: str, out: str = "words") -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants from the input `column` (texts [N, 1]) to `out`: its words, text [N, words of the longest].

    Each row is `BEGIN`, its words, `END`, then `PAD`; at most `MOST_WORDS` places.
    """
    nodes = [
        helper.make_node("Reshape", [column, "flat"], [f"{out}_own"]),
        # `Tokenizer` writes no marks where every text is empty, so that it gets one that is not.
        helper.make_node("Concat", [f"{out}_own", "some_text"], [f"{out}_flat"], axis=0),
        # The locale "C" is on every machine; the default one is not, and the graph would not load without it.
        helper.make_node("StringNormalizer", [f"{out}_flat"], [f"{out}_low"], case_change_action="LOWER", locale="C"),
        helper.make_node(
            "Tokenizer",
            [f"{out}_low"],
            [f"{out}_all"],
            domain="com.microsoft",
            mark=1,
            mincharnum=1,
            pad_value=PAD,
            tokenexp=WORD,
        ),
        helper.make_node("Slice", [f"{out}_all", "slice_from", "slice_to"], [out]),
    ]
    constants = [
        graph.constant("flat", np.array([-1], np.int64)),
        graph.constant("some_text", np.array(["a"], dtype=object)),
        graph.constant("slice_from", np.array([0, 0], np.int64)),
        graph.constant("slice_to", np.array([-1, MOST_WORDS], np.int64)),
    ]
    return nodes, constants


@functools.cache
def _reader() -> onnxruntime.InferenceSession:
    nodes, constants = reading("text")
    schema = Schema(features=(Column(name="text", kind="text"),))
    out = helper.make_tensor_value_info("words", TensorProto.STRING, [None, None])
    return graph.session(graph.built(schema, nodes, constants, [out]))


def words(texts: pl.Series) -> list[list[str]]:
    """The words of each of texts [N], `BEGIN` and `END` around them, as the served graph reads them; a missing text has none."""
    if texts.is_empty():
        return []
    feeds = {"text": np.array(texts.fill_null("").to_list(), dtype=object).reshape(-1, 1)}
    read = graph.run(_reader(), feeds)["words"]
    return [[word for word in row if word != PAD] for row in read.tolist()]


def frequent(read: Sequence[Sequence[str]], most: int, least_times: int = 2) -> tuple[str, ...]:
    """The `most` frequent words of read texts [N] that stand in `least_times` of them or more, the most frequent first."""
    counts = Counter(word for row in read for word in set(row))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(word for word, times in ordered[:most] if times >= least_times and word not in {BEGIN, END})
