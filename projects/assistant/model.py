"""Four assistants: two answer from similar questions, one is the untuned base model, and one is tuned with LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from onnx import TensorProto, helper

from phaseflow import Candidate, Project, generation, prediction_types
from phaseflow.kinds.text import words
from phaseflow.settings import from_environment
from phaseflow.toolkit import bag, experiments, exporting, graph, pictures
from phaseflow.toolkit import device as devices
from phaseflow.toolkit.model import Trained
from projects.assistant import base as bases
from projects.assistant import prompts, rules, tuning
from projects.assistant.base import Base
from projects.assistant.prompts import Prompt
from projects.assistant.tuning import Row, Settings

COLUMNS: Final = ("instruction", "context", "response")
VALIDATION_INTERVAL: Final = 10
"""Every tenth training row is held out from tuning, to choose the prompt and to measure perplexity."""
MAX_VALIDATION: Final = 100
MAX_TOKENS: Final = 192
MAX_NEW_TOKENS: Final = 32
MAX_SIMILAR: Final = 2000
"""Questions that `nearest` searches, and words that it compares them by."""


def train(rows: pl.DataFrame, project: Project, candidate: Candidate) -> Trained:
    """Fit one candidate on rows [N] of instructions, contexts and responses."""
    if candidate.name == "nearest":
        return nearest(rows, project)
    if candidate.name == "form_and_word":
        return rules.fit(rows, project)
    params = dict(candidate.params)
    device = devices.choose(project.seed)
    base = bases.load(
        params.pop("base"),
        params.pop("revision"),
        offline=from_environment().offline,
        steps=params.pop("base_steps"),
        seed=project.seed,
        device=device,
    )
    examples: list[Row] = list(rows.select(COLUMNS).iter_rows())
    validation, training = (
        examples[::VALIDATION_INTERVAL][:MAX_VALIDATION],
        [example for index, example in enumerate(examples) if index % VALIDATION_INTERVAL],
    )
    prompt, scores = prompts.choose(
        prompts.newest(prompts.load()),
        lambda version: tuning.perplexity(base.model, tuning.pairs(validation, version, base, MAX_TOKENS), device),
    )
    validation_pairs = tuning.pairs(validation, prompt, base, MAX_TOKENS)
    notes = {"base model": base.origin, "device": device.name, "prompt": prompt.identifier} | {
        f"perplexity of the untuned model by prompt {name}": f"{score:.4g}" for name, score in scores.items()
    }
    if candidate.name == "untuned":
        return Trained(onnx=to_onnx(base.model, base, prompt), notes=notes)
    with experiments.mirrored(project, candidate) as log:
        model, history, count = tuning.tune(
            base,
            tuning.pairs(training, prompt, base, MAX_TOKENS),
            Settings(**params),
            seed=project.seed,
            device=device,
            log=log,
        )
        after = tuning.perplexity(model, validation_pairs, device)
        log({"perplexity": after})
    smoothed = [float(np.mean(history[max(0, step - 9) : step + 1])) for step in range(len(history))]
    return Trained(
        onnx=to_onnx(model, base, prompt),
        pictures={"learning_curve.png": pictures.curve("Loss", "step", "mean of ten batches", {"": smoothed})},
        notes=notes | {"perplexity after tuning": f"{after:.4g}", "learned weights": f"{count:,}"},
    )


class Next(torch.nn.Module):
    """The logits of the next token."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """float32 [N, vocabulary] of ids [N, T]."""
        scores: torch.Tensor = self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
        return scores


def to_onnx(model: Any, base: Base, prompt: Prompt) -> bytes:
    """Export the model with its tokenizer and its prompt as one ONNX file."""
    settings = generation.Settings(
        prompt=prompt.text, end=(base.end,), max_new_tokens=MAX_NEW_TOKENS, max_length=MAX_TOKENS
    )
    return exporting.language_model(Next(model), base.tokenizer.to_str(), settings)


def nearest(rows: pl.DataFrame, project: Project) -> Trained:
    """Fit a retrieval baseline: the response to the training instruction whose tf-idf vector is the most similar."""
    examples = rows.sample(min(MAX_SIMILAR, rows.height), seed=project.seed)
    counts, words, idf = bag.counted(examples["instruction"], max_features=MAX_SIMILAR)
    nodes, constants = bag.counting("instruction", words, idf)
    nodes += [
        helper.make_node("MatMul", ["bag", "training_vectors"], ["similarity"]),
        helper.make_node("ArgMax", ["similarity"], ["best"], axis=1, keepdims=0),
        helper.make_node("Gather", ["responses", "best"], ["text"]),
    ]
    constants += [
        graph.constant("training_vectors", counts.toarray().T.astype(np.float32)),
        graph.constant("responses", np.array(examples["response"].to_list(), dtype=object)),
    ]
    out = helper.make_tensor_value_info("text", TensorProto.STRING, [None])
    return Trained(
        onnx=graph.build_model(project.schema, nodes, constants, [out]),
        notes={"known questions": f"{examples.height:,}"},
    )


def evaluate(outputs: Mapping[str, npt.NDArray[Any]], rows: pl.DataFrame, project: Project) -> dict[str, float | None]:
    """Token F1 and exact match of generated texts [N] with the responses (Rajpurkar et al., SQuAD, 2016)."""
    target = project.schema.target
    assert target is not None  # noqa: S101  # the declaration has one
    pairs = list(zip(outputs["text"].tolist(), rows[target.name], strict=True))
    return {
        "token_f1": float(
            np.mean([1 - prediction_types.losses(prediction, label, target)["error"] for prediction, label in pairs])
        ),
        "exact_match": float(np.mean([words(prediction) == words(label) for prediction, label in pairs])),
    }
