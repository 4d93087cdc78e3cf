"""The base model: a small one from the Hugging Face Hub, or a tiny one of the same architecture without the hub."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # the hub's client reads it on import
os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "10")

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from phaseflow.toolkit.device import Device
from projects.assistant import shop

PAD: Final = 0
END: Final = 1
SPECIAL: Final = ("<pad>", "<end>")
VOCABULARY_SIZE: Final = 1000
ENTRIES: Final = 1500
"""Handbook entries that the tiny model is trained on."""
ATTENTION: Final = "eager"
"""The implementation that consists of plain matrix products, which every exporter supports."""
WIDTH, LAYERS, HEADS, MAX_TOKENS = 64, 2, 4, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A causal language model before tuning. `tiny` caches and shares it: copy the model before changing it."""

    model: Any
    tokenizer: Tokenizer
    end: int
    """The token that ends a text."""
    origin: str
    """Where the model comes from, for messages, tags and the model card."""


def load(name: str, revision: str, *, offline: bool, steps: int, seed: int, device: Device) -> Base:
    """Load the model `name` from the hub, or train the tiny one for `steps`; print on stderr which one it is."""
    base = None if offline else _from_hub(name, revision)
    base = base or tiny(steps, seed, device)
    print(f"base model: {base.origin}", file=sys.stderr)
    return base


def _from_hub(name: str, revision: str) -> Base | None:
    """Load weights as safetensors only, so that no remote code runs; return None if the model is unavailable."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, use_safetensors=True, dtype=torch.float32, attn_implementation=ATTENTION
        )
    except (OSError, ValueError) as error:  # no network, no such model, or missing files
        message, *_ = str(error).splitlines() or [type(error).__name__]
        print(f"warning: {name} is unavailable: {message}", file=sys.stderr)
        return None
    return Base(
        model=model,
        tokenizer=tokenizer.backend_tokenizer,
        end=int(tokenizer.eos_token_id),
        origin=f"{name} from the hub",
    )


@functools.cache
def tiny(steps: int, seed: int, device: Device) -> Base:
    """Train a two-layer Llama on two handbooks, of furniture and of bicycles, for `steps` batches of 16 entries.

    Like a base model from the hub, it has been trained on more topics than the questions cover.
    """
    texts = list(shop.handbook((shop.FURNITURE, shop.CYCLES), np.random.default_rng(seed), ENTRIES))
    tokenizer = train_tokenizer(texts)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).to(device.torch)
    model.set_attn_implementation(ATTENTION)
    rows = [[*tokenizer.encode(text).ids, END] for text in texts]
    losses = train_loop(model, [(row, row) for row in rows], steps=steps, rate=4e-3, batch=16, seed=seed, device=device)
    size = sum(weights.numel() for weights in model.parameters())
    data = f"{steps} steps on {len(texts):,} entries of two handbooks, last loss {losses[-1]:.2f}"
    origin = f"trained from scratch, {size:,} weights, {data}"
    return Base(model=model.eval(), tokenizer=tokenizer, end=END, origin=origin)


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Train a byte-level byte-pair encoding (Sennrich et al. 2016) on texts. It can encode any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


Pair = tuple[Sequence[int], Sequence[int]]
"""Input tokens and, for each, its label: the token itself, or IGNORED where the loss skips it."""
IGNORED: Final = -100


def train_loop(
    model: Any,
    rows: Sequence[Pair],
    *,
    steps: int,
    rate: float,
    batch: int,
    seed: int,
    device: Device,
    log: Any = lambda _: None,
) -> list[float]:
    """Minimize the next-token cross-entropy with AdamW over `steps` random batches; return the loss of each step.

    `log` is called after every tenth step with the mean loss of the last ten.
    """
    parameters = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    random = np.random.default_rng(seed)
    model.train()
    history = []
    for step in range(steps):
        ids, labels = pad([rows[index] for index in random.integers(0, len(rows), batch)])
        with device.precision():
            loss = model(input_ids=ids.to(device.torch), labels=labels.to(device.torch)).loss
        optimizer.zero_grad()
        device.backward(loss, optimizer, clip=1.0)
        schedule.step()
        history.append(float(loss.item()))
        if step % 10 == 9:
            log({"loss": float(np.mean(history[-10:])), "step": step + 1})
    return history


def pad(rows: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels [N, T], padded at the end. No mask is needed: a causal model never attends to later positions."""
    max_length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), max_length), PAD)
    labels = torch.full((len(rows), max_length), IGNORED)
    for index, (tokens, targets) in enumerate(rows):
        ids[index, : len(tokens)] = torch.tensor(list(tokens))
        labels[index, : len(targets)] = torch.tensor(list(targets))
    return ids, labels
