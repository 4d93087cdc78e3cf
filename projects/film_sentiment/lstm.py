"""A recurrent network that reads a sentence word by word, in both directions, and keeps what it needs in mind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from onnx import NodeProto, TensorProto, helper
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from phaseflow.contract import Schema
from phaseflow.toolkit import graph, texts
from phaseflow.toolkit.device import Device

PAD_ID, UNKNOWN_ID = 0, 1
FIRST_ID: Final = 2
"""Of the marks and the known words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of a network and its training."""

    width: int
    """Numbers that stand for a word."""
    memory: int
    """Numbers that a direction keeps in mind."""
    epochs: int
    rate: float
    batch: int = 64
    dropout: float = 0.3
    forget_words: float = 0.1
    """Share of words that are made unknown while it learns, so that it learns what to do with unknown ones."""
    decay: float = 1e-5
    most_words: int = 10_000
    least_times: int = 2


class Reader(nn.Module):
    """Word numbers -> scores. The two last states, one a direction, are all that is kept of a sentence."""

    def __init__(self, words: int, classes: int, settings: Settings) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, settings.width, padding_idx=PAD_ID)
        self.lstm = nn.LSTM(settings.width, settings.memory, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.output = nn.Linear(2 * settings.memory, classes)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Scores [N, classes] of word numbers [N, T], of which `lengths` [N] count (on the CPU)."""
        packed = pack_padded_sequence(
            self.dropout(self.embedding(ids)), lengths, batch_first=True, enforce_sorted=False
        )
        _, (last, _) = self.lstm(packed)
        scores: torch.Tensor = self.output(self.dropout(torch.cat([last[0], last[1]], dim=1)))
        return scores


def numbered(read: Sequence[Sequence[str]], words: Sequence[str]) -> list[torch.Tensor]:
    """The word numbers of read texts [N]; `words` are the known ones, the marks among them."""
    places = {word: place for place, word in enumerate(words, start=FIRST_ID)}
    return [torch.tensor([places.get(word, UNKNOWN_ID) for word in row]) for row in read]


def learn(
    model: Reader,
    ids: Sequence[torch.Tensor],
    truth: torch.Tensor,
    settings: Settings,
    device: Device,
) -> list[float]:
    """Adam down the cross-entropy (Kingma and Ba 2015); the mean loss of each epoch.

    Texts of like length go together, so that little of a batch is padding; the order of the batches is drawn anew each time.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, epochs=settings.epochs, steps_per_epoch=-(-len(ids) // settings.batch)
    )
    lengths = np.array([len(row) for row in ids])
    history = []
    for _ in range(settings.epochs):
        model.train()
        total = 0.0
        noise = torch.rand(len(ids)).numpy()
        order = np.argsort(lengths + 3 * noise)  # of like length, and not always the same ones together
        batches = [order[at : at + settings.batch] for at in range(0, len(order), settings.batch)]
        for at in torch.randperm(len(batches)).tolist():
            chosen = batches[at]
            rows = pad_sequence([ids[place] for place in chosen], batch_first=True, padding_value=PAD_ID)
            forgotten = (torch.rand(rows.shape) < settings.forget_words) & (rows != PAD_ID)
            rows = rows.masked_fill(forgotten, UNKNOWN_ID).to(device.torch)
            with device.precision():
                scores = model(rows, torch.from_numpy(lengths[chosen]))
            loss = nn.functional.cross_entropy(scores.float(), truth[chosen].to(device.torch))
            optimizer.zero_grad()
            device.backward(loss, optimizer, clip=1.0)
            schedule.step()
            total += loss.item() * len(chosen)
        history.append(total / len(ids))
    return history


def to_onnx(model: Reader, words: Sequence[str], schema: Schema, column: str, classes: Sequence[str]) -> bytes:
    """The trained network as a graph from the text itself: words, their numbers, embedding, LSTM, scores."""
    nodes, constants = texts.reading(column)
    nodes += [
        helper.make_node(
            "LabelEncoder",
            ["words"],
            ["ids"],
            domain="ai.onnx.ml",
            keys_strings=[texts.PAD, *words],
            values_int64s=[PAD_ID, *range(FIRST_ID, FIRST_ID + len(words))],
            default_int64=UNKNOWN_ID,
        ),
        helper.make_node("Equal", ["ids", "pad"], ["padding"]),
        helper.make_node("Not", ["padding"], ["counts"]),
        helper.make_node("Cast", ["counts"], ["ones"], to=TensorProto.INT32),
        helper.make_node("ReduceSum", ["ones", "second"], ["lengths"], keepdims=0),
        helper.make_node("Gather", ["embedding", "ids"], ["embedded"]),
        helper.make_node("Transpose", ["embedded"], ["steps"], perm=[1, 0, 2]),
        *_lstm(model.lstm.hidden_size),
        helper.make_node("Transpose", ["last_states"], ["states"], perm=[1, 0, 2]),
        helper.make_node("Flatten", ["states"], ["kept"], axis=1),
        helper.make_node("Gemm", ["kept", "W_output", "b_output"], ["scores"], transB=1),
    ]
    constants += [
        graph.constant("pad", np.int64(PAD_ID)),
        graph.constant("second", np.array([1], np.int64)),
        graph.constant("embedding", values(model.embedding.weight)),
        *_lstm_weights(model.lstm),
        graph.constant("W_output", values(model.output.weight)),
        graph.constant("b_output", values(model.output.bias)),
    ]
    return graph.classifier(schema, nodes, constants, "scores", classes)


def values(tensor: torch.Tensor) -> Any:
    """A parameter as numpy's float32."""
    return tensor.detach().cpu().numpy().astype(np.float32)


def _lstm(memory: int) -> list[NodeProto]:
    return [
        helper.make_node(
            "LSTM",
            ["steps", "W", "R", "B", "lengths"],
            ["", "last_states"],
            hidden_size=memory,
            direction="bidirectional",
        )
    ]


def _lstm_weights(lstm: nn.LSTM) -> list[TensorProto]:
    """PyTorch's gates are in the order input, forget, cell, output; ONNX wants input, output, forget, cell."""
    memory = lstm.hidden_size

    def ordered(name: str) -> Any:
        gates = values(getattr(lstm, name))
        return np.concatenate([gates[at * memory : (at + 1) * memory] for at in (0, 3, 1, 2)])

    def both(*parts: str) -> Any:
        return np.stack(
            [np.concatenate([ordered(f"{part}_l0{direction}") for part in parts]) for direction in ("", "_reverse")]
        )

    return [
        graph.constant("W", both("weight_ih")),
        graph.constant("R", both("weight_hh")),
        graph.constant("B", both("bias_ih", "bias_hh")),
    ]
