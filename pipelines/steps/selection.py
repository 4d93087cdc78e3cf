"""Select the best candidate within the training rows, so that the holdout evaluates only one.

Tables use cross-validation (Stone 1974). Networks, whose fits are slow, use one validation part. Histories use the
newest training rows. Projects with a rollout use episodes with another seed than the evaluation. Ties within noise go
to the candidate that is declared first, by the one-standard-error rule (Breiman, Friedman, Olshen and Stone,
Classification and Regression Trees, 1984, section 3.4.3) with the error of the paired difference.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import polars as pl

from phaseflow.contract import Candidate, Project
from phaseflow.toolkit import graph, pictures
from phaseflow.toolkit.fit import fit
from phaseflow.toolkit.holdout import row_hashes, train_holdout_split
from pipelines.steps import metrics, predictions
from pipelines.steps.metrics import Array, EvalBatch, Resamples

VALIDATION_SHARE: Final = 0.2
"""Share of the training rows in a single validation part."""
DRAWS: Final = 200
"""Bootstrap samples of the validation rows, enough for a standard error."""
OWN_DRAWS: Final = 50
"""Bootstrap samples if each one calls the project's own `evaluate`."""
OTHER_GAMES: Final = 1
"""Added to the project's seed for the episodes of selection."""


def groups(rows: pl.DataFrame, project: Project) -> pl.Series:
    """Return the groups of rows [N] that must stay together: `_group` if the snapshot has it, else the row's key."""
    for name in ("_group", "_key"):
        if name in rows.columns:
            return rows[name]
    return row_hashes(rows, project)


def resamples(project: Project, rows: pl.DataFrame, batch: EvalBatch, count: int) -> Resamples:
    """Return bootstrap samples of rows [N]: over episodes for rollouts, over users for histories, else over groups."""
    units: Array = np.arange(len(batch.predicted))
    if not project.rollout:
        units = (
            (rows[project.temporal_group] if project.temporal_group else groups(rows, project))
            .cast(pl.String)
            .to_numpy()
        )
    return Resamples.of(units, count=count, seed=project.seed)


def folds(rows: pl.DataFrame, project: Project) -> tuple[str, list[Array]]:
    """Return a description of the scheme that divides rows [N], and the row indices of each validation part.

    Groups are assigned by the order of their hashes. Parts have similar sizes and do not depend on the order of rows.
    """
    if project.temporal_group:
        keyed = rows if "_key" in rows.columns else rows.with_columns(row_hashes(rows, project))
        _, newest = train_holdout_split(keyed.with_row_index("_position"), project)
        return f"the newest {newest.height:,} of the training rows", [newest["_position"].to_numpy()]
    group = groups(rows, project).cast(pl.String).to_numpy()
    names, group_index = np.unique(group, return_inverse=True)
    order = np.argsort([hashlib.sha256(f"fold {name}".encode()).hexdigest() for name in names])
    rank = np.empty(len(names), int)
    rank[order] = np.arange(len(names))
    count = 1 if project.environment != "tabular" else min(project.gate.folds, len(names))
    if count == 1:
        part = np.flatnonzero(rank[group_index] < max(1, round(len(names) * VALIDATION_SHARE)))
        return f"one validation part of {VALIDATION_SHARE:.0%} of the training rows", [part]
    return f"{count} folds of the training rows", [np.flatnonzero(rank[group_index] % count == k) for k in range(count)]


def select(rows: pl.DataFrame, project: Project, candidate: Candidate) -> dict[str, Any]:
    """Compute the primary metric of one candidate within training rows [N], for `trained.json`.

    `value` is the mean over the parts. `interval` is the 95 % bootstrap interval over the validation rows. `draws` are
    the bootstrap samples, which use the same rows for every candidate. `scheme` describes how the rows were divided.
    """
    scheme, parts = folds(rows, project)
    part_rows = [rows[part] for part in parts]
    batches = [_predict_validation_part(rows, part, project, candidate) for part in parts]
    if project.rollout:
        scheme = "episodes with another seed than the evaluation, after " + scheme
    values = [metrics.figure(project, project.primary, batch) for batch in batches]
    defined = [value for value in values if value is not None]
    count = OWN_DRAWS if project.evaluate else DRAWS
    drawn = [
        metrics.bootstrap(project, [project.primary], batch, resamples(project, part, batch, count))[
            project.primary.name
        ]
        for part, batch in zip(part_rows, batches, strict=True)
    ]
    mean = np.mean(drawn, axis=0)
    span = metrics.interval(mean)
    return {
        "metric": project.primary.name,
        "value": float(np.mean(defined)) if defined else None,
        "interval": list(span) if span else None,
        "folds": len(parts),
        "parts": values,
        "draws": [None if np.isnan(draw) else float(draw) for draw in mean],
        "scheme": scheme,
    }


def _predict_validation_part(rows: pl.DataFrame, part: Array, project: Project, candidate: Candidate) -> EvalBatch:
    """Train a candidate without one part and predict that part."""
    is_training = np.ones(rows.height, bool)
    is_training[part] = False
    with pictures.undrawn():
        model, validation_rows = fit(rows.filter(pl.Series(is_training)), project, candidate), rows[part]
    ready = graph.session(model.onnx)
    other = dataclasses.replace(project, seed=project.seed + OTHER_GAMES) if project.rollout else project
    return predictions.rollout(
        other, ready, predictions.predict(project, ready, model.classes, validation_rows), validation_rows
    )


def winner(project: Project, candidates: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the candidate with the best selection metric, or an earlier one that is at most one standard error worse.

    The error is the standard deviation of the paired difference over the bootstrap samples. Holdout metrics are not
    used.
    """
    figures = {name: about["selection"] for name, about in candidates.items()}
    declared = [candidate.name for candidate in project.candidates if candidate.name in figures]
    scored = [name for name in declared if figures[name]["value"] is not None]
    if not scored:
        return declared[0]
    sign = 1.0 if project.primary.direction == "higher" else -1.0
    best = max(scored, key=lambda name: sign * figures[name]["value"])  # the first of equal candidates
    return next(name for name in scored if _behind(figures[name], figures[best], sign) <= 0)


def _behind(candidate: Mapping[str, Any], best: Mapping[str, Any], sign: float) -> float:
    """Return how much worse than the best a candidate is, beyond the standard error of their difference."""
    gap: float = sign * (best["value"] - candidate["value"])
    pairs = list(_pairs(candidate["draws"], best["draws"]))
    return gap - (float(np.std([right - left for left, right in pairs], ddof=1)) if len(pairs) > 1 else 0.0)


def _pairs(left: list[float | None], right: list[float | None]) -> Iterator[tuple[float, float]]:
    return ((a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None)
