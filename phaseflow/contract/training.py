"""What is trained, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from phaseflow import checks

ENVIRONMENTS: Final = frozenset({"tabular", "torch", "language"})
"""Training environments. Each one is a dependency group in pyproject.toml and a container image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An algorithm with its parameters, which the pipeline trains and compares to others."""

    name: str
    """Name of the algorithm, which `Project.train` receives."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters of the algorithm."""

    def __post_init__(self) -> None:
        checks.name("Candidate.name", self.name)
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Resources of a training step."""

    cpu: float = 1.0
    """CPU cores."""
    memory_mb: int = 1024
    """Memory in MB."""
    gpu: int = 0
    """Number of GPUs."""

    def __post_init__(self) -> None:
        checks.within("Resources.cpu", self.cpu, 0.1, 512, "cores")
        checks.within("Resources.memory_mb", self.memory_mb, 64, 4_000_000, "MB")
        checks.within("Resources.gpu", self.gpu, 0, 64)
