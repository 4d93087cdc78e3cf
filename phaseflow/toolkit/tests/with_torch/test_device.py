"""The device of PyTorch, in the environments that have PyTorch."""

from __future__ import annotations

import torch

from phaseflow.toolkit import device


def test_the_device_is_named_and_random_numbers_repeat() -> None:
    chosen = device.choose(3)
    first = torch.rand(5, device=chosen.torch)
    assert device.choose(3).torch == chosen.torch
    assert torch.equal(first, torch.rand(5, device=chosen.torch))
    assert chosen.name.startswith("CPU") == (not torch.cuda.is_available())
    assert chosen.mixed == torch.cuda.is_available()


def test_precision_is_single_without_a_gpu() -> None:
    chosen = device.choose(1)
    with chosen.precision():
        product = torch.rand(4, 4, device=chosen.torch) @ torch.rand(4, 4, device=chosen.torch)
    assert (product.dtype == torch.float32) == (not chosen.mixed)
