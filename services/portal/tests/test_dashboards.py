from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from phaseflow import discovery
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings
from phaseflow.testing import until
from services.portal import dashboards
from services.portal.tests.conftest import HERE, HOSTILE, settings_for

Browse = Callable[[Settings], TestClient]


def panel(page: str, title: str) -> str:
    """The HTML of the panel called `title`."""
    parts = [part for part in page.split("<article")[1:] if f">{title}</h3>" in part]
    assert len(parts) == 1, title
    return parts[0].split("</article>")[0]


def plot(content: str) -> dict[str, Any]:
    """The data of the plot in a panel's HTML."""
    match = re.search(r'data-plot="([^"]+)"', content)
    assert match
    data: dict[str, Any] = json.loads(html.unescape(match[1]))
    return data


def test_every_kind_of_panel_is_drawn_from_prometheus(measured: Settings, browse: Browse) -> None:
    client = browse(measured)
    until(lambda: client.get("/dashboards/titanic").text.count("data-plot=") == 2)
    page = client.get("/dashboards/titanic").text
    assert "<h1>phaseflow: titanic</h1>" in page
    assert "project titanic" in page
    assert "req/s" in panel(page, "Requests")
    assert 't-bad"><b>0.5</b>' in panel(page, "Worst PSI")
    assert "<b>3 random_<wbr>forest</b>" in panel(page, "Version")
    assert [line["name"] for line in plot(panel(page, "Latency"))["lines"]] == ["p99"]
    assert plot(panel(page, "Latency"))["floor"] == 0
    psi = plot(panel(page, "PSI"))
    assert psi["thresholds"] == [0.25]
    values = {line["name"]: line["values"] for line in psi["lines"]}
    assert values.keys() == {"fare", HOSTILE}
    assert values["fare"][-1] == 0.5
    assert len(values["fare"]) == psi["count"]
    assert [text for _, text in psi["marks"]] == ["promotion"]
    assert "<td>champion</td>" in panel(page, "Versions")


def test_without_javascript_a_plot_is_a_table_of_its_series(measured: Settings, browse: Browse) -> None:
    content = panel(browse(measured).get("/dashboards/titanic").text, "PSI")
    row = next(row for row in content.split("<tr>") if "</i>fare</th>" in row)
    assert re.findall(r"<td[^>]*>([^<]+)</td>", row) == ["0.5", "0.5", "0.5"]


def test_a_panel_of_another_type_is_a_text(measured: Settings, browse: Browse) -> None:
    response = browse(measured).get("/dashboards/titanic")
    assert response.status_code == 200
    content = html.unescape(panel(response.text, "Elsewhere"))
    assert (
        "The portal can't draw panels of the type 'gauge'; supported: timeseries, stat, table. Open the dashboard in Grafana."
        in content
    )
    assert "No data" not in content


def test_an_empty_panel_shows_its_query(measured: Settings, browse: Browse) -> None:
    content = panel(browse(measured).get("/dashboards/titanic").text, "Nothing")
    assert "No data" in content
    assert html.escape('absent_metric{x="1"}', quote=True).replace("&quot;", "&#34;") in content


def test_hostile_labels_are_text(measured: Settings, browse: Browse) -> None:
    page = browse(measured).get("/dashboards/titanic").text
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_variable_is_chosen_by_grafanas_own_parameter(measured: Settings, browse: Browse) -> None:
    page = browse(measured).get("/dashboards/titanic", params={"var-project": "house_prices"}).text
    assert "project house_prices" in page
    assert "No data" in panel(page, "Worst PSI")


