"""Alertmanager's configuration: alerts that retraining may resolve go to the hook."""

from __future__ import annotations

from typing import Any

from monitoring.windows import Windows


def configuration(windows: Windows, hook_url: str, token_file: str) -> dict[str, Any]:
    """Routes and receivers; add receivers for mail or chat next to `people`."""
    return {
        "global": {"resolve_timeout": f"{windows.resolve_seconds}s"},
        "route": {
            "receiver": "people",
            "group_by": ["alertname", "project"],
            "group_wait": f"{windows.group_seconds}s",
            "group_interval": f"{max(5, windows.group_seconds)}s",
            "repeat_interval": f"{windows.repeat_seconds}s",
            "routes": [{"matchers": ['action="retrain"'], "receiver": "retrain", "continue": False}],
        },
        "receivers": [
            {"name": "people"},
            {
                "name": "retrain",
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
