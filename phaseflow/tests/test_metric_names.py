"""Every metric in a rule, dashboard or page of the portal is one that the platform exposes."""

from __future__ import annotations

import re

import pytest

from phaseflow.metric_names import METRICS
from phaseflow.settings import ROOT

NAME = re.compile(r"\bphaseflow[_:][a-z_]*[a-z](?::ratio_rate)?")
FILES = sorted(
    [
        *ROOT.glob("monitoring/generated/**/*.yaml"),
        *ROOT.glob("monitoring/generated/**/*.json"),
        ROOT / "services" / "portal" / "detail.py",
        ROOT / "services" / "portal" / "measure.py",
        ROOT / "cli" / "demo" / "probes.py",
        *ROOT.glob("docs/runbooks/*.md"),
    ]
)
IGNORED = {"phaseflow_home"}


def series() -> set[str]:
    """Names in queries."""
    names = {metric.series.replace("<window>", "") for metric in METRICS}
    return names | {
        f"{metric.name}_{suffix}"
        for metric in METRICS
        if metric.type == "histogram"
        for suffix in ("bucket", "count", "sum")
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_queries_name_metrics_that_exist(path: object) -> None:
    assert set(NAME.findall(path.read_text())) - IGNORED <= series()  # type: ignore[attr-defined]  # a Path


def test_names_are_unique_and_described() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert all(metric.help.endswith((".", "1.")) and metric.sources for metric in METRICS)
