"""Where PyTorch computes: a GPU where there is one, in mixed precision there, the same each time where that is asked.

torch is imported inside: this module belongs to every family's environment, and torch only to some.
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
    """A place to compute."""

    torch: Any
    """The `torch.device`."""
    name: str
    """For people and the model card: "NVIDIA H100, float16 where it is safe", "CPU"."""
    mixed: bool
    scaler: Any
    """A `torch.amp.GradScaler`: float16 rounds small slopes to 0, so that they are enlarged on their way."""

    def backward(self, loss: Any, optimizer: Any, *, clip: float = 0.0) -> None:
        """A step of the optimizer down the slope of the loss; a slope longer than `clip` is cut to it, where that is given."""
        self.scaler.scale(loss).backward()
        if clip:
            import torch  # noqa: PLC0415

            self.scaler.unscale_(optimizer)
            weights = [one for group in optimizer.param_groups for one in group["params"]]
            torch.nn.utils.clip_grad_norm_(weights, clip)
        self.scaler.step(optimizer)
        self.scaler.update()

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """Half precision for what bears it (Micikevicius et al., Mixed Precision Training, 2018); nothing on a CPU."""
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
    """The device of this process, with every generator of random numbers set to `seed`.

    `deterministic` gives up the kernels whose sums depend on the order of threads; one that has no other raises there.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    import torch  # noqa: PLC0415

    random.seed(seed)
    np.random.seed(seed)  # what libraries draw from
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
