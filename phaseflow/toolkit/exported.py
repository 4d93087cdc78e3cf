"""From PyTorch to ONNX, by torch's own exporter. torch is imported inside: only some environments have it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx

from phaseflow import generation
from phaseflow.errors import PhaseflowError
from phaseflow.toolkit import graph

GAP = 1e-3
"""Largest difference of a score to PyTorch's that is accepted, relative to the largest score."""


def language_model(module: Any, tokenizer: str, settings: generation.Settings) -> bytes:
    """A module from ids (int64 [N, T]) to the next token's scores [N, vocabulary] as a file that `phaseflow.generation` runs.

    `tokenizer` is the content of a `tokenizer.json`. Raises PhaseflowError where graph and module differ on a few random ids.
    """
    import torch  # noqa: PLC0415

    module = module.eval().cpu()
    ids = torch.tensor([[3, 5, 7, 2, 4], [2, 9, 4, 8, 6]])
    shapes = {"ids": {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (ids,),
            input_names=[generation.IDS],
            output_names=[generation.SCORES],
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # noqa: S101  # it is, by dynamo
        other = torch.tensor([[2, 3, 4, 5, 6, 7, 8], [9, 8, 7, 6, 5, 4, 3], [4, 4, 2, 2, 9, 9, 3]])
        expected = module(other).numpy()
    model = program.model_proto
    onnx.helper.set_model_props(model, generation.metadata(settings, tokenizer))
    content = bytes(model.SerializeToString())
    ready: Any = graph.session(content)
    (said,) = ready.session.run([generation.SCORES], {generation.IDS: other.numpy()})
    gap = float(np.abs(said - expected).max() / max(np.abs(expected).max(), 1e-9))
    if not gap <= GAP:
        raise PhaseflowError(
            f"The ONNX model's scores differ from PyTorch's by {gap:.1e} of the largest; allowed: {GAP:.0e}",
            fix="Export in single precision",
        )
    return content
