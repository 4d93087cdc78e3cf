"""A bidirectional LSTM that reads a sentence word by word."""

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
"""First id of the begin and end marks and the vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a network and its training."""

    width: int
    """Size of a word's embedding."""
    memory: int
    """Size of the hidden state per direction."""
    epochs: int
    rate: float
    batch: int = 64
    dropout: float = 0.3
    forget_words: float = 0.1
    """Share of words that are replaced by the unknown word in training, so that the network learns to handle it."""
    decay: float = 1e-5
    max_words: int = 10_000
    min_df: int = 2


class Reader(nn.Module):
    """The network from word ids to scores. The scores depend on the two last states only, one per direction."""

    def __init__(self, words: int, classes: int, settings: Settings) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, settings.width, padding_idx=PAD_ID)
        self.lstm = nn.LSTM(settings.width, settings.memory, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.output = nn.Linear(2 * settings.memory, classes)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return scores [N, classes] of word ids [N, T]; `lengths` [N] are the numbers of words, on the CPU."""
        packed = pack_padded_sequence(
            self.dropout(self.embedding(ids)), lengths, batch_first=True, enforce_sorted=False
        )
        _, (last, _) = self.lstm(packed)
        scores: torch.Tensor = self.output(self.dropout(torch.cat([last[0], last[1]], dim=1)))
        return scores


def encode(tokens: Sequence[Sequence[str]], words: Sequence[str]) -> list[torch.Tensor]:
    """Return the word ids of tokenized texts [N]; `words` is the vocabulary, including the marks."""
    ids = {word: index for index, word in enumerate(words, start=FIRST_ID)}
    return [torch.tensor([ids.get(word, UNKNOWN_ID) for word in row]) for row in tokens]


def learn(
    model: Reader,
    ids: Sequence[torch.Tensor],
    label: torch.Tensor,
    settings: Settings,
    device: Device,
) -> list[float]:
    """Minimize the cross-entropy with Adam (Kingma and Ba 2015); return the mean loss of each epoch.

    Batches contain texts of similar length, which keeps the padding short. Each epoch shuffles their order.
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
        order = np.argsort(lengths + 3 * noise)  # similar lengths, but different batches in each epoch
        batches = [order[at : at + settings.batch] for at in range(0, len(order), settings.batch)]
        for at in torch.randperm(len(batches)).tolist():
            indices = batches[at]
            rows = pad_sequence([ids[index] for index in indices], batch_first=True, padding_value=PAD_ID)
            masked = (torch.rand(rows.shape) < settings.forget_words) & (rows != PAD_ID)
            rows = rows.masked_fill(masked, UNKNOWN_ID).to(device.torch)
            with device.precision():
                scores = model(rows, torch.from_numpy(lengths[indices]))
            loss = nn.functional.cross_entropy(scores.float(), label[indices].to(device.torch))
            optimizer.zero_grad()
            device.backward(loss, optimizer, clip=1.0)
            schedule.step()
            total += loss.item() * len(indices)
        history.append(total / len(ids))
    return history


def to_onnx(model: Reader, words: Sequence[str], schema: Schema, column: str, classes: Sequence[str]) -> bytes:
    """Export the trained network as a graph from text to scores: words, word ids, embedding, LSTM, scores."""
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
        helper.make_node("Flatten", ["states"], ["flat_states"], axis=1),
        helper.make_node("Gemm", ["flat_states", "W_output", "b_output"], ["scores"], transB=1),
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
    """Return a parameter as a float32 array."""
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
    """Reorder the gates: PyTorch's order is input, forget, cell, output; ONNX's is input, output, forget, cell."""
    memory = lstm.hidden_size

    def ordered(name: str) -> Any:
        gates = values(getattr(lstm, name))
        return np.concatenate([gates[gate * memory : (gate + 1) * memory] for gate in (0, 3, 1, 2)])

    def both(*parts: str) -> Any:
        return np.stack(
            [np.concatenate([ordered(f"{part}_l0{direction}") for part in parts]) for direction in ("", "_reverse")]
        )

    return [
        graph.constant("W", both("weight_ih")),
        graph.constant("R", both("weight_hh")),
        graph.constant("B", both("bias_ih", "bias_hh")),
    ]
