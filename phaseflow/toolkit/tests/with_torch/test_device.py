"""Where PyTorch computes, in the families that have it."""

from __future__ import annotations

import torch

from phaseflow.toolkit import device


def test_it_says_where_it_computes_and_repeats_what_it_drew() -> None:
    place = device.choose(3)
    first = torch.rand(5, device=place.torch)
    assert device.choose(3).torch == place.torch
    assert torch.equal(first, torch.rand(5, device=place.torch))
    assert place.name.startswith("CPU") == (not torch.cuda.is_available())
    assert place.mixed == torch.cuda.is_available()


def test_precision_is_whole_where_there_is_no_gpu() -> None:
    place = device.choose(1)
    with place.precision():
        product = torch.rand(4, 4, device=place.torch) @ torch.rand(4, 4, device=place.torch)
    assert (product.dtype == torch.float32) == (not place.mixed)
