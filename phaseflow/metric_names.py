"""The metrics that the platform exposes, in one place: services, alert rules, dashboards, portal and documentation use this list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LATENCY_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the request histogram, in seconds."""


@dataclass(frozen=True, slots=True)
class Exposed:
    """One metric. The exposition adds `_total` to the name of a counter."""

    name: str
    type: str
    """`counter`, `gauge`, `histogram`, or `rule` for a recording rule of Prometheus."""
    labels: tuple[str, ...]
    sources: tuple[str, ...]
    """The services that expose it."""
    help: str

    @property
    def series(self) -> str:
        """The name in queries; a histogram has the suffixes `_bucket`, `_count` and `_sum` besides."""
        return f"{self.name}_total" if self.type == "counter" else self.name


_VERSION = ("project", "version")
_LOSS = ("project", "version", "loss", "slice", "value")
_BIN = ("project", "version", "feature", "bin")
_SERVING, _MONITOR, _RULES = ("serving",), ("monitor",), ("Prometheus",)

METRICS: Final = (
    Exposed("phaseflow_requests", "counter", ("project", "route", "code"), _SERVING, "Requests per status."),
    Exposed("phaseflow_request_duration_seconds", "histogram", ("project", "route"), _SERVING, "Duration of requests."),
    Exposed("phaseflow_rows", "counter", _VERSION, _SERVING, "Predicted rows."),
    Exposed(
        "phaseflow_feedback", "counter", _VERSION, _SERVING, "Received labels; the version is empty if it is not known."
    ),
    Exposed("phaseflow_live_loss", "counter", _LOSS, _SERVING, "Sum of the loss of predictions with a label."),
    Exposed("phaseflow_live_loss_rows", "counter", _LOSS, _SERVING, "Predictions with a label."),
    Exposed("phaseflow_feature_bin", "counter", _BIN, _SERVING, "Live values per bin of the reference."),
    Exposed("phaseflow_feature_bin_reference", "gauge", _BIN, _SERVING, "Share of the reference per bin."),
    Exposed("phaseflow_model_info", "gauge", (*_VERSION, "alias", "candidate"), _SERVING, "The served version; 1."),
    Exposed(
        "phaseflow_model_metric", "gauge", (*_VERSION, "metric"), _SERVING, "Metrics of the version on its holdout."
    ),
    Exposed(
        "phaseflow_model_created_timestamp_seconds", "gauge", _VERSION, _SERVING, "Creation time of the served version."
    ),
    Exposed("phaseflow_model_swaps", "counter", ("project",), _SERVING, "Swaps to another version."),
    Exposed(
        "phaseflow_model_load_failures",
        "counter",
        ("project", "reason"),
        _SERVING,
        "Versions that could not be loaded.",
    ),
    Exposed("phaseflow_registry_up", "gauge", (), _SERVING, "Whether MLflow is reachable."),
    Exposed("phaseflow_spool_rows", "gauge", (), _SERVING, "Logged rows that are not in the store yet."),
    Exposed("phaseflow_drift_threshold", "gauge", ("project",), _SERVING, "PSI above which drift is reported."),
    Exposed("phaseflow_drift_minimum_rows", "gauge", ("project",), _SERVING, "Minimum rows for a drift verdict."),
    Exposed(
        "phaseflow_loop_last_iteration_timestamp_seconds",
        "gauge",
        ("loop",),
        ("serving", "monitor", "pipeline engine"),
        "Time of a background loop's last successful iteration.",
    ),
    Exposed("phaseflow_dag_runs", "counter", ("dag", "state"), _MONITOR, "DAG runs that ended."),
    Exposed("phaseflow_dag_runs_running", "gauge", ("dag",), _MONITOR, "DAG runs that are queued or running."),
    Exposed("phaseflow_dag_run_duration_seconds", "gauge", ("dag",), _MONITOR, "Duration of the last run."),
    Exposed(
        "phaseflow_dag_last_success_timestamp_seconds", "gauge", ("dag",), _MONITOR, "Time of the last successful run."
    ),
    Exposed(
        "phaseflow_task_duration_seconds", "gauge", ("dag", "task"), _MONITOR, "Duration of the task in the last run."
    ),
    Exposed("phaseflow_pipeline_runs", "counter", ("project", "state"), _MONITOR, "Pipeline runs that ended."),
    Exposed(
        "phaseflow_pipeline_runs_running", "gauge", ("project",), _MONITOR, "Pipeline runs that are pending or running."
    ),
    Exposed("phaseflow_pipeline_run_duration_seconds", "gauge", ("project",), _MONITOR, "Duration of the last run."),
    Exposed("phaseflow_report_timestamp_seconds", "gauge", ("project",), _MONITOR, "Time of the last report."),
    Exposed("phaseflow_report_rows", "gauge", ("project",), _MONITOR, "Rows of the last report."),
    Exposed(
        "phaseflow_report_drifted_features", "gauge", ("project",), _MONITOR, "Drifted features in the last report."
    ),
    Exposed(
        "phaseflow_report_tests",
        "gauge",
        ("project", "status"),
        _MONITOR,
        "Evidently's tests in the last report by status.",
    ),
    Exposed(
        "phaseflow_report_feature_score",
        "gauge",
        ("project", "feature"),
        _MONITOR,
        "Drift score per feature in the last report.",
    ),
    Exposed(
        "phaseflow_retrain_requests", "counter", ("project", "outcome"), _MONITOR, "Retraining decisions by outcome."
    ),
    Exposed(
        "phaseflow:feature_psi", "rule", (*_VERSION, "feature"), _RULES, "PSI of a monitored feature of the champion."
    ),
    Exposed("phaseflow:window_rows", "rule", _VERSION, _RULES, "Rows of the champion in the drift window."),
    Exposed("phaseflow:live_loss", "rule", (*_VERSION, "slice", "value"), _RULES, "Mean live loss of the champion."),
    Exposed(
        "phaseflow:request_errors:ratio_rate<window>", "rule", ("project",), _RULES, "Share of requests that fail."
    ),
    Exposed("phaseflow:request_slow:ratio_rate<window>", "rule", ("project",), _RULES, "Share of slow requests."),
)
"""Every metric, in the order of the reference page."""
BY_NAME: Final = {metric.name: metric for metric in METRICS}
