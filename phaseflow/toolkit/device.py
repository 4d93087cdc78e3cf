"""The device that PyTorch computes on: a GPU with mixed precision if there is one, else the CPU.

Functions import torch themselves, because only some training environments have it.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The device of a training."""

    torch: Any
    """The `torch.device`."""
    name: str
    """Name for logs and the model card, such as "NVIDIA H100, float16 where it is safe"."""
    mixed: bool
    scaler: Any
    """A `torch.amp.GradScaler`: scales the loss up, because float16 rounds small gradients to 0."""

    def backward(self, loss: Any, optimizer: Any, *, clip: float = 0.0) -> None:
        """Backpropagate the loss and make one optimizer step; `clip` limits the norm of the gradient (0: no limit)."""
        self.scaler.scale(loss).backward()
        if clip:
            import torch  # noqa: PLC0415

            self.scaler.unscale_(optimizer)
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        self.scaler.step(optimizer)
        self.scaler.update()

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """Use half precision for operations that tolerate it (Micikevicius et al., Mixed Precision Training, 2018); no
        effect on a CPU.
        """
        if not self.mixed:
            yield
            return
        import torch  # noqa: PLC0415

        with torch.autocast(self.torch.type, dtype=torch.bfloat16 if _bfloat16() else torch.float16):
            yield


def _bfloat16() -> bool:
    import torch  # noqa: PLC0415

    return bool(torch.cuda.is_bf16_supported())


def choose(seed: int, *, deterministic: bool = True) -> Device:
    """The device of this process; seeds every random number generator with `seed`.

    With `deterministic`, PyTorch avoids kernels whose sums depend on the order of threads, and an operation that has no
    deterministic kernel raises RuntimeError.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
    import torch  # noqa: PLC0415

    random.seed(seed)
    np.random.seed(seed)  # the global generator of other libraries
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic)
    if torch.cuda.is_available():
        kind = "bfloat16" if _bfloat16() else "float16"
        name = f"{torch.cuda.get_device_name()}, {kind} where it is safe"
        scaler = torch.amp.GradScaler("cuda", enabled=kind == "float16")
        return Device(torch=torch.device("cuda"), name=name, mixed=True, scaler=scaler)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Device(
        torch=torch.device("cpu"), name=f"CPU, threads: {torch.get_num_threads()}", mixed=False, scaler=scaler
    )
