"""Aliases of MLflow's model registry, for the environments with MLflow."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from phaseflow.clients.mlflow_errors import ABSENT


def by_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the version of the model `name` that has the alias, or None. Raises MlflowException if MLflow fails."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise
