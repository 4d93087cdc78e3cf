"""What the demo observes: the traffic, and the state of Airflow, Prometheus and the service."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cli.demo.settings import RATE
from phaseflow.clients import airflow, alertmanager, prometheus, rest, serving
from phaseflow.contract import Project
from phaseflow.reference import PREDICTIONS
from phaseflow.settings import Settings


class TrafficMonitor:
    """Reads the progress of traffic in the background; `last` is the latest summary."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.last: dict[str, Any] = {"sent": 0, "failed": 0}
        self._thread = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self._thread.start()

    def _read(self, lines: Iterator[str]) -> None:
        with contextlib.suppress(ValueError):  # the pipe is closed if the demo ends early
            for line in lines:
                with contextlib.suppress(ValueError):  # an incomplete line if the process was killed
                    self.last = json.loads(line)

    def ended(self) -> dict[str, Any]:
        """Wait for the end of the output, and return the last summary."""
        self._thread.join(timeout=30)
        return self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Reads the state of one project. A state that is not reached yet is None or empty."""

    settings: Settings
    project: Project
    airflow: rest.Client
    prometheus: rest.Client

    @property
    def window_seconds(self) -> int:
        """Duration of the window over which drift is evaluated."""
        return self.settings.drift_window_seconds or self.project.drift.window_seconds

    @property
    def minimum_rows(self) -> int:
        """Rows that the window needs before drift is evaluated."""
        return self.settings.drift_minimum_rows or self.project.drift.minimum_rows

    @property
    def cooldown_seconds(self) -> int:
        """Minimum time between two automatic retrainings."""
        return self.settings.drift_cooldown_seconds or self.project.drift.cooldown_seconds

    def rate(self, latency_ms: float) -> float:
        """Rows per second that keep half a core busy and suffice to evaluate drift in half a window."""
        return min(RATE, max(500 / latency_ms, 2 * self.minimum_rows / self.window_seconds))

    def verdict(self, run_id: str) -> dict[str, Any]:
        """The gate's verdict, which is the result of the task that ran the pipeline."""
        return self.airflow.send(airflow.result(self.project.name, run_id, "train"))

    def feature_psi(self, version: str) -> dict[str, float]:
        """Live PSI of each feature; empty until the window has enough rows."""
        labels = f'project="{self.project.name}",version="{version}"'
        rows = self.prometheus.send(prometheus.query(f"phaseflow:window_rows{{{labels}}}"))
        if not rows or rows[0][1] < self.minimum_rows:
            return {}
        samples = self.prometheus.send(prometheus.query(f"phaseflow:feature_psi{{{labels}}}"))
        return {labels["feature"]: round(value, 3) for labels, value in samples}

    def firing_alerts(self) -> list[dict[str, Any]]:
        """Firing alerts that trigger a retraining."""
        return [
            alert
            for alert in self.prometheus.send(prometheus.alerts(self.project.name))
            if alert["state"] == "firing" and alert["labels"].get("action") == "retrain"
        ]

    def sent_alerts(self) -> list[dict[str, Any]]:
        """Alerts of the project that Alertmanager has."""
        return alertmanager.alerts(self.settings, self.project.name)

    def new_retraining(self, run_ids: list[str]) -> dict[str, Any] | None:
        """The oldest retraining that is not in `run_ids`."""
        retrainings = [
            dag_run
            for dag_run in self.airflow.send(airflow.runs(self.project.name))
            if dag_run["dag_run_id"].startswith("retrain__") and dag_run["dag_run_id"] not in run_ids
        ]
        return retrainings[-1] if retrainings else None

    def finished_run(self, run_id: str) -> dict[str, Any] | None:
        """The run, if it has ended."""
        run = self.airflow.send(airflow.run(self.project.name, run_id))
        return run if run["state"] in {"success", "failed"} else None

    def served_model(self, version: str = "") -> dict[str, Any] | None:
        """The served model, if it is of this version; an empty version is any."""
        model = serving.model(self.settings, self.project.name)
        return model if model and (not version or str(model["version"]) == version) else None

    def recovered_model(self) -> dict[str, Any] | None:
        """The served model with its `psi`, possibly of a later retraining, if it does not drift and no alert is active."""
        model = self.served_model()
        psi = self.feature_psi(str(model["version"])) if model else {}
        inputs = [value for name, value in psi.items() if not re.fullmatch(PREDICTIONS, name)]
        alerts = self.sent_alerts()
        if not model or not psi or max(inputs, default=0.0) >= self.project.drift.psi or self.firing_alerts():
            return None
        if any(alert["labels"].get("action") == "retrain" for alert in alerts):
            return None
        return model | {"psi": psi}
