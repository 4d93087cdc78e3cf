from __future__ import annotations

import html
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from phaseflow import registry
from phaseflow.errors import PlatformError
from phaseflow.settings import ROOT, Settings
from services.portal import dashboards
from services.portal.tests.conftest import HERE, HOSTILE, eventually, settings_for

Browse = Callable[[Settings], TestClient]


def panel(page: str, title: str) -> str:
    """The HTML of the panel called `title`."""
    parts = [part for part in page.split("<article")[1:] if f">{title}</h3>" in part]
    assert len(parts) == 1, title
    return parts[0].split("</article>")[0]


def test_every_kind_of_panel_is_drawn_from_prometheus(measured: Settings, browse: Browse) -> None:
    client = browse(measured)
    eventually(lambda: client.get("/dashboards/titanic").text.count('class="line"') >= 6)  # two points of each rate
    page = client.get("/dashboards/titanic").text
    assert "Titanic survival" in page
    assert "project titanic" in page
    assert "req/s" in panel(page, "Requests")
    assert 't-bad"><b>0.5</b>' in panel(page, "Worst PSI")
    assert "<b>up</b>" in panel(page, "Registry")
    assert "p99" in panel(page, "Latency")
    assert '<path class="line" d="M' in panel(page, "Latency")
    assert 'class="rule"' in panel(page, "PSI")
    assert "75 %" in panel(page, "Prediction mix")
    assert panel(page, "PSI now").count('class="bar"') == 2
    assert "<td>champion</td>" in panel(page, "Versions")
    assert "<th>is</th>" in panel(page, "Versions")
    assert "same" in panel(page, "About")


def test_an_empty_panel_says_so_with_its_query(measured: Settings, browse: Browse) -> None:
    said = panel(browse(measured).get("/dashboards/titanic").text, "Nothing")
    assert "No data" in said
    assert html.escape('absent_metric{x="1"}', quote=True).replace("&quot;", "&#34;") in said


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
    assert "Choose a value from the dashboard&#39;s own list." in page.text


GENERATED = ROOT / "monitoring" / "generated" / "dashboards"


@pytest.mark.parametrize(
    "name", ["phaseflow-platform", *(f"phaseflow-{n.replace('_', '-')}" for n in registry.names())]
)
def test_the_dashboards_of_this_platform_are_drawn(measured: Settings, browse: Browse, name: str) -> None:
    page = browse(replace(measured, dashboards=GENERATED)).get(f"/dashboards/{name}").text
    assert page.count("<article") == sum(p["type"] != "row" for p in dashboards.load(GENERATED, name)["panels"])
    assert "Prometheus refused" not in page


def test_a_dashboard_knows_its_project(away: Settings, browse: Browse) -> None:
    page = browse(replace(away, dashboards=GENERATED)).get("/projects/house_prices").text
    assert 'href="/dashboards/phaseflow-house-prices"' in page


def test_without_prometheus_the_panels_say_so(away: Settings, browse: Browse) -> None:
    page = browse(away).get("/dashboards/titanic").text
    assert "Start it with <code>bin/phaseflow up</code>" in page
    assert "Prometheus is away" in panel(page, "Latency")


@pytest.mark.parametrize("name", ["titanik", "../conftest", "..%2f..%2fpyproject", "%00"])
def test_an_unknown_dashboard_is_not_found(away: Settings, browse: Browse, name: str) -> None:
    assert browse(away).get(f"/dashboards/{name}").status_code == 404


def test_an_unknown_dashboard_names_the_known() -> None:
    with pytest.raises(PlatformError) as caught:
        dashboards.load(HERE / "dashboards", "titanik")
    assert str(caught.value) == """There is no dashboard 'titanik'; found: titanic. Did you mean "titanic"?"""


def test_a_broken_file_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "good.json").write_text(json.dumps({"title": "Good"}))
    assert dashboards.listed(tmp_path) == [dashboards.Link(name="good", title="Good")]
    with pytest.raises(PlatformError, match=r"list\.json holds no dashboard\. Generate it again with `make generate`"):
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
                "type": "bargauge",
                "title": "All of them",
                "targets": [{"expr": 'phaseflow:feature_psi{feature=~"$feature"}', "legendFormat": "{{feature}}"}],
            }
        ],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    settings = settings_for(tmp_path, prometheus=prometheus)
    client = browse(replace(settings, dashboards=tmp_path))
    assert panel(client.get("/dashboards/all").text, "All of them").count('class="bar"') == 2
