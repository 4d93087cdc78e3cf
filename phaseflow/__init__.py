"""phaseflow: an MLOps platform that derives everything from one declaration per machine-learning project."""

import importlib
import os
from typing import TYPE_CHECKING, Any

# Disables the telemetry of onnxruntime in every program. It is set here because onnxruntime reads it on import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from phaseflow.errors import ContractError, DataError, PermanentError, PhaseflowError, PlatformError

if TYPE_CHECKING:
    from phaseflow.contract import (
        Candidate,
        Column,
        Drift,
        File,
        Gate,
        Keep,
        Metric,
        Objectives,
        Project,
        Resources,
        Schema,
        Slice,
        Source,
    )

__all__ = [
    "Candidate",
    "Column",
    "ContractError",
    "DataError",
    "Drift",
    "File",
    "Gate",
    "Keep",
    "Metric",
    "Objectives",
    "PermanentError",
    "PhaseflowError",
    "PlatformError",
    "Project",
    "Resources",
    "Schema",
    "Slice",
    "Source",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the contract when it is first used: a registered model contains a part of this package without it."""
    if name in __all__:
        return getattr(importlib.import_module("phaseflow.contract"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
