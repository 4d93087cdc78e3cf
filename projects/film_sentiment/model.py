"""Three sentiment classifiers: a bag of words, words and pairs of words, and an LSTM that reads the words in order."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from phaseflow import Candidate, Project
from phaseflow.toolkit import bag, graph, pictures, texts
from phaseflow.toolkit import device as devices
from phaseflow.toolkit.model import Trained
from projects.film_sentiment import ratios
from projects.film_sentiment.lstm import Reader, Settings, encode, learn, to_onnx

CLASSES = ("negative", "positive")
EXAMPLES = (
    "the plot is dull at first , but the ending is truly moving",
    "the plot is moving at first , but the ending is truly dull",
    "the cast is not dull at all",
)
"""Sentences in the picture of the prediction after each word."""


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of reviews and their sentiments."""
    if candidate.name == "bag_of_words":
        return bag.fit(rows, project.schema, **candidate.params, seed=project.seed)
    if candidate.name == "words_and_pairs":
        return ratios.fit(rows, project, **candidate.params)
    return read_in_order(rows, project, Settings(**candidate.params))


def read_in_order(rows: pl.DataFrame, project: Project, settings: Settings) -> Trained:
    """Train the LSTM and export its graph."""
    device = devices.choose(project.seed)
    tokens = texts.words(rows["review"])
    words = (texts.BEGIN, texts.END, *texts.frequent(tokens, settings.max_words, settings.min_df))
    ids = encode(tokens, words)
    label = torch.from_numpy((rows["sentiment"] == CLASSES[1]).to_numpy().astype(np.int64))
    model = Reader(len(words) + 2, len(CLASSES), settings).to(device.torch)
    history = learn(model, ids, label, settings, device)
    content = to_onnx(model.eval(), words, project.schema, "review", CLASSES)
    return Trained(
        onnx=content,
        classes=CLASSES,
        pictures={
            "learning_curve.png": pictures.curve("Loss", "epoch", "mean of the training rows", {"": history}),
            "reading.png": reading(content, project),
        },
        notes={"device": device.name, "known words": f"{len(words):,}", "loss of the last epoch": f"{history[-1]:.3f}"},
    )


def reading(content: bytes, project: Project) -> bytes:
    """Draw the prediction after each word of `EXAMPLES`; return a PNG."""
    figure, panels = pictures.grid(len(EXAMPLES), 1, (7.2, 1.7 * len(EXAMPLES)))
    session = graph.session(content)
    for sentence, panel in zip(EXAMPLES, panels, strict=True):
        words = sentence.split()
        prefixes = pl.DataFrame({"review": [" ".join(words[: end + 1]) for end in range(len(words))]})
        positive = graph.run(session, graph.feed(prefixes, project.schema))["probabilities"][:, 1]
        panel.axis("on")
        panel.bar(
            range(len(words)), positive - 0.5, color=[pictures.BLUE if value > 0.5 else "#c0392b" for value in positive]
        )
        panel.set_xticks(range(len(words)), words, fontsize=8)
        panel.set_yticks([-0.5, 0, 0.5], ["negative", "", "positive"], fontsize=8)
        panel.set_ylim(-0.5, 0.5)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    return pictures.png(figure)
