"""A bag of words: logistic regression on the words that a text contains, in any order."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl
from onnx import NodeProto, TensorProto, helper
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression

from phaseflow.contract import Column, Schema
from phaseflow.errors import PhaseflowError
from phaseflow.toolkit import graph, pictures, texts
from phaseflow.toolkit.model import Trained

MAX_WORDS: Final = 20_000
GAP: Final = 1e-4
"""Maximum accepted difference between a probability of the ONNX model and scikit-learn's."""
TOP_WORDS: Final = 12
"""Words per class in the plot."""


def text_column(schema: Schema) -> Column:
    """The only text feature; raises PhaseflowError unless there is exactly one."""
    columns = [column for column in schema.features if column.kind == "text"]
    if len(columns) != 1:
        raise PhaseflowError(
            f"A bag of words reads one text; the schema has {len(columns)}", fix="Keep one feature of the kind text"
        )
    return columns[0]


def fit(
    rows: pl.DataFrame,
    schema: Schema,
    *,
    C: float = 1.0,  # noqa: N803  # scikit-learn's name
    ngram_size: int = 1,
    min_df: int = 2,
    seed: int = 0,
) -> Trained:
    """Fit on rows [N] with the schema's target, convert to ONNX, and compare both models on the same rows.

    `C` is scikit-learn's C, `ngram_size` the maximum n-gram length (2: single words and pairs), and `min_df` the
    minimum number of texts that contain a word. Rare words weigh more: tf-idf with rows of length 1 (Spärck Jones
    1972). Raises PhaseflowError if the probabilities of both models differ by more than `GAP`.
    """
    assert schema.target is not None  # noqa: S101  # every supervised schema has one; the contract's suite holds it
    column = text_column(schema)
    labels = rows[schema.target.name].cast(pl.String).to_numpy().astype(str)
    counts, words, idf = counted(rows[column.name], ngram_size=ngram_size, min_df=min_df)
    model = LogisticRegression(C=C, max_iter=1000, random_state=seed).fit(counts, labels)
    content = to_onnx(schema, column.name, words, idf, model)
    gap = float(
        np.abs(graph.run(content, graph.feed(rows, schema))["probabilities"] - model.predict_proba(counts)).max()
    )
    graph.check_parity(gap, GAP, "probability", fix="Lower `C`")
    return Trained(
        onnx=content,
        classes=tuple(map(str, model.classes_)),
        pictures={"words.png": strongest([" ".join(parts) for parts in words], model)},
        notes={"words": f"{len(words):,}", "largest difference to scikit-learn": f"{gap:.1e}"},
    )


def counted(
    values: pl.Series, *, ngram_size: int = 1, min_df: int = 2, max_features: int = MAX_WORDS
) -> tuple[Any, list[list[str]], Any]:
    """Texts [N] as tf-idf rows of length 1 [N, words] (sparse), the n-grams, and their idf; like `counting`."""
    counter = CountVectorizer(
        analyzer=lambda tokens: parts(tokens, ngram_size), max_features=max_features, min_df=min(min_df, len(values))
    )
    weights = TfidfTransformer()
    counts = weights.fit_transform(counter.fit_transform(texts.words(values)))
    return counts, [part.split(" ") for part in counter.get_feature_names_out()], weights.idf_


def parts(tokens: list[str], ngram_size: int) -> list[str]:
    """The n-grams of a tokenised text, shortest first, up to `ngram_size` words, without `BEGIN` and `END`."""
    inner = tokens[1:-1] if len(tokens) < texts.MAX_WORDS else tokens[1:]
    return [
        " ".join(inner[start : start + size])
        for size in range(1, ngram_size + 1)
        for start in range(len(inner) - size + 1)
    ]


def counting(column: str, words: list[list[str]], idf: Any) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants from the input `column` to `bag`: tf-idf of length 1, float32 [N, words].

    `words` are n-grams, in the order of `idf`.
    """
    nodes, constants = texts.reading(column)
    tfidf = vectorizer(words, idf, "weighed", mode="TFIDF")
    return [*nodes, tfidf, helper.make_node("LpNormalization", ["weighed"], ["bag"], axis=1, p=2)], constants


def vectorizer(words: list[list[str]], weights: Any, out: str, *, mode: str) -> NodeProto:
    """A node from `words` to `out` (float32 [N, words]).

    Mode "TFIDF" multiplies the count of an n-gram by its weight; "IDF" gives the weight if the text contains the
    n-gram, else 0. `words` are n-grams, in the order of `weights`.
    """
    max_size = max(map(len, words))
    pools = [[index for index, ngram in enumerate(words) if len(ngram) == size] for size in range(1, max_size + 1)]
    starts = np.cumsum([0] + [size * len(pool) for size, pool in enumerate(pools, start=1)])[:-1]
    order = [index for pool in pools for index in pool]
    return helper.make_node(
        "TfIdfVectorizer",
        ["words"],
        [out],
        mode=mode,
        min_gram_length=1,
        max_gram_length=max_size,
        max_skip_count=0,
        pool_strings=[word for index in order for word in words[index]],
        ngram_counts=starts.tolist(),
        ngram_indexes=order,
        weights=[float(weights[index]) for index in order],
    )


def to_onnx(schema: Schema, column: str, words: list[list[str]], idf: Any, model: LogisticRegression) -> bytes:
    """The fitted model as a graph: words, counts, tf-idf of length 1, scores."""
    nodes, constants = counting(column, words, idf)
    scoring, weights = graph.dense([graph.expand_binary(model.coef_.T, model.intercept_)], "bag", "scores")
    classes = [str(name) for name in model.classes_]
    return graph.classifier(schema, [*nodes, *scoring], [*constants, *weights], "scores", classes)


def strongest(words: Any, model: LogisticRegression) -> bytes:
    """A plot (PNG) of the words with the largest coefficients for each class, at most six classes."""
    binary = len(model.classes_) == 2
    sides = (
        [(name, (model.coef_[0] * sign)) for name, sign in zip(model.classes_, (-1, 1), strict=True)] if binary else []
    )
    sides = sides or list(zip(model.classes_, model.coef_, strict=True))
    sides = sides[:6]
    figure, panels = pictures.grid(1, len(sides), (3.2 * len(sides), 3.4))
    for panel, (name, values) in zip(panels, sides, strict=True):
        top = np.argsort(values)[-TOP_WORDS:]
        panel.axis("on")
        panel.barh([str(words[index]) for index in top], values[top], color=pictures.BLUE)
        panel.set_title(str(name), fontsize=10)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    return pictures.png(figure)
