"""Tokenisation of texts by nodes of the served graph, so that training and serving split texts identically."""

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
"""A word after lower-casing (RE2 syntax): "don't" is one word, "well-made" is two, punctuation is none."""
BEGIN, END, PAD = "\x02", "\x03", ""
"""The tokens before and after the words of a text, and the padding of shorter texts, as the node `Tokenizer` writes
them."""
MAX_WORDS: Final = 200
"""Maximum tokens per text; longer texts are cut."""


def reading(column: str, out: str = "words") -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants from the input `column` (texts [N, 1]) to `out`: the tokens, text [N, tokens of the longest
    text].

    Each row is `BEGIN`, the words, `END`, then `PAD`; at most `MAX_WORDS` tokens.
    """
    nodes = [
        helper.make_node("Reshape", [column, "flat"], [f"{out}_own"]),
        # `Tokenizer` omits the marks if all texts are empty, so add a text that is not; the slice below removes it.
        helper.make_node("Concat", [f"{out}_own", "some_text"], [f"{out}_flat"], axis=0),
        # The locale "C" exists on every machine; the default locale may not, and then the graph would not load.
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
        graph.constant("slice_to", np.array([-1, MAX_WORDS], np.int64)),
    ]
    return nodes, constants


@functools.cache
def _reader() -> onnxruntime.InferenceSession:
    nodes, constants = reading("text")
    schema = Schema(features=(Column(name="text", kind="text"),))
    out = helper.make_tensor_value_info("words", TensorProto.STRING, [None, None])
    return graph.session(graph.build_model(schema, nodes, constants, [out]))


def words(texts: pl.Series) -> list[list[str]]:
    """The tokens of texts [N] with `BEGIN` and `END`, as the served graph computes them; no words if missing."""
    if texts.is_empty():
        return []
    feeds = {"text": np.array(texts.fill_null("").to_list(), dtype=object).reshape(-1, 1)}
    tokens = graph.run(_reader(), feeds)["words"]
    return [[word for word in row if word != PAD] for row in tokens.tolist()]


def frequent(tokens: Sequence[Sequence[str]], max_features: int, min_df: int = 2) -> tuple[str, ...]:
    """The `max_features` words with the highest document frequency in tokenised texts [N], at least `min_df`."""
    counts = Counter(word for row in tokens for word in set(row))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(word for word, count in ordered[:max_features] if count >= min_df and word not in {BEGIN, END})
