"""LoRA: the model's weights stay frozen; a low-rank update is learned and merged into them at the end."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from phaseflow.generation import prompted
from phaseflow.toolkit.device import Device
from projects.assistant.base import IGNORED, Base, Pair, pad, train_loop
from projects.assistant.prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of an adapter and its training."""

    rank: int
    alpha: int
    steps: int
    rate: float
    batch: int = 16
    dropout: float = 0.0


Row = tuple[str, str | None, str]
"""Instruction, context, response."""


def pairs(rows: Sequence[Row], prompt: Prompt, base: Base, max_tokens: int) -> list[Pair]:
    """Encode prompts and responses of rows. The loss covers only the response and the end token.

    A row has at most `max_tokens` tokens: the response is cut at half of that, the prompt at its beginning.
    """
    encoded: list[Pair] = []
    for instruction, context, response in rows:
        prompt_ids = base.tokenizer.encode(
            prompted(prompt.text, {"instruction": instruction, "context": context or ""})
        ).ids
        response_ids = [*base.tokenizer.encode(" " + response).ids, base.end][: max_tokens // 2]
        prompt_ids = prompt_ids[-(max_tokens - len(response_ids)) :]
        encoded.append(([*prompt_ids, *response_ids], [*([IGNORED] * len(prompt_ids)), *response_ids]))
    return encoded


def tune(
    base: Base, rows: Sequence[Pair], settings: Settings, *, seed: int, device: Device, log: Any
) -> tuple[Any, list[float], int]:
    """Tune a copy of the base; return the merged model, the loss of each step, and the number of trained weights.

    Every linear layer W gets an update B A of rank r: W x + (alpha / r) B A x (Hu et al., LoRA, 2021). B starts at 0,
    so that training starts from the base model's outputs.
    """
    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(copy.deepcopy(base.model).to(device.torch), config)
    history = train_loop(
        adapted,
        rows,
        steps=settings.steps,
        rate=settings.rate,
        batch=settings.batch,
        seed=seed,
        device=device,
        log=log,
    )
    trainable, _ = adapted.get_nb_trainable_parameters()
    return adapted.merge_and_unload().eval(), history, int(trainable)


@torch.no_grad()
def perplexity(model: Any, rows: Sequence[Pair], device: Device, batch: int = 32) -> float:
    """The exponential of the mean cross-entropy per token of the correct responses.

    It is the number of equally likely tokens among which a model would be equally uncertain.
    """
    model.to(device.torch).eval()
    total, count = 0.0, 0
    for start in range(0, len(rows), batch):
        ids, labels = pad(rows[start : start + batch])
        scores = model(input_ids=ids.to(device.torch)).logits[:, :-1].float()
        targets = labels[:, 1:].to(device.torch)
        # Flattened, since the loss over more dimensions has no deterministic implementation on a GPU.
        total += float(
            torch.nn.functional.cross_entropy(
                scores.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED
            )
        )
        count += int((targets != IGNORED).sum())
    return float(np.exp(total / max(count, 1)))
