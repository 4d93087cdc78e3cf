"""Two readers of a sentence: one counts words, the other reads them in their order."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from phaseflow import Candidate, Project
from phaseflow.toolkit import bag, graph, pictures, texts
from phaseflow.toolkit import device as devices
from phaseflow.toolkit.model import Trained
from projects.film_sentiment.lstm import Reader, Settings, learn, numbered, to_onnx

CLASSES = ("negative", "positive")
SHOWN = (
    "the plot is dull at first , but the ending is truly moving",
    "the plot is moving at first , but the ending is truly dull",
    "the cast is not dull at all",
)
"""Sentences of the picture that shows how the reader's mind changes."""


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of reviews and what their writers meant."""
    if candidate.name == "bag_of_words":
        return bag.fit(rows, project.schema, **candidate.params, seed=project.seed)
    return read_in_order(rows, project, Settings(**candidate.params))


def read_in_order(rows: pl.DataFrame, project: Project, settings: Settings) -> Trained:
    """Train the LSTM and write its graph."""
    device = devices.choose(project.seed)
    read = texts.words(rows["review"])
    words = (texts.BEGIN, texts.END, *texts.frequent(read, settings.most_words, settings.least_times))
    ids = numbered(read, words)
    truth = torch.from_numpy((rows["sentiment"] == CLASSES[1]).to_numpy().astype(np.int64))
    model = Reader(len(words) + 2, len(CLASSES), settings).to(device.torch)
    history = learn(model, ids, truth, settings, device)
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
    """What the model thinks after each word of `SHOWN`, as a PNG."""
    figure, panels = pictures.grid(len(SHOWN), 1, (7.2, 1.7 * len(SHOWN)))
    session = graph.session(content)
    for sentence, panel in zip(SHOWN, panels, strict=True):
        words = sentence.split()
        begun = pl.DataFrame({"review": [" ".join(words[: at + 1]) for at in range(len(words))]})
        friendly = graph.run(session, graph.feed(begun, project.schema))["probabilities"][:, 1]
        panel.axis("on")
        panel.bar(range(len(words)), friendly - 0.5, color=[pictures.BLUE if p > 0.5 else "#c0392b" for p in friendly])
        panel.set_xticks(range(len(words)), words, fontsize=8)
        panel.set_yticks([-0.5, 0, 0.5], ["negative", "", "positive"], fontsize=8)
        panel.set_ylim(-0.5, 0.5)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    return pictures.png(figure)
