"""LoRA: instead of its weights, a thin correction of them is learned, and added to them at the end."""

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
from projects.assistant.base import IGNORED, Base, Pair, descend, padded
from projects.assistant.prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of an adapter and its training."""

    rank: int
    alpha: int
    steps: int
    rate: float
    batch: int = 16
    dropout: float = 0.0


Row = tuple[str, str | None, str]
"""Instruction, context, response."""


def pairs(rows: Sequence[Row], prompt: Prompt, base: Base, most: int) -> list[Pair]:
    """Tokens of prompt and response; only those of the response, and the end, are to be learned. Longer ones than `most` are cut."""
    found: list[Pair] = []
    for instruction, context, response in rows:
        asked = base.tokenizer.encode(prompted(prompt.text, {"instruction": instruction, "context": context or ""})).ids
        said = [*base.tokenizer.encode(" " + response).ids, base.end][: most // 2]
        asked = asked[-(most - len(said)) :]
        found.append(([*asked, *said], [*([IGNORED] * len(asked)), *said]))
    return found


def tune(
    base: Base, rows: Sequence[Pair], settings: Settings, *, seed: int, device: Device, told: Any
) -> tuple[Any, list[float], int]:
    """A copy of the base with its adapter merged into it, the loss of each step, and the number of weights that were learned.

    Every linear layer W gets B A beside it, of `rank` r: W x + (alpha / r) B A x (Hu et al., LoRA, 2021). B starts at 0, so that
    training starts from what the base says.
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
    history = descend(
        adapted,
        rows,
        steps=settings.steps,
        rate=settings.rate,
        batch=settings.batch,
        seed=seed,
        device=device,
        told=told,
    )
    learned, _ = adapted.get_nb_trainable_parameters()
    return adapted.merge_and_unload().eval(), history, int(learned)


@torch.no_grad()
def perplexity(model: Any, rows: Sequence[Pair], device: Device, batch: int = 32) -> float:
    """Exp of the mean surprise of a token of the right answers: among how many equally likely tokens the model wavers."""
    model.to(device.torch).eval()
    total, count = 0.0, 0
    for at in range(0, len(rows), batch):
        ids, labels = padded(rows[at : at + batch])
        scores = model(input_ids=ids.to(device.torch)).logits[:, :-1].float()
        wanted = labels[:, 1:].to(device.torch)
        # Flat: of more dimensions it has no deterministic form on a GPU.
        total += float(
            torch.nn.functional.cross_entropy(
                scores.flatten(0, 1), wanted.flatten(), reduction="sum", ignore_index=IGNORED
            )
        )
        count += int((wanted != IGNORED).sum())
    return float(np.exp(total / max(count, 1)))
