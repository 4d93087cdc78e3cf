"""Words and pairs of words, weighted first by naive Bayes and then by logistic regression.

NB-SVM: Wang and Manning, Baselines and Bigrams: Simple, Good Sentiment and Topic Classification (2012), with logistic
loss in place of hinge loss, which gives probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from phaseflow import Project
from phaseflow.toolkit import bag, graph, texts
from phaseflow.toolkit.model import Trained


def fit(
    rows: pl.DataFrame,
    project: Project,
    *,
    C: float,  # noqa: N803  # scikit-learn's name
    ngram_size: int,
    min_df: int = 2,
) -> Trained:
    """Fit on rows [N] of reviews and sentiments, convert to ONNX, and compare both models on the same rows.

    `C`, `ngram_size` and `min_df` are those of `bag.fit`. Raises PhaseflowError if the graph's probabilities differ by
    more than `bag.GAP`.
    """
    label = rows["sentiment"].to_numpy().astype(str)
    counter = CountVectorizer(
        analyzer=lambda tokens: bag.parts(tokens, ngram_size), max_features=bag.MAX_WORDS, min_df=min_df, binary=True
    )
    presence = counter.fit_transform(texts.words(rows["review"])).astype(np.float64)
    words = [part.split(" ") for part in counter.get_feature_names_out()]
    ratios = log_ratios(presence, label == "positive")
    model = LogisticRegression(C=C, max_iter=1000, random_state=project.seed)
    model.fit(presence.multiply(ratios).tocsr(), label)
    content = to_onnx(project, words, ratios, model)
    probabilities = graph.run(content, graph.feed(rows, project.schema))["probabilities"]
    gap = float(np.abs(probabilities - model.predict_proba(presence.multiply(ratios).tocsr())).max())
    graph.check_parity(gap, bag.GAP, "probability", fix="Lower `C`")
    return Trained(
        onnx=content,
        classes=tuple(map(str, model.classes_)),
        notes={"words and pairs": f"{len(words):,}", "largest difference to scikit-learn": f"{gap:.1e}"},
    )


def log_ratios(presence: Any, positive: Any) -> Any:
    """Log ratio of each word's frequency in positive and in negative texts [words].

    `presence` [N, words] is 1 if the text contains the word, else 0. Add-one (Laplace) smoothing avoids zeros.
    """
    positive_counts, negative_counts = (
        1 + np.asarray(presence[side].sum(axis=0)).ravel() for side in (positive, ~positive)
    )
    return np.log(positive_counts / positive_counts.sum()) - np.log(negative_counts / negative_counts.sum())


def to_onnx(project: Project, words: list[list[str]], ratios: Any, model: LogisticRegression) -> bytes:
    """Build the graph from text to scores: words, the ratios of the words that occur, scores."""
    nodes, constants = texts.reading("review")
    nodes.append(bag.vectorizer(words, ratios, "weighed", mode="IDF"))
    scoring, weights = graph.dense([graph.expand_binary(model.coef_.T, model.intercept_)], "weighed", "scores")
    classes = [str(name) for name in model.classes_]
    return graph.classifier(project.schema, [*nodes, *scoring], [*constants, *weights], "scores", classes)
