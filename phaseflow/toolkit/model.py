"""The result of a project's `train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained model as the service loads it."""

    onnx: bytes
    classes: tuple[str, ...] = ()
    """The classes of a classifier, in the order of its probabilities."""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG or GIF files by name, such as a learning curve; stored with the model's run."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Facts about the training for the model card, such as the device or the conversion gap."""
