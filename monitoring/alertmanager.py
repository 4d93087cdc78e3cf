"""Alertmanager's configuration: alerts that retraining may resolve go to the hook, all others to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monitoring.receivers import RETRAIN
from monitoring.windows import Windows


def configuration(
    windows: Windows, hook_url: str, token_file: str, receivers: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Routes and receivers. The first of `receivers` gets the alerts that no retraining resolves."""
    return {
        "global": {"resolve_timeout": f"{windows.resolve_seconds}s"},
        "route": {
            "receiver": receivers[0]["name"],
            "group_by": ["alertname", "project"],
            "group_wait": f"{windows.group_seconds}s",
            "group_interval": f"{max(5, windows.group_seconds)}s",
            "repeat_interval": f"{windows.repeat_seconds}s",
            "routes": [{"matchers": ['action="retrain"'], "receiver": RETRAIN, "continue": False}],
        },
        "receivers": [
            *receivers,
            {
                "name": RETRAIN,
                "webhook_configs": [
                    {
                        "url": f"{hook_url}/hooks/alertmanager",
                        "send_resolved": True,
                        "max_alerts": 100,
                        "http_config": {"authorization": {"type": "Bearer", "credentials_file": token_file}},
                    }
                ],
            },
        ],
    }
