"""MLflow as the steps use it: a client that fails soon and clearly, versions by alias, downloads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from phaseflow.errors import PlatformError
from phaseflow.settings import from_environment

# Read by mlflow when it is imported: nothing is sent to anyone, and a server that is away is given up in seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow  # after the settings above
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

Answer = TypeVar("Answer")


def client() -> mlflow.MlflowClient:
    """A client of the platform's MLflow."""
    address = from_environment().mlflow_url
    mlflow.set_tracking_uri(address)
    return mlflow.MlflowClient(address)


def reach(call: Callable[[], Answer]) -> Answer:
    """The call's answer; raises PlatformError when MLflow can't be reached, other MlflowExceptions as they are."""
    try:
        return call()
    except MlflowException as error:
        if "API request to" in str(error) or "Max retries" in str(error) or "Connection" in str(error):
            raise PlatformError(
                f"MLflow at {from_environment().mlflow_url} can't be reached: {str(error).splitlines()[0][:200]}",
                fix="Start it (`phaseflow up`) and retry the step: what was trained is kept",
            ) from error
        raise


def by_alias(found: mlflow.MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version that an alias names, None where there is none."""
    try:
        return reach(lambda: found.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def download(version: ModelVersion, folder: str) -> str:
    """The version's files, in `folder`."""
    return reach(
        lambda: str(
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{version.name}/{version.version}", dst_path=folder
            )
        )
    )
