"""Which candidate is best is decided inside the training rows, so that the holdout judges only one.

Cross-validation (Stone 1974) for tables; for networks, of which each fit takes long, one validation part; of a history the newest of the
training rows; of what is judged by acting games that the judgement doesn't play. Ties within noise go to the candidate that is declared
first: the one-standard-error rule (Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3), with
the error of the paired difference.
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
from phaseflow.toolkit.holdout import keys, sides
from pipelines.steps import metrics, predictions
from pipelines.steps.metrics import Answers, Array, Resamples

VALIDATION_SHARE: Final = 0.2
"""Of the training rows, where there is one validation part."""
DRAWS: Final = 200
"""Bootstrap samples of the validation rows: enough for a standard error."""
OWN_DRAWS: Final = 50
"""Where the project's own `evaluate` is asked for each of them."""
OTHER_GAMES: Final = 1
"""Added to the seed of the project that plays for selection."""


def groups(rows: pl.DataFrame, project: Project) -> pl.Series:
    """What rows [N] must not be divided by: `_group` where a snapshot has it, else the row's key."""
    for name in ("_group", "_key"):
        if name in rows.columns:
            return rows[name]
    return keys(rows, project)


def resamples(project: Project, rows: pl.DataFrame, judged: Answers, count: int) -> Resamples:
    """Bootstrap samples for what was judged of rows [N]: of games where there are games, of users where rows are a history, else of groups."""
    units: Array = np.arange(len(judged.predicted))
    if not project.play:
        units = (rows[project.history] if project.history else groups(rows, project)).cast(pl.String).to_numpy()
    return Resamples.of(units, count=count, seed=project.seed)


def folds(rows: pl.DataFrame, project: Project) -> tuple[str, list[Array]]:
    """How rows [N] are divided, in words, and the places of each validation part.

    Groups are dealt by the order of their hashes, so that parts are of like size and the order of rows doesn't matter.
    """
    if project.history:
        keyed = rows if "_key" in rows.columns else rows.with_columns(keys(rows, project))
        _, newest = sides(keyed.with_row_index("_place"), project)
        return f"the newest {newest.height:,} of the training rows", [newest["_place"].to_numpy()]
    group = groups(rows, project).cast(pl.String).to_numpy()
    names, place = np.unique(group, return_inverse=True)
    order = np.argsort([hashlib.sha256(f"fold {name}".encode()).hexdigest() for name in names])
    rank = np.empty(len(names), int)
    rank[order] = np.arange(len(names))
    count = 1 if project.family != "tabular" else min(project.gate.folds, len(names))
    if count == 1:
        part = np.flatnonzero(rank[place] < max(1, round(len(names) * VALIDATION_SHARE)))
        return f"one validation part of {VALIDATION_SHARE:.0%} of the training rows", [part]
    return f"{count} folds of the training rows", [np.flatnonzero(rank[place] % count == k) for k in range(count)]


def select(rows: pl.DataFrame, project: Project, candidate: Candidate) -> dict[str, Any]:
    """The first metric of one candidate inside training rows [N], as `trained.json` keeps it.

    `value` is the mean over the parts, `interval` holds 95 % of the bootstrap samples of the validation rows, `draws` are these samples,
    the same rows for every candidate, and `scheme` says how the rows were divided.
    """
    scheme, parts = folds(rows, project)
    held = [rows[part] for part in parts]
    judged = [_validated(rows, part, project, candidate) for part in parts]
    if project.play:
        scheme = "games of another seed than the judgement's, after " + scheme
    values = [metrics.figure(project, project.primary, one) for one in judged]
    known = [value for value in values if value is not None]
    count = OWN_DRAWS if project.evaluate else DRAWS
    drawn = [
        metrics.bootstrap(project, [project.primary], one, resamples(project, part, one, count))[project.primary.name]
        for part, one in zip(held, judged, strict=True)
    ]
    mean = np.mean(drawn, axis=0)
    span = metrics.interval(mean)
    return {
        "metric": project.primary.name,
        "value": float(np.mean(known)) if known else None,
        "interval": list(span) if span else None,
        "folds": len(parts),
        "parts": values,
        "draws": [None if np.isnan(one) else float(one) for one in mean],
        "scheme": scheme,
    }


def _validated(rows: pl.DataFrame, part: Array, project: Project, candidate: Candidate) -> Answers:
    """What a candidate that was trained without a part predicts of it."""
    outside = np.ones(rows.height, bool)
    outside[part] = False
    with pictures.undrawn():
        model, held = fit(rows.filter(pl.Series(outside)), project, candidate), rows[part]
    ready = graph.session(model.onnx)
    other = dataclasses.replace(project, seed=project.seed + OTHER_GAMES) if project.play else project
    return predictions.played(other, ready, predictions.ask(project, ready, model.classes, held), held)


def winner(project: Project, candidates: Mapping[str, Mapping[str, Any]]) -> str:
    """The candidate with the best figure of selection; one that is declared before it and no more than an error worse is preferred.

    The error is the standard deviation of the paired difference over the bootstrap samples. Holdout figures are not looked at.
    """
    figures = {name: about["selection"] for name, about in candidates.items()}
    declared = [one.name for one in project.candidates if one.name in figures]
    known = [name for name in declared if figures[name]["value"] is not None]
    if not known:
        return declared[0]
    sign = 1.0 if project.primary.direction == "higher" else -1.0
    best = max(known, key=lambda name: sign * figures[name]["value"])  # of equal ones the first
    return next(name for name in known if _behind(figures[name], figures[best], sign) <= 0)


def _behind(one: Mapping[str, Any], best: Mapping[str, Any], sign: float) -> float:
    """By how much a candidate is worse than the best beyond the standard error of their difference."""
    gap: float = sign * (best["value"] - one["value"])
    pairs = list(_pairs(one["draws"], best["draws"]))
    return gap - (float(np.std([right - left for left, right in pairs], ddof=1)) if len(pairs) > 1 else 0.0)


def _pairs(left: list[float | None], right: list[float | None]) -> Iterator[tuple[float, float]]:
    return ((a, b) for a, b in zip(left, right, strict=True) if a is not None and b is not None)
