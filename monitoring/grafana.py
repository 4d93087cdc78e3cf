"""The dashboards in Grafana's format, built with Grafana's foundation SDK (https://grafana.github.io/grafana-foundation-sdk)."""

from __future__ import annotations

from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueTextMode
from grafana_foundation_sdk.models.dashboard import AnnotationQuery, DashboardCursorSync, DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.dashboards import Board, Panel

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTHS: Final = {"stat": 4, "timeseries": 12, "table": 12}
HEIGHTS: Final = {"stat": 4, "timeseries": 8, "table": 8}


def to_json(dashboard: Board) -> str:
    """The dashboard as Grafana reads it."""
    builder = (
        board.Dashboard(dashboard.title)
        .uid(dashboard.uid)
        .description(dashboard.description)
        .tags(["phaseflow"])
        .refresh("5s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for name, expr, colour in dashboard.annotations:
        builder = builder.annotation(_Annotation(name, expr, colour))
    number = 0
    for title, panels in dashboard.rows:
        builder = builder.with_row(board.Row(title))
        for panel in panels:
            number += 1
            builder = builder.with_panel(_panel(panel).id(number))
    return JSONEncoder(sort_keys=True, indent=1).encode(builder.build()) + "\n"


class _Annotation(Builder[AnnotationQuery]):
    """An annotation from a Prometheus query; the SDK's own builder supports no expressions."""

    def __init__(self, name: str, expr: str, colour: str) -> None:
        self.query = AnnotationQuery(
            name=name, datasource=SOURCE, enable=True, hide=False, icon_color=colour, expr=expr
        )

    def build(self) -> AnnotationQuery:
        return self.query


def _panel(panel: Panel) -> Any:
    builder: Any
    if panel.kind == "stat":
        builder = stat.Panel().color_mode(BigValueColorMode.NONE)
        if panel.title == "Version":  # its value is always 1; its labels are the information
            builder = builder.text_mode(BigValueTextMode.NAME)
    elif panel.kind == "table":
        builder = table.Panel()
    else:
        builder = timeseries.Panel().fill_opacity(8).line_width(2)
    builder = builder.title(panel.title).description(panel.text).unit(panel.unit).datasource(SOURCE)
    builder = builder.height(HEIGHTS[panel.kind]).span(panel.width or WIDTHS[panel.kind])
    if panel.minimum is not None and panel.kind == "timeseries":
        builder = builder.min(panel.minimum)
    for letter, (expr, legend) in zip("ABCDEF", panel.queries, strict=False):
        query = prometheus.Dataquery().expr(expr).ref_id(letter)
        query = query.legend_format(legend) if legend else query
        if panel.kind != "timeseries":
            query = query.instant()
        if panel.kind == "table":
            query = query.format(PromQueryFormat.TABLE)
        builder = builder.with_target(query)
    return builder
