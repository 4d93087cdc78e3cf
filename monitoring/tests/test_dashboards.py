"""The dashboards as Grafana reads them."""

from __future__ import annotations

import json
import re

import pytest

from monitoring import dashboards, grafana
from monitoring.windows import Windows
from phaseflow import Project, discovery

WINDOWS = Windows(window_seconds=600, minimum_rows=100, hold_seconds=60)


@pytest.mark.parametrize("project", discovery.all_projects(), ids=lambda project: project.name)
def test_every_panel_has_a_title_a_description_and_a_unit(project: Project) -> None:
    for board in (dashboards.platform(), dashboards.of_project(project, WINDOWS)):
        content = json.loads(grafana.to_json(board))
        panels = [panel for panel in content["panels"] if panel["type"] != "row"]
        assert len(panels) >= 14
        for panel in panels:
            assert panel["title"]
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "prometheus"}
            assert all(target["expr"] for target in panel["targets"])
        assert len({panel["id"] for panel in panels}) == len(panels)


def test_no_query_holds_an_unresolved_name() -> None:
    for board in dashboards.boards(discovery.all_projects(), WINDOWS):
        for panel, query in dashboards.queries(board):
            assert not re.search(r"[{}]{2}|\$(?!1)", query.replace("{{", "")), (panel, query)
