"""What a project's `train` hands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model as the service will load it."""

    onnx: bytes
    classes: tuple[str, ...] = ()
    """Of a classifier, in the order of its probabilities."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG or GIF files that people look at (a learning curve), by name; kept with the model's run."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What happened, for the model card: a device, a starting point, a conversion gap."""
