"""The contract: a machine-learning project as data.

A `Project` refers to its code by strings, so that every environment can read every project in milliseconds: Airflow
without scikit-learn, and the service without a training library. Each adapter derives its own artifacts from the
project. A code reference such as `"titanic.model:train"` is relative to the package `projects`.
"""

from phaseflow.columns import RESERVED, Column, Schema
from phaseflow.contract.gate import DIRECTIONS, METRICS, ORIGINS, Gate, Metric, Slice
from phaseflow.contract.monitoring import Drift, Objectives
from phaseflow.contract.project import PHASES, Project
from phaseflow.contract.retention import Keep
from phaseflow.contract.source import File, Source
from phaseflow.contract.training import ENVIRONMENTS, Candidate, Resources
from phaseflow.kinds import KINDS

__all__ = [
    "DIRECTIONS",
    "ENVIRONMENTS",
    "KINDS",
    "METRICS",
    "ORIGINS",
    "PHASES",
    "RESERVED",
    "Candidate",
    "Column",
    "Drift",
    "File",
    "Gate",
    "Keep",
    "Metric",
    "Objectives",
    "Project",
    "Resources",
    "Schema",
    "Slice",
    "Source",
]
