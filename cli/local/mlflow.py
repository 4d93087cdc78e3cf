"""The MLflow server on one machine: SQLite and a folder, one worker, loopback interface only, no telemetry."""

from __future__ import annotations

from phaseflow.settings import Settings


def command(settings: Settings) -> list[str]:
    """Command line of the server."""
    home = settings.home / "mlflow"
    database = f"sqlite:///{home / 'mlflow.db'}"
    return [
        # The server refuses a database schema that is older than its version.
        *(str(settings.python("registry")), "-m", "services.registry.schema", database),
        str(settings.venvs / "registry" / "bin" / "mlflow"),
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(settings.port("mlflow")),
        "--workers",
        "1",
        "--backend-store-uri",
        database,
        "--artifacts-destination",
        str(home / "artifacts"),
        "--serve-artifacts",
        "--allowed-hosts",
        "localhost:*,127.0.0.1:*,localhost,127.0.0.1",
    ]


def environment() -> dict[str, str]:
    """Environment variables of the server: no job runner, which is 8 of its 10 processes, and no telemetry."""
    return {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
