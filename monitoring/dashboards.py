"""The dashboards as data: the platform's own, and one per project. `monitoring.grafana` writes them as Grafana reads them."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.windows import Windows
from phaseflow import kinds, prediction_types
from phaseflow.contract import Project
from phaseflow.reference import PREDICTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel as data: its title, description, unit and queries."""

    title: str
    text: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    """Pairs of expression and legend."""
    kind: str = "timeseries"
    width: int = 0
    minimum: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard as data: rows of panels, and annotations that are drawn over all of them."""

    uid: str
    title: str
    description: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    annotations: tuple[tuple[str, str, str], ...] = ()
    """Triples of name, expression and colour."""


def platform() -> Board:
    """The dashboard of the platform itself: DAG runs, pipelines and services."""
    return Board(
        uid="phaseflow-platform",
        title="phaseflow: the platform",
        description="Airflow, pipelines, services, and the loop that connects them.",
        rows=(
            ("Now", _platform_now()),
            ("Airflow", _airflow()),
            ("Kubeflow Pipelines", _pipelines()),
            ("Service and loop", _loop()),
        ),
    )


def of_project(project: Project, windows: Windows) -> Board:
    """The dashboard of a project: traffic, latency, drift, predictions, quality, versions and the last report."""
    selector = _selector(project)
    return Board(
        uid=f"phaseflow-{project.name.replace('_', '-')}",
        title=f"phaseflow: {project.title}",
        description=project.description,
        annotations=(
            ("Swaps", f"changes(phaseflow_model_swaps_total{{{selector}}}[30s]) > 0", "green"),
            ("Drift alert", f'ALERTS{{alertname="PhaseflowFeatureDrift",alertstate="firing",{selector}}}', "red"),
        ),
        rows=(
            ("Now", _now(project, windows)),
            ("Service", _service(project)),
            ("Drift", _drift(project, windows)),
            ("Quality and versions", _quality(project, windows)),
        ),
    )


def boards(projects: tuple[Project, ...], windows: Windows) -> tuple[Board, ...]:
    """The dashboard of the platform, then one per project."""
    return (platform(), *(of_project(project, windows) for project in projects))


def queries(dashboard: Board) -> list[tuple[str, str]]:
    """Every query of every panel, as (panel title, expression)."""
    return [(panel.title, expr) for _, panels in dashboard.rows for panel in panels for expr, _ in panel.queries]


def _stat(title: str, text: str, unit: str, expression: str, legend: str = "") -> Panel:
    return Panel(kind="stat", title=title, text=text, unit=unit, queries=((expression, legend),))


def _lines(
    title: str, text: str, unit: str, *queries: tuple[str, str], kind: str = "timeseries", minimum: float | None = 0.0
) -> Panel:
    return Panel(kind=kind, title=title, text=text, unit=unit, queries=queries, minimum=minimum)


def _platform_now() -> tuple[Panel, ...]:
    return (
        _stat("Services up", "Number of targets that Prometheus can scrape.", "short", "sum(up)"),
        _stat(
            "Projects served",
            "Number of projects with a champion.",
            "short",
            'count(phaseflow_model_info{alias="champion"})',
        ),
        _stat(
            "Requests",
            "Predict requests per second, over all projects.",
            "reqps",
            'sum(rate(phaseflow_requests_total{route="predict"}[1m]))',
        ),
        _stat("MLflow", "1 if the service can reach MLflow.", "short", "min(phaseflow_registry_up)"),
        _stat(
            "Rows waiting", "Logged predictions that are not in the store yet.", "short", "sum(phaseflow_spool_rows)"
        ),
        _stat(
            "Retrainings",
            "Number of retrainings that alerts have triggered.",
            "short",
            'sum(phaseflow_retrain_requests_total{outcome="triggered"})',
        ),
    )


def _airflow() -> tuple[Panel, ...]:
    return (
        _lines(
            "DAG runs",
            "Number of finished runs, by state.",
            "short",
            ("sum by (dag, state) (phaseflow_dag_runs_total)", "{{dag}} {{state}}"),
        ),
        _lines(
            "Duration of the last DAG run",
            "Time from start to end.",
            "s",
            ("phaseflow_dag_run_duration_seconds", "{{dag}}"),
        ),
        _lines(
            "Duration of tasks",
            "Duration of each task in the last run.",
            "s",
            ("phaseflow_task_duration_seconds", "{{dag}} {{task}}"),
        ),
        _lines(
            "Failed DAG runs",
            "Number of failed runs.",
            "short",
            ('sum by (dag) (phaseflow_dag_runs_total{state="failed"})', "{{dag}}"),
        ),
    )


def _pipelines() -> tuple[Panel, ...]:
    return (
        _lines(
            "Pipeline runs",
            "Number of finished runs, by state.",
            "short",
            ("sum by (project, state) (phaseflow_pipeline_runs_total)", "{{project}} {{state}}"),
        ),
        _lines(
            "Duration of the last pipeline run",
            "Time from creation to end.",
            "s",
            ("phaseflow_pipeline_run_duration_seconds", "{{project}}"),
        ),
    )


def _loop() -> tuple[Panel, ...]:
    return (
        _lines(
            "Requests by status",
            "Requests per second to all routes, by status code.",
            "reqps",
            ("sum by (code) (rate(phaseflow_requests_total[1m]))", "{{code}}"),
        ),
        _lines(
            "Retraining decisions",
            "Number of alerts that the hook has handled, by outcome.",
            "short",
            ("sum by (project, outcome) (phaseflow_retrain_requests_total)", "{{project}} {{outcome}}"),
        ),
        _lines(
            "Memory",
            "Resident memory of the scraped processes.",
            "bytes",
            ("process_resident_memory_bytes", "{{job}}"),
        ),
        _lines(
            "Worst drift",
            "Largest PSI of any feature, by project.",
            "short",
            ("max by (project) (phaseflow:feature_psi)", "{{project}}"),
        ),
    )


def _selector(project: Project) -> str:
    return f'project="{project.name}"'


def _predict(project: Project) -> str:
    return f'{_selector(project)},route="predict"'


def _quantile(project: Project, share: float) -> str:
    buckets = f"phaseflow_request_duration_seconds_bucket{{{_predict(project)}}}"
    return f"histogram_quantile({share}, sum by (le) (rate({buckets}[1m])))"


def _now(project: Project, windows: Windows) -> tuple[Panel, ...]:
    selector, window = _selector(project), windows.window(project)
    return (
        _stat(
            "Version",
            "The served champion.",
            "short",
            f'max by (version, candidate) (phaseflow_model_info{{{selector},alias="champion"}})',
            "{{version}} {{candidate}}",
        ),
        _stat(
            "Requests",
            "Predict requests per second.",
            "reqps",
            f"sum(rate(phaseflow_requests_total{{{_predict(project)}}}[1m]))",
        ),
        _stat("99th percentile", "99th percentile of the response time.", "s", _quantile(project, 0.99)),
        _stat(
            "Worst PSI",
            f"Largest PSI of any feature; the alert fires above {project.drift.psi:g}.",
            "short",
            f'max(phaseflow:feature_psi{{{selector},feature!~"{PREDICTIONS}"}})',
        ),
        _stat(
            "Rows in the window",
            f"Rows in the last {window}; drift is computed from {windows.rows(project)} rows on.",
            "short",
            f"phaseflow:window_rows{{{selector}}}",
        ),
        _stat(
            "Age of the model",
            "Time since the served version was registered.",
            "s",
            f"time() - max(phaseflow_model_created_timestamp_seconds{{{selector}}})",
        ),
    )


def _service(project: Project) -> tuple[Panel, ...]:
    selector = _selector(project)
    return (
        _lines(
            "Requests by status",
            "Requests per second to /predict, by status code.",
            "reqps",
            (f"sum by (code) (rate(phaseflow_requests_total{{{_predict(project)}}}[1m]))", "{{code}}"),
        ),
        _lines(
            "Latency",
            f"Response time of /predict; the objective is {project.objectives.latency_ms:g} ms.",
            "s",
            *((_quantile(project, share), name) for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))),
        ),
        _lines(
            "Rows by version",
            "Predicted rows per second, by version: a swap changes the colour, not the total.",
            "short",
            (f"sum by (version) (rate(phaseflow_rows_total{{{selector}}}[30s]))", "version {{version}}"),
        ),
        _lines(
            "Share of failed requests",
            f"The objective allows {1 - project.objectives.availability:.3%} over 30 days.",
            "percentunit",
            (f"phaseflow:request_errors:ratio_rate5m{{{selector}}}", "5 minutes"),
            (f"phaseflow:request_errors:ratio_rate1h{{{selector}}}", "1 hour"),
        ),
    )


def _drift(project: Project, windows: Windows) -> tuple[Panel, ...]:
    selector = _selector(project)
    # If a prediction has several descriptors, the first one.
    prediction, *_ = prediction_types.monitored_names(project.schema.target)
    bins = f'rate(phaseflow_feature_bin_total{{{selector},feature="{prediction}"}}[1m])'
    return (
        _lines(
            "PSI by feature",
            f"Live rows of the last {windows.window(project)} compared with the version's reference; "
            f"the alert fires above {project.drift.psi:g}.",
            "short",
            (f"phaseflow:feature_psi{{{selector}}}", "{{feature}}"),
            (f"phaseflow_drift_threshold{{{selector}}}", "threshold"),
        ),
        _lines(
            "Predictions by bin",
            "Share of predictions in each bin"
            + (f" of their {prediction.partition('.')[2]}." if "." in prediction else "."),
            "percentunit",
            (f"sum by (bin) ({bins}) / ignoring (bin) group_left () sum({bins})", "{{bin}}"),
        ),
        _lines(
            "Evidently: drift by feature",
            "Drift score of each feature in the last report.",
            "short",
            (f"phaseflow_report_feature_score{{{selector}}}", "{{feature}}"),
            minimum=None,
        ),
        _lines(
            "Evidently: drifted features",
            "Number of drifted features and of rows in the last report.",
            "short",
            (f"phaseflow_report_drifted_features{{{selector}}}", "drifted"),
            (f"phaseflow_report_rows{{{selector}}}", "rows"),
        ),
    )


def _quality(project: Project, windows: Windows) -> tuple[Panel, ...]:
    selector = _selector(project)
    return (
        *(_labelled(project, windows) if project.schema.target else ()),
        _lines(
            "Holdout metrics by version",
            "The metrics that the gate computed on the holdout.",
            "short",
            (f"phaseflow_model_metric{{{selector}}}", ""),
            kind="table",
            minimum=None,
        ),
        _lines(
            "Retraining decisions",
            "Number of alerts that the hook has handled, by outcome.",
            "short",
            (f"phaseflow_retrain_requests_total{{{selector}}}", "{{outcome}}"),
        ),
    )


def _labelled(project: Project, windows: Windows) -> tuple[Panel, ...]:
    """The panels of a project whose predictions receive labels."""
    selector, target = _selector(project), project.schema.target
    number = "squared" in kinds.of_target(target).losses
    unit = target.unit if number and target else ""
    return (
        _lines(
            "Live error" if number or prediction_types.is_structured(target) else "Live error rate",
            (f"Root mean squared error in {unit or 'the target unit'}" if number else "Error")
            + f" of predictions that received a label within {windows.window(project)}, by slice.",
            "short" if number else "percentunit",
            (f"phaseflow:live_loss{{{selector}}}", "{{slice}} {{value}}"),
        ),
        _lines(
            "Labels received",
            "Number of labels received, by the version that made the prediction.",
            "short",
            (f"sum by (version) (phaseflow_feedback_total{{{selector}}})", "version {{version}}"),
        ),
    )
