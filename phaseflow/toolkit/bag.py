"""A bag of words: which words a text holds, whatever their order, weighed against each other by logistic regression."""

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

MOST_WORDS: Final = 20_000
GAP: Final = 1e-4
"""Largest difference of a probability to scikit-learn's that conversion accepts."""
SHOWN: Final = 12
"""Words a class in the picture."""


def text_column(schema: Schema) -> Column:
    """The one text among the features; raises PhaseflowError where there is none, or several."""
    found = [column for column in schema.features if column.kind == "text"]
    if len(found) != 1:
        raise PhaseflowError(
            f"A bag of words reads one text; the schema has {len(found)}", fix="Keep one feature of the kind text"
        )
    return found[0]


def fit(
    rows: pl.DataFrame, schema: Schema, *, strength: float = 1.0, together: int = 1, least_times: int = 2, seed: int = 0
) -> Trained:
    """Fit on rows [N] with the schema's target, convert, and compare both on the same rows.

    `strength` is scikit-learn's C, `together` the number of neighbouring words that are counted as one (2: pairs too),
    `least_times` the number of texts in which a word stands before it counts. A word weighs by how rare it is: tf-idf with
    rows of length 1 (Spärck Jones 1972). Raises PhaseflowError when the graph's probabilities differ by more than `GAP`.
    """
    assert schema.target is not None  # noqa: S101  # every supervised schema has one; the contract's suite holds it
    column = text_column(schema)
    truth = rows[schema.target.name].cast(pl.String).to_numpy().astype(str)
    counts, words, idf = counted(rows[column.name], together=together, least_times=least_times)
    model = LogisticRegression(C=strength, max_iter=1000, random_state=seed).fit(counts, truth)
    content = to_onnx(schema, column.name, words, idf, model)
    gap = float(
        np.abs(graph.run(content, graph.feed(rows, schema))["probabilities"] - model.predict_proba(counts)).max()
    )
    graph.alike(gap, GAP, "probability", fix="Lower `strength`")
    return Trained(
        onnx=content,
        classes=tuple(map(str, model.classes_)),
        pictures={"words.png": strongest([" ".join(parts) for parts in words], model)},
        notes={"words": f"{len(words):,}", "largest difference to scikit-learn": f"{gap:.1e}"},
    )


def counted(
    values: pl.Series, *, together: int = 1, least_times: int = 2, most: int = MOST_WORDS
) -> tuple[Any, list[list[str]], Any]:
    """Texts [N] as tf-idf of length 1 [N, words] (sparse), the words, and how rare each is; as `counting` will count them."""
    counter = CountVectorizer(
        analyzer=lambda read: _parts(read, together), max_features=most, min_df=min(least_times, len(values))
    )
    weights = TfidfTransformer()
    counts = weights.fit_transform(counter.fit_transform(texts.words(values)))
    return counts, [part.split(" ") for part in counter.get_feature_names_out()], weights.idf_


def _parts(read: list[str], together: int) -> list[str]:
    """Single words, then neighbours of up to `together` words; the marks around a text are no words."""
    inner = read[1:-1] if len(read) < texts.MOST_WORDS else read[1:]
    return [" ".join(inner[at : at + size]) for size in range(1, together + 1) for at in range(len(inner) - size + 1)]


def counting(column: str, words: list[list[str]], idf: Any) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes and constants from the input `column` to `bag`: tf-idf of length 1, float32 [N, words].

    `words` are single ones and neighbours, in the order of `idf`.
    """
    longest = max(map(len, words))
    pools = [[place for place, one in enumerate(words) if len(one) == size] for size in range(1, longest + 1)]
    starts = np.cumsum([0] + [size * len(pool) for size, pool in enumerate(pools, start=1)])[:-1]
    order = [place for pool in pools for place in pool]
    nodes, constants = texts.reading(column)
    weighed = helper.make_node(
        "TfIdfVectorizer",
        ["words"],
        ["weighed"],
        mode="TFIDF",
        min_gram_length=1,
        max_gram_length=longest,
        max_skip_count=0,
        pool_strings=[word for place in order for word in words[place]],
        ngram_counts=starts.tolist(),
        ngram_indexes=order,
        weights=[float(idf[place]) for place in order],
    )
    return [*nodes, weighed, helper.make_node("LpNormalization", ["weighed"], ["bag"], axis=1, p=2)], constants


def to_onnx(schema: Schema, column: str, words: list[list[str]], idf: Any, model: LogisticRegression) -> bytes:
    """The fitted bag as a graph: words, counts, tf-idf of length 1, scores."""
    nodes, constants = counting(column, words, idf)
    scoring, weights = graph.dense([graph.every_class(model.coef_.T, model.intercept_)], "bag", "scores")
    classes = [str(name) for name in model.classes_]
    return graph.classifier(schema, [*nodes, *scoring], [*constants, *weights], "scores", classes)


def strongest(words: Any, model: LogisticRegression) -> bytes:
    """The words that speak loudest for each class (of two: for the one and for the other), as a PNG."""
    two = len(model.classes_) == 2
    sides = [(name, (model.coef_[0] * sign)) for name, sign in zip(model.classes_, (-1, 1), strict=True)] if two else []
    sides = sides or list(zip(model.classes_, model.coef_, strict=True))
    sides = sides[:6]
    figure, panels = pictures.grid(1, len(sides), (3.2 * len(sides), 3.4))
    for panel, (name, values) in zip(panels, sides, strict=True):
        top = np.argsort(values)[-SHOWN:]
        panel.axis("on")
        panel.barh([str(words[place]) for place in top], values[top], color=pictures.BLUE)
        panel.set_title(str(name), fontsize=10)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    return pictures.png(figure)
