"""Receivers of Alertmanager for people, in Alertmanager's own format: the setting `alert_receivers` names their file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from phaseflow.errors import PlatformError

RETRAIN: Final = "retrain"
"""Name of the receiver that starts retrainings."""
FORMAT: Final = "Write a list of receivers as in Alertmanager's configuration; docs/how-to/send-alerts.md has examples"


def read(path: Path | None) -> list[dict[str, Any]]:
    """Read the receivers. The first one gets every alert that no retraining resolves; without a file, nobody gets them.

    Raises PlatformError if the file can't be read, or is not a list of receivers with different names.
    """
    if path is None:
        return [{"name": "people"}]
    try:
        receivers = yaml.safe_load(path.read_text())
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        problem = str(error).splitlines()[0]
        raise PlatformError(
            f"The receivers of alerts can't be read from {path}: {problem}",
            fix="Correct the file, or unset PHASEFLOW_ALERT_RECEIVERS",
        ) from error
    if not isinstance(receivers, list) or not receivers:
        raise PlatformError(f"{path} is not a list of receivers", fix=FORMAT)
    names = [str(receiver.get("name") or "") if isinstance(receiver, dict) else "" for receiver in receivers]
    if not all(names):
        raise PlatformError(f"{path} has a receiver without a name", fix=FORMAT)
    if RETRAIN in names:
        raise PlatformError(
            f"{path} has a receiver {RETRAIN!r}, which is the one that starts retrainings", fix="Rename it"
        )
    if len(set(names)) < len(names):
        raise PlatformError(f"{path} has two receivers of the same name: {', '.join(names)}", fix="Rename one of them")
    return receivers
