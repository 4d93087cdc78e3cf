"""Passwords and tokens, generated once and stored in files that only their owner can read."""

from __future__ import annotations

import base64
import secrets
from typing import Final

from phaseflow.settings import Settings
from phaseflow.store import write_atomic

NAMES: Final = (
    "airflow_admin_password",
    "airflow_jwt",
    "airflow_fernet",
    "hook_token",
    "engine_token",
    "prometheus_password",
    "alertmanager_password",
    "grafana_admin_password",
    "mlflow_flask_key",
    "evidently_secret",
    "personal_key",
)


def ensure(settings: Settings) -> None:
    """Generate the missing ones. The folder has mode 0700, and each file mode 0600.

    Raises PlatformError if they can't be written.
    """
    settings.secrets.mkdir(parents=True, exist_ok=True)
    settings.secrets.chmod(0o700)
    for name in NAMES:
        path = settings.secrets / name
        if not path.exists():
            write_atomic(path, _new(name).encode(), mode=0o600)


def _new(name: str) -> str:
    if (
        name == "airflow_fernet"
    ):  # https://cryptography.io/en/latest/fernet/: 32 bytes, URL-safe base64 with its padding
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(16 if name.endswith("password") else 32)