def test_a_query_that_prometheus_refuses_spoils_its_panel_alone(
    prometheus: str, tmp_path: Path, browse: Browse
) -> None:
    panels = [
        {"type": "stat", "title": title, "targets": [{"expr": expression}]}
        for title, expression in (("Wrong", 'up{job="'), ("Right", "phaseflow_registry_up"))
    ]
    (tmp_path / "two.json").write_text(json.dumps({"title": "Two", "panels": panels}))
    settings = replace(settings_for(tmp_path, prometheus=prometheus), dashboards=tmp_path)
    page = browse(settings).get("/dashboards/two").text
    assert "Prometheus refused" in panel(page, "Wrong")
    assert "<b>1</b>" in panel(page, "Right")


@pytest.mark.parametrize(
    "value", ['x"', 'x"} or up{job="prometheus', "x\\", "x\ny", "5m]) or vector(1", "x" * 201, "\ud7ff", ""]
)
def test_a_chosen_value_cannot_become_a_part_of_the_query(measured: Settings, browse: Browse, value: str) -> None:
    page = browse(measured).get("/dashboards/titanic", params={"var-project": value})
    assert page.status_code == 404
    assert "allowed: letters, digits and _.:|*+-, at most 200" in page.text
    assert "Choose a value from the dashboard&#39;s list." in page.text


GENERATED = ROOT / "monitoring" / "generated" / "dashboards"


@pytest.mark.parametrize(
    "name", ["phaseflow-platform", *(f"phaseflow-{n.replace('_', '-')}" for n in discovery.names())]
)
def test_the_dashboards_of_this_platform_are_drawn(measured: Settings, browse: Browse, name: str) -> None:
    page = browse(replace(measured, dashboards=GENERATED)).get(f"/dashboards/{name}").text
    assert page.count("<article") == sum(p["type"] != "row" for p in dashboards.load(GENERATED, name)["panels"])
    assert "Prometheus refused" not in page


def test_a_dashboard_knows_its_project(away: Settings, browse: Browse) -> None:
    page = browse(replace(away, dashboards=GENERATED)).get("/projects/house_prices").text
    assert 'href="/dashboards/phaseflow-house-prices"' in page


def test_without_prometheus_every_panel_shows_the_problem(away: Settings, browse: Browse) -> None:
    page = browse(away).get("/dashboards/titanic").text
    assert "Start it with <code>bin/phaseflow up</code>" in page
    assert "Prometheus is unavailable" in panel(page, "Latency")


@pytest.mark.parametrize("name", ["titanik", "../conftest", "..%2f..%2fpyproject", "%00"])
def test_an_unknown_dashboard_is_not_found(away: Settings, browse: Browse, name: str) -> None:
    assert browse(away).get(f"/dashboards/{name}").status_code == 404


def test_the_error_for_an_unknown_dashboard_lists_the_dashboards() -> None:
    with pytest.raises(PlatformError) as caught:
        dashboards.load(HERE / "dashboards", "titanik")
    assert str(caught.value) == """There is no dashboard 'titanik'; available: titanic. Did you mean "titanic"?"""


def test_a_broken_file_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "good.json").write_text(json.dumps({"title": "Good"}))
    assert dashboards.listed(tmp_path) == [dashboards.Link(name="good", title="Good")]
    with pytest.raises(
        PlatformError, match=r"list\.json does not contain a dashboard\. Generate it again with `make generate`"
    ):
        dashboards.load(tmp_path, "list")


def test_a_list_variable_takes_all_its_values(prometheus: str, tmp_path: Path, browse: Browse) -> None:
    content = {
        "title": "All",
        "templating": {
            "list": [
                {
                    "name": "feature",
                    "type": "query",
                    "query": "label_values(phaseflow:feature_psi, feature)",
                    "includeAll": True,
                }
            ]
        },
        "panels": [
            {
                "type": "stat",
                "title": "All of them",
                "targets": [{"expr": 'phaseflow:feature_psi{feature=~"$feature"}', "legendFormat": "{{feature}}"}],
            }
        ],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    settings = settings_for(tmp_path, prometheus=prometheus)
    client = browse(replace(settings, dashboards=tmp_path))
    assert panel(client.get("/dashboards/all").text, "All of them").count("<b>") == 2
