"""The generated files of the charts, by path from the root."""

from __future__ import annotations

from typing import Final

import yaml

from helm import charts, images, readme, schema
from phaseflow import registry
from phaseflow.settings import ROOT

PROJECTS: Final = ("helm/platform/projects.yaml", "helm/serving/projects.yaml")
"""One each: a chart reads no file of its parts."""
LOCK: Final = "helm/images.lock.yaml"
STANDINS: Final = "tests/cluster/values-standins.yaml"


def files() -> dict[str, str]:
    """What they should hold."""
    found = [charts.read(name) for name in charts.names()]
    made = {LOCK: images.lock(images.gather(found)), STANDINS: images.standins(found)}
    made |= dict.fromkeys(PROJECTS, str(yaml.safe_dump(list(registry.names()))))
    for chart in found:
        made[f"helm/{chart.name}/README.md"] = readme.text(chart)
        made[f"helm/{chart.name}/values.schema.json"] = schema.text(chart)
    return made


def stale(wanted: dict[str, str]) -> list[str]:
    """Files that differ from that, or are missing."""
    return [name for name, text in wanted.items() if not (path := ROOT / name).exists() or path.read_text() != text]
