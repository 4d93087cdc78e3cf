"""phaseflow: one declaration of a machine-learning project, every part of an MLOps platform derived from it."""

import os

# Read when onnxruntime is imported, whichever program imports it: nothing is sent to anyone. Switching it off later is a race.
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
