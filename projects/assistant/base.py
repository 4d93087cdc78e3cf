"""The model that everything starts from: a small one of a hub, or where no hub answers a tiny one of the same architecture."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the hub's client is imported
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
VOCABULARY: Final = 1000
ENTRIES: Final = 1500
"""Of the handbook that it reads."""
ATTENTION: Final = "eager"
"""Written out as matrix products, which every exporter knows."""
WIDTH, LAYERS, HEADS, MOST_TOKENS = 64, 2, 4, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A causal language model, not yet tuned. It is shared by those who ask for it: copy the model before changing it."""

    model: Any
    tokenizer: Tokenizer
    end: int
    """The token that ends a text."""
    origin: str
    """For people, tags and the model card: which of both it is."""


def load(name: str, revision: str, *, offline: bool, steps: int, seed: int, device: Device) -> Base:
    """The hub's model `name`, or the tiny one, trained for `steps`; says on stderr which one it is."""
    found = None if offline else _of_the_hub(name, revision)
    found = found or tiny(steps, seed, device)
    print(f"base model: {found.origin}", file=sys.stderr)
    return found


def _of_the_hub(name: str, revision: str) -> Base | None:
    """Weights as safetensors, no code of theirs; None where the hub can't be reached."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, use_safetensors=True, dtype=torch.float32, attn_implementation=ATTENTION
        )
    except (OSError, ValueError) as error:  # without a network, without such a model, or without its parts
        first, *_ = str(error).splitlines() or [type(error).__name__]
        print(f"warning: {name} can't be had: {first}", file=sys.stderr)
        return None
    return Base(
        model=model, tokenizer=tokenizer.backend_tokenizer, end=int(tokenizer.eos_token_id), origin=f"{name} of the hub"
    )


@functools.cache
def tiny(steps: int, seed: int, device: Device) -> Base:
    """A Llama of two layers that has read two handbooks, of furniture and of bicycles, and nothing else: `steps` times 16 entries.

    As a base of the hub it has read of more than anyone has asked about yet.
    """
    texts = list(shop.handbook((shop.FURNITURE, shop.CYCLES), np.random.default_rng(seed), ENTRIES))
    tokenizer = vocabulary(texts)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=MOST_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).to(device.torch)
    model.set_attn_implementation(ATTENTION)
    rows = [[*tokenizer.encode(text).ids, END] for text in texts]
    losses = descend(model, [(row, row) for row in rows], steps=steps, rate=4e-3, batch=16, seed=seed, device=device)
    size = sum(weights.numel() for weights in model.parameters())
    origin = f"trained from scratch, {size:,} weights, {steps} steps on {len(texts):,} entries of two handbooks, last loss {losses[-1]:.2f}"
    return Base(model=model.eval(), tokenizer=tokenizer, end=END, origin=origin)


def vocabulary(texts: Sequence[str]) -> Tokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) of bytes, learned from texts: whatever is written has its tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


Pair = tuple[Sequence[int], Sequence[int]]
"""The tokens that are read, and of each the one that is to be learned there (itself), or IGNORED."""
IGNORED: Final = -100


def descend(
    model: Any,
    rows: Sequence[Pair],
    *,
    steps: int,
    rate: float,
    batch: int,
    seed: int,
    device: Device,
    told: Any = lambda _: None,
) -> list[float]:
    """AdamW down the surprise of the next token, over `steps` batches of rows; the loss of each. `told` hears of every tenth."""
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    random = np.random.default_rng(seed)
    model.train()
    history = []
    for step in range(steps):
        ids, labels = padded([rows[place] for place in random.integers(0, len(rows), batch)])
        with device.precision():
            loss = model(input_ids=ids.to(device.torch), labels=labels.to(device.torch)).loss
        optimizer.zero_grad()
        device.backward(loss, optimizer, clip=1.0)
        schedule.step()
        history.append(float(loss.item()))
        if step % 10 == 9:
            told({"loss": float(np.mean(history[-10:])), "step": step + 1})
    return history


def padded(rows: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels [N, longest], filled up at the end: a causal model never looks there from within a row."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), PAD)
    labels = torch.full((len(rows), longest), IGNORED)
    for place, (read, learned) in enumerate(rows):
        ids[place, : len(read)] = torch.tensor(list(read))
        labels[place, : len(learned)] = torch.tensor(list(learned))
    return ids, labels
