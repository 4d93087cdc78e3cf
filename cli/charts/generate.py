"""Generated files of the charts, by path relative to the repository root."""

from __future__ import annotations

from typing import Final

import yaml

from cli.charts import charts, images, readme, schema
from phaseflow import discovery

PROJECTS: Final = ("helm/platform/projects.yaml", "helm/serving/projects.yaml")
"""One copy per chart, because a chart can't read files of its subcharts."""
LOCK: Final = "helm/images.lock.yaml"
STANDINS: Final = "tests/cluster/values-standins.yaml"


def files() -> dict[str, str]:
    """The current content of each generated file."""
    all_charts = [charts.read(name) for name in charts.names()]
    contents = {LOCK: images.lock(images.gather(all_charts)), STANDINS: images.standins(all_charts)}
    contents |= dict.fromkeys(PROJECTS, str(yaml.safe_dump(list(discovery.names()))))
    for chart in all_charts:
        contents[f"helm/{chart.name}/README.md"] = readme.text(chart)
        contents[f"helm/{chart.name}/values.schema.json"] = schema.text(chart)
    return contents
