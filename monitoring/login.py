"""The login of Prometheus and Alertmanager, as their web configuration (https://prometheus.io/docs/prometheus/latest/configuration/https)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import bcrypt
import yaml

from phaseflow.settings import USER

COST: Final = 10
"""Cost of bcrypt: about 0.05 s for each new password; Prometheus caches the known ones. The passwords have 128 random bits."""


def web_configuration(password: str, existing: Path) -> dict[str, Any]:
    """The web configuration that admits the user `phaseflow`.

    The hash in the file `existing` is reused if it matches the password: a new hash, with a new salt, would change the file every time.
    """
    hashed = _hash(existing)
    if not _matches(password, hashed):
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(COST)).decode()
    return {"basic_auth_users": {USER: hashed}}


def credentials(password_file: str) -> dict[str, str]:
    """`basic_auth` of a client such as Prometheus, which reads the password from a file for each request."""
    return {"username": USER, "password_file": password_file}


def _hash(path: Path) -> str:
    try:
        return str(yaml.safe_load(path.read_text())["basic_auth_users"][USER])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return ""


def _matches(password: str, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), hashed.encode())
    except ValueError:  # not a valid hash
        return False
