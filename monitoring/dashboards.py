"""Project -> Grafana dashboards, with Grafana's own foundation SDK (https://grafana.github.io/grafana-foundation-sdk)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueTextMode
from grafana_foundation_sdk.models.dashboard import AnnotationQuery, DashboardCursorSync, DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.windows import Windows
from phaseflow import answers
from phaseflow.contract import Project
from phaseflow.reference import PREDICTIONS

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTHS: Final = {"stat": 4, "timeseries": 12, "table": 12}
HEIGHTS: Final = {"stat": 4, "timeseries": 8, "table": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel as data: what it shows, in which unit, by which queries."""

    title: str
    text: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    """Expression and legend."""
    kind: str = "timeseries"
    width: int = 0
    minimum: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard as data: rows of panels, and the events that are drawn over all of them."""

    uid: str
    title: str
    description: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    annotations: tuple[tuple[str, str, str], ...] = ()
    """Name, expression, colour."""


def platform() -> Board:
    """DAG runs, pipelines, services: is the platform itself well?"""
    return Board(
        uid="phaseflow-platform",
        title="phaseflow: the platform",
        description="Airflow, pipelines, services and the loop between them.",
        rows=(
            (
                "Now",
                (
                    Panel(
                        kind="stat",
                        title="Services up",
                        text="Scraped targets that answer.",
                        unit="short",
                        queries=(("sum(up)", ""),),
                    ),
                    Panel(
                        kind="stat",
                        title="Projects served",
                        text="Projects with a champion.",
                        unit="short",
                        queries=(('count(phaseflow_model_info{alias="champion"})', ""),),
                    ),
                    Panel(
                        kind="stat",
                        title="Requests",
                        text="Answered a second, all projects.",
                        unit="reqps",
                        queries=(('sum(rate(phaseflow_requests_total{route="predict"}[1m]))', ""),),
                    ),
                    Panel(
                        kind="stat",
                        title="MLflow",
                        text="1 where the service reaches it.",
                        unit="short",
                        queries=(("min(phaseflow_registry_up)", ""),),
                    ),
                    Panel(
                        kind="stat",
                        title="Rows waiting",
                        text="Logged predictions not yet in the store.",
                        unit="short",
                        queries=(("sum(phaseflow_spool_rows)", ""),),
                    ),
                    Panel(
                        kind="stat",
                        title="Retrainings",
                        text="Started by alerts.",
                        unit="short",
                        queries=(('sum(phaseflow_retrain_requests_total{outcome="triggered"})', ""),),
                    ),
                ),
            ),
            (
                "Airflow",
                (
                    Panel(
                        title="DAG runs",
                        text="Runs that ended, by state.",
                        unit="short",
                        queries=(("sum by (dag, state) (phaseflow_dag_runs_total)", "{{dag}} {{state}}"),),
                    ),
                    Panel(
                        title="Duration of the last DAG run",
                        text="From start to end.",
                        unit="s",
                        queries=(("phaseflow_dag_run_duration_seconds", "{{dag}}"),),
                    ),
                    Panel(
                        title="Duration of the last task",
                        text="By task.",
                        unit="s",
                        queries=(("phaseflow_task_duration_seconds", "{{dag}} {{task}}"),),
                    ),
                    Panel(
                        title="Failed DAG runs",
                        text="All that have failed.",
                        unit="short",
                        queries=(('sum by (dag) (phaseflow_dag_runs_total{state="failed"})', "{{dag}}"),),
                    ),
                ),
            ),
            (
                "Kubeflow Pipelines",
                (
                    Panel(
                        title="Pipeline runs",
                        text="Runs that ended, by state.",
                        unit="short",
                        queries=(("sum by (project, state) (phaseflow_pipeline_runs_total)", "{{project}} {{state}}"),),
                    ),
                    Panel(
                        title="Duration of the last pipeline run",
                        text="From creation to end.",
                        unit="s",
                        queries=(("phaseflow_pipeline_run_duration_seconds", "{{project}}"),),
                    ),
                ),
            ),
            (
                "Service and loop",
                (
                    Panel(
                        title="Requests by status",
                        text="All routes.",
                        unit="reqps",
                        queries=(("sum by (code) (rate(phaseflow_requests_total[1m]))", "{{code}}"),),
                    ),
                    Panel(
                        title="Retrain decisions",
                        text="What the hook did with alerts.",
                        unit="short",
                        queries=(
                            ("sum by (project, outcome) (phaseflow_retrain_requests_total)", "{{project}} {{outcome}}"),
                        ),
                    ),
                    Panel(
                        title="Memory",
                        text="Resident, of scraped processes.",
                        unit="bytes",
                        queries=(("process_resident_memory_bytes", "{{job}}"),),
                    ),
                    Panel(
                        title="Worst drift",
                        text="Largest PSI of a project's features.",
                        unit="short",
                        queries=(("max by (project) (phaseflow:feature_psi)", "{{project}}"),),
                    ),
                ),
            ),
        ),
    )


def of_project(project: Project, windows: Windows) -> Board:
    """Traffic, latency, quality, drift, predictions, versions, the last report."""
    name = project.name
    mine = f'project="{name}"'
    predict = f'{mine},route="predict"'
    window = windows.window(project)

    def quantile(share: float) -> str:
        return f"histogram_quantile({share}, sum by (le) (rate(phaseflow_request_duration_seconds_bucket{{{predict}}}[1m])))"

    said, *_ = answers.watched(project.schema.target)  # of what has several figures the first one
    number = project.schema.target is not None and project.schema.target.kind in {"number", "integer", "action"}
    unit = project.schema.target.unit if number and project.schema.target else ""
    quality = Panel(
        title="Live error" if number or answers.structured(project.schema.target) else "Live share of wrong answers",
        text=f"Of answers whose truth came back within {window}, by slice"
        + (f"; root mean squared, in {unit or 'the target unit'}." if number else "."),
        unit="short" if number else "percentunit",
        queries=((f"phaseflow:live_loss{{{mine}}}", "{{slice}} {{value}}"),),
    )
    truths = Panel(
        title="Truths that came back",
        text="By the version that had answered.",
        unit="short",
        queries=((f"sum by (version) (phaseflow_feedback_total{{{mine}}})", "version {{version}}"),),
    )
    return Board(
        uid=f"phaseflow-{name.replace('_', '-')}",
        title=f"phaseflow: {project.title}",
        description=project.description,
        annotations=(
            ("Swaps", f"changes(phaseflow_model_swaps_total{{{mine}}}[30s]) > 0", "green"),
            ("Drift alert", f'ALERTS{{alertname="PhaseflowFeatureDrift",alertstate="firing",{mine}}}', "red"),
        ),
        rows=(
            (
                "Now",
                (
                    Panel(
                        kind="stat",
                        title="Version",
                        text="The champion that answers.",
                        unit="short",
                        queries=(
                            (
                                f'max by (version, candidate) (phaseflow_model_info{{{mine},alias="champion"}})',
                                "{{version}} {{candidate}}",
                            ),
                        ),
                    ),
                    Panel(
                        kind="stat",
                        title="Requests",
                        text="Answered a second.",
                        unit="reqps",
                        queries=((f"sum(rate(phaseflow_requests_total{{{predict}}}[1m]))", ""),),
                    ),
                    Panel(
                        kind="stat",
                        title="99th percentile",
                        text="Time to answer.",
                        unit="s",
                        queries=((quantile(0.99), ""),),
                    ),
                    Panel(
                        kind="stat",
                        title="Worst PSI",
                        text=f"Fires at {project.drift.psi:g}.",
                        unit="short",
                        queries=((f'max(phaseflow:feature_psi{{{mine},feature!~"{PREDICTIONS}"}})', ""),),
                    ),
                    Panel(
                        kind="stat",
                        title="Rows in the window",
                        text=f"Of {window}; {windows.rows(project)} give a verdict.",
                        unit="short",
                        queries=((f"phaseflow:window_rows{{{mine}}}", ""),),
                    ),
                    Panel(
                        kind="stat",
                        title="Age of the model",
                        text="Since it was registered.",
                        unit="s",
                        queries=((f"time() - max(phaseflow_model_created_timestamp_seconds{{{mine}}})", ""),),
                    ),
                ),
            ),
            (
                "Service",
                (
                    Panel(
                        title="Requests by status",
                        text="Of /predict.",
                        unit="reqps",
                        queries=((f"sum by (code) (rate(phaseflow_requests_total{{{predict}}}[1m]))", "{{code}}"),),
                    ),
                    Panel(
                        title="Latency",
                        text=f"The objective is {project.objectives.latency_ms:g} ms.",
                        unit="s",
                        queries=((quantile(0.5), "median"), (quantile(0.95), "95 %"), (quantile(0.99), "99 %")),
                    ),
                    Panel(
                        title="Rows by version",
                        text="A swap changes the colour, not the height.",
                        unit="short",
                        queries=(
                            (f"sum by (version) (rate(phaseflow_rows_total{{{mine}}}[30s]))", "version {{version}}"),
                        ),
                    ),
                    Panel(
                        title="Share of requests that fail",
                        text=f"{1 - project.objectives.availability:.3%} are allowed over 30 days.",
                        unit="percentunit",
                        queries=(
                            (f"phaseflow:request_errors:ratio_rate5m{{{mine}}}", "5 minutes"),
                            (f"phaseflow:request_errors:ratio_rate1h{{{mine}}}", "1 hour"),
                        ),
                    ),
                ),
            ),
            (
                "Drift",
                (
                    Panel(
                        title="PSI by feature",
                        text=f"Live against the version's reference over {window}; fires at {project.drift.psi:g}.",
                        unit="short",
                        queries=(
                            (f"phaseflow:feature_psi{{{mine}}}", "{{feature}}"),
                            (f"phaseflow_drift_threshold{{{mine}}}", "fires"),
                        ),
                    ),
                    Panel(
                        title="Predictions by bin",
                        text="Share of each bin of the answers"
                        + (f", by their {said.partition('.')[2]}." if "." in said else "."),
                        unit="percentunit",
                        queries=(
                            (
                                f'sum by (bin) (rate(phaseflow_feature_bin_total{{{mine},feature="{said}"}}[1m])) / ignoring (bin) group_left () sum(rate(phaseflow_feature_bin_total{{{mine},feature="{said}"}}[1m]))',
                                "{{bin}}",
                            ),
                        ),
                    ),
                    Panel(
                        title="Evidently: drift by feature",
                        text="Score of the last report.",
                        unit="short",
                        minimum=None,
                        queries=((f"phaseflow_report_feature_score{{{mine}}}", "{{feature}}"),),
                    ),
                    Panel(
                        title="Evidently: drifted features",
                        text="Of the last report, and the rows that it saw.",
                        unit="short",
                        queries=(
                            (f"phaseflow_report_drifted_features{{{mine}}}", "drifted"),
                            (f"phaseflow_report_rows{{{mine}}}", "rows"),
                        ),
                    ),
                ),
            ),
            (
                "Quality and versions",
                (
                    *((quality, truths) if project.schema.target else ()),
                    Panel(
                        title="The version's figures on its holdout",
                        text="At the gate.",
                        kind="table",
                        unit="short",
                        minimum=None,
                        queries=((f"phaseflow_model_metric{{{mine}}}", ""),),
                    ),
                    Panel(
                        title="Retrain decisions",
                        text="What the hook did with alerts.",
                        unit="short",
                        queries=((f"phaseflow_retrain_requests_total{{{mine}}}", "{{outcome}}"),),
                    ),
                ),
            ),
        ),
    )


def boards(projects: tuple[Project, ...], windows: Windows) -> tuple[Board, ...]:
    """All of them."""
    return (platform(), *(of_project(project, windows) for project in projects))


def queries(found: Board) -> list[tuple[str, str]]:
    """Every panel's every query: (panel's title, expression)."""
    return [(panel.title, expr) for _, panels in found.rows for panel in panels for expr, _ in panel.queries]


def to_json(found: Board) -> str:
    """The dashboard as Grafana reads it."""
    builder = (
        board.Dashboard(found.title)
        .uid(found.uid)
        .description(found.description)
        .tags(["phaseflow"])
        .refresh("5s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for name, expr, colour in found.annotations:
        builder = builder.annotation(_Annotation(name, expr, colour))
    number = 0
    for title, panels in found.rows:
        builder = builder.with_row(board.Row(title))
        for panel in panels:
            number += 1
            builder = builder.with_panel(_panel(panel).id(number))
    return JSONEncoder(sort_keys=True, indent=1).encode(builder.build()) + "\n"


class _Annotation(Builder[AnnotationQuery]):
    """An annotation by a Prometheus query; the SDK's own builder knows no expression."""

    def __init__(self, name: str, expr: str, colour: str) -> None:
        self.query = AnnotationQuery(
            name=name, datasource=SOURCE, enable=True, hide=False, icon_color=colour, expr=expr
        )

    def build(self) -> AnnotationQuery:
        return self.query


def _panel(panel: Panel) -> Any:
    made: Any
    if panel.kind == "stat":
        made = stat.Panel().color_mode(BigValueColorMode.NONE)
        if panel.title == "Version":  # its value is 1; what it says is its labels
            made = made.text_mode(BigValueTextMode.NAME)
    elif panel.kind == "table":
        made = table.Panel()
    else:
        made = timeseries.Panel().fill_opacity(8).line_width(2)
    made = made.title(panel.title).description(panel.text).unit(panel.unit).datasource(SOURCE)
    made = made.height(HEIGHTS[panel.kind]).span(panel.width or WIDTHS[panel.kind])
    if panel.minimum is not None and panel.kind == "timeseries":
        made = made.min(panel.minimum)
    for letter, (expr, legend) in zip("ABCDEF", panel.queries, strict=False):
        query = prometheus.Dataquery().expr(expr).ref_id(letter)
        query = query.legend_format(legend) if legend else query
        if panel.kind != "timeseries":
            query = query.instant()
        if panel.kind == "table":
            query = query.format(PromQueryFormat.TABLE)
        made = made.with_target(query)
    return made
