"""MLflow helpers of the steps: a client that fails fast with clear errors, versions by alias, and downloads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from phaseflow.errors import PlatformError
from phaseflow.settings import from_environment

# mlflow reads these when it is imported. They disable telemetry and limit retries of an unavailable server to seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")  # its messages have the format of ours
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow  # after the settings above
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from phaseflow.clients import mlflow as aliases

Result = TypeVar("Result")


def client() -> mlflow.MlflowClient:
    """Return a client of the platform's MLflow."""
    address = from_environment().mlflow_url
    mlflow.set_tracking_uri(address)
    return mlflow.MlflowClient(address)


def translate_errors(call: Callable[[], Result]) -> Result:
    """Return the result of `call`. Raises PlatformError if MLflow can't be reached; other errors propagate."""
    try:
        return call()
    except MlflowException as error:
        if "API request to" in str(error) or "Max retries" in str(error) or "Connection" in str(error):
            raise PlatformError(
                f"MLflow at {from_environment().mlflow_url} can't be reached: {str(error).splitlines()[0][:200]}",
                fix="Start it (`phaseflow up`) and retry the step: what was trained is kept",
            ) from error
        raise


def by_alias(mlflow_client: mlflow.MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """Return the version that has the alias, or None. Raises PlatformError if MLflow can't be reached."""
    return translate_errors(lambda: aliases.by_alias(mlflow_client, name, alias))


def download(version: ModelVersion, folder: str) -> str:
    """Download the version's files to `folder` and return their path."""
    return translate_errors(
        lambda: str(
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{version.name}/{version.version}", dst_path=folder
            )
        )
    )
