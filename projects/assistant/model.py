"""Three assistants: one repeats what was said to the most similar question, one is the base as it is, one was tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from onnx import TensorProto, helper

from phaseflow import Candidate, Project, answers, derived, generation
from phaseflow.settings import from_environment
from phaseflow.toolkit import bag, experiments, exporting, graph, pictures
from phaseflow.toolkit import device as devices
from phaseflow.toolkit.model import Trained
from projects.assistant import base as bases
from projects.assistant import prompts, tuning
from projects.assistant.base import Base
from projects.assistant.prompts import Prompt
from projects.assistant.tuning import Row, Settings

COLUMNS: Final = ("instruction", "context", "response")
HELD: Final = 10
"""Of the train rows every tenth is kept from training, to choose the prompt and to tell the perplexity."""
MOST_CHECKED: Final = 100
MOST_TOKENS: Final = 192
MOST_NEW: Final = 32
MOST_SIMILAR: Final = 2000
"""Questions, and words, that the nearest one is looked for among."""


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of instructions, contexts and responses."""
    if candidate.name == "nearest":
        return nearest(rows, project)
    told = dict(candidate.params)
    device = devices.choose(project.seed)
    base = bases.load(
        told.pop("base"),
        told.pop("revision"),
        offline=from_environment().offline,
        steps=told.pop("base_steps"),
        seed=project.seed,
        device=device,
    )
    known: list[Row] = list(rows.select(COLUMNS).iter_rows())
    held, learned = known[::HELD][:MOST_CHECKED], [row for place, row in enumerate(known) if place % HELD]
    prompt, scores = prompts.choose(
        prompts.newest(prompts.registered()),
        lambda one: tuning.perplexity(base.model, tuning.pairs(held, one, base, MOST_TOKENS), device),
    )
    checked = tuning.pairs(held, prompt, base, MOST_TOKENS)
    notes = {"base model": base.origin, "device": device.name, "prompt": prompt.known_as} | {
        f"perplexity of the untuned model by prompt {name}": f"{score:.4g}" for name, score in scores.items()
    }
    if candidate.name == "untuned":
        return Trained(onnx=to_onnx(base.model, base, prompt), notes=notes)
    with experiments.mirrored(project, candidate) as log:
        model, history, count = tuning.tune(
            base,
            tuning.pairs(learned, prompt, base, MOST_TOKENS),
            Settings(**told),
            seed=project.seed,
            device=device,
            told=log,
        )
        after = tuning.perplexity(model, checked, device)
        log({"perplexity": after})
    smooth = [float(np.mean(history[max(0, at - 9) : at + 1])) for at in range(len(history))]
    return Trained(
        onnx=to_onnx(model, base, prompt),
        pictures={"learning_curve.png": pictures.curve("Loss", "step", "mean of ten batches", {"": smooth})},
        notes=notes | {"perplexity after tuning": f"{after:.4g}", "learned weights": f"{count:,}"},
    )


class Next(torch.nn.Module):
    """The scores of the token that comes next."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """float32 [N, vocabulary] of ids [N, T]."""
        scores: torch.Tensor = self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
        return scores


def to_onnx(model: Any, base: Base, prompt: Prompt) -> bytes:
    """The model's file: its graph, its tokenizer, and its prompt."""
    settings = generation.Settings(prompt=prompt.text, end=(base.end,), most_new=MOST_NEW, most=MOST_TOKENS)
    return exporting.language_model(Next(model), base.tokenizer.to_str(), settings)


def nearest(rows: pl.DataFrame, project: Project) -> Trained:
    """Retrieval alone, as a graph: tf-idf of the instruction, the most similar known one, and the response to that."""
    known = rows.sample(min(MOST_SIMILAR, rows.height), seed=project.seed)
    counts, words, idf = bag.counted(known["instruction"], most=MOST_SIMILAR)
    nodes, constants = bag.counting("instruction", words, idf)
    nodes += [
        helper.make_node("MatMul", ["bag", "known"], ["similarity"]),
        helper.make_node("ArgMax", ["similarity"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["responses", "best"], ["text"]),
    ]
    constants += [
        graph.constant("known", counts.toarray().T.astype(np.float32)),
        graph.constant("responses", np.array(known["response"].to_list(), dtype=object)),
    ]
    out = helper.make_tensor_value_info("text", TensorProto.STRING, [None])
    return Trained(
        onnx=graph.built(project.schema, nodes, constants, [out]), notes={"known questions": f"{known.height:,}"}
    )


def evaluate(said: Mapping[str, npt.NDArray[Any]], rows: pl.DataFrame, project: Project) -> dict[str, float | None]:
    """Token F1 and exact match of answers [N] against the responses (Rajpurkar et al., SQuAD, 2016)."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # it has one
    pairs = list(zip(said["text"].tolist(), rows[target.name], strict=True))
    return {
        "token_f1": float(np.mean([1 - answers.losses(mine, true, target)["error"] for mine, true in pairs])),
        "exact_match": float(np.mean([derived.words(mine) == derived.words(true) for mine, true in pairs])),
    }
