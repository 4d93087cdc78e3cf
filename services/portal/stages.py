"""The stages of the loop, from the source to retraining."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from services.portal import history, text
from services.portal.measure import Measured
from services.portal.model import Alert, Part, ProjectStatus, Stage

RETRAINING_SECONDS = 900
"""A retraining that was triggered less than this ago is active while a DAG runs."""


def stages(
    parts: Sequence[Part],
    projects: Sequence[ProjectStatus],
    measured: Measured,
    alerts: tuple[Alert, ...] | None,
    last: Mapping[str, history.Event],
) -> tuple[Stage, ...]:
    """The eight stages of the loop, each with a note on its state; `last` has the newest event of a type."""
    by_name = {part.name: part for part in parts}
    running = sum(1 for p in projects if p.dag and p.dag.state == "running")
    failed = sum(1 for p in projects if p.dag and p.dag.state == "failed")
    training = sum(s.value for s in measured.of("pipeline_running")) > 0
    rate = sum(p.requests_per_second or 0.0 for p in projects)
    served = sum(1 for p in projects if p.champion)
    targets = [s.value for s in measured.of("targets")]
    scraped = f"{sum(targets):.0f} of {len(targets)} targets" if targets else "no targets"
    traffic = text.figure(rate, "reqps") if rate > 0 else f"{served} model{'' if served == 1 else 's'}, no traffic"
    dags = f"{running} running" if running else f"{failed} failed" if failed else "idle"
    tone = "bad" if failed else "active" if running else "ok"
    snapshot, promotion = last.get("snapshot"), last.get("promotion")
    return (
        Stage(
            name="Source",
            note=f"snapshot {text.ago(snapshot.time)}" if snapshot else "no snapshot yet",
            tone="ok" if snapshot else "",
        ),
        _stage("Airflow", by_name["airflow"], dags, tone, moving=running > 0),
        _stage(
            "Pipeline",
            by_name["pipelines"],
            "training" if training else "idle",
            "active" if training else "ok",
            moving=training,
        ),
        _stage(
            "MLflow", by_name["mlflow"], f"promoted {text.ago(promotion.time)}" if promotion else "no promotion yet"
        ),
        _stage("Service", by_name["serving"], traffic, "active" if rate > 0 else "ok", moving=rate > 0),
        _stage("Prometheus", by_name["prometheus"], scraped, "warn" if 0 in targets else "ok"),
        _alert(by_name["alertmanager"], alerts),
        _retrain(by_name["monitor"], last.get("retraining"), running=running > 0),
    )


def _alert(part: Part, alerts: Sequence[Alert] | None) -> Stage:
    if alerts is None:
        return _stage("Alert", part, "unknown", "")
    counted = [alert for alert in alerts if alert.severity != "info"]
    firing = sum(1 for alert in counted if alert.state == "firing")
    if firing:
        return _stage("Alert", part, f"{firing} firing", "bad", moving=True)
    return _stage("Alert", part, f"{len(counted)} pending" if counted else "quiet", "warn" if counted else "ok")


def _retrain(part: Part, event: history.Event | None, *, running: bool) -> Stage:
    since = time.time() - event.time if event else math.inf
    active = since < (RETRAINING_SECONDS if running else 60)
    note = f"triggered {text.ago(event.time)}" if event else "not triggered yet"
    return _stage("Retrain", part, note, "active" if active else "ok", moving=active)


def _stage(name: str, part: Part, note: str, tone: str = "ok", *, moving: bool = False) -> Stage:
    """A stage that `part` performs; a part that is not up shows its own state."""
    if part.state != "up":
        return Stage(name=name, note=part.detail or part.state, tone=part.tone, url=part.url)
    return Stage(name=name, note=note, tone=tone, url=part.url, moving=moving)
