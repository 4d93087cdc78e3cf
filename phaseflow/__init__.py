"""phaseflow: an MLOps platform that derives everything from one declaration per machine-learning project."""

import os

# Disables the telemetry of onnxruntime in every program. It is set here because onnxruntime reads it on import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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
from phaseflow.errors import ContractError, DataError, PermanentError, PhaseflowError, PlatformError

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
