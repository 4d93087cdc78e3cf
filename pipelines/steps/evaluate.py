"""All candidates and the champion on the same holdout: figures, intervals, slices, latency and size.

Which candidate is the winner is decided before, inside the training rows (`selection`); the holdout's figures of the others are reported, and
decide nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from phaseflow import answers, registry
from phaseflow.contract import Metric, Project
from phaseflow.reference import psi
from phaseflow.toolkit import graph
from phaseflow.toolkit.newest import newest_traffic
from phaseflow.toolkit.scalars import answered, scalars, words_of_answers
from pipelines.steps import budget, data, metrics, selection
from pipelines.steps import champion as champions
from pipelines.steps.bins import counted
from pipelines.steps.champion import Champion
from pipelines.steps.metrics import Answers, Array
from pipelines.steps.predictions import ask, played

LATENCY_CALLS: Final = 200
LEAST_CALLS: Final = 20
LATENCY_SECONDS: Final = 10.0
"""After it `LEAST_CALLS` are enough: a text takes a second to write."""
NEWEST: Final = 100
"""Rows of the holdout that stand for the newest data: soon after a change all of them are of the new world, and one in twenty more or less
of a share shows. Of the training rows three times as many do (`phaseflow.toolkit.newest`)."""
TRAINING: Final = 1.0
"""Variance of a gain by training, as a share of its variance by the holdout's rows. One training can't know it, and tests that leave it out
reject too often (Dietterich, Neural Computation 10, 1998; Nadeau and Bengio, Machine Learning 52, 2003). docs/gate.md shows
how far gains of like trainings differ, beside the holdout's error."""
FEW: Final = 50
"""Rows that came back, below which the newest data is the whole holdout."""


def latency_ms(project: Project, model: graph.Session, rows: pl.DataFrame) -> float:
    """99th percentile of one row through onnxruntime, in ms."""
    feeds = graph.feed(rows.head(1), project.schema)
    graph.run(model, feeds)
    times: list[float] = []
    until = time.perf_counter() + LATENCY_SECONDS
    while len(times) < LATENCY_CALLS and (len(times) < LEAST_CALLS or time.perf_counter() < until):
        begin = time.perf_counter()
        graph.run(model, feeds)
        times.append((time.perf_counter() - begin) * 1000)
    return float(np.quantile(times, 0.99))


def slices(project: Project, said: Answers, rows: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """The first metric on each value of each of the gate's slices."""
    found: dict[str, dict[str, Any]] = {}
    for part in project.gate.slices:
        values = rows[part.column].cast(pl.String).fill_null("(missing)").to_numpy().astype(str)
        found[part.column] = {
            str(value): {
                "rows": int((values == value).sum()),
                "value": metrics.figure(project, project.primary, said.take(np.flatnonzero(values == value))),
            }
            for value in sorted(set(values))
        }
    return found


def _at_best_of_slices(project: Project, model: _Judged, found: dict[str, dict[str, Any]]) -> None:
    """Add `at_best` to each slice that is beyond its bound: the best that it may be, as far as its rows can tell."""
    for part in project.gate.slices:
        values = model.rows[part.column].cast(pl.String).fill_null("(missing)").to_numpy().astype(str)
        for value, about in found[part.column].items():
            if about["value"] is None or project.primary.within(part.bound, about["value"]):
                continue
            places = np.flatnonzero(values == value)
            answers, rows = model.told.take(places), model.rows[places]
            samples = selection.resamples(project, rows, answers, _count(project, decides=True))
            drawn = metrics.bootstrap(project, [project.primary], answers, samples)[project.primary.name]
            about["at_best"] = _at_best(project.primary, about["value"], drawn, budget.ALPHA / 2)


def losses(project: Project, said: Answers) -> dict[str, float]:
    """The mean of each live loss on the holdout, where answers are no scalars: what the live one is compared with."""
    target = project.schema.target
    if target is None or not answers.structured(target) or not len(said.truth):
        return {}
    found = [answers.losses(mine, true, target) for mine, true in zip(said.predicted, said.truth, strict=True)]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A candidate's file, and what its training wrote of it."""

    onnx: bytes
    about: Mapping[str, Any]


def evaluate(project_name: str, snapshot: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Figures of the models in `folders` and of the champion, as one dictionary of plain values."""
    project = registry.get(project_name)
    contenders = [
        Contender(onnx=(folder / "model.onnx").read_bytes(), about=json.loads((folder / "trained.json").read_text()))
        for folder in folders
    ]
    champion = champions.fetch(project)
    evaluation = compare(
        project,
        data.split(project, snapshot, "holdout"),
        contenders,
        champion,
        snapshot=snapshot,
        source=str(data.manifest(project, snapshot).get("source")),
        earlier=None if champion is None else champions.last_look(project, champion.version),
    )
    if champion is not None:
        train = data.split(project, snapshot, "train")
        evaluation["champion"]["drift"] = drift(project, champion, newest_traffic(project, train))
    return evaluation


def drift(project: Project, champion: Champion, rows: pl.DataFrame) -> dict[str, Any] | None:
    """The watched figure of rows [N] that differs most from the champion's reference, by PSI; None where it has no reference."""
    live = scalars(project.schema, rows, champion.vocabularies)
    watched = [bins for bins in champion.reference if bins.feature in project.watched]
    indexes = {bins.feature: psi(bins.shares, counted(bins, live[bins.feature].to_list()).shares) for bins in watched}
    worst = max(indexes, key=lambda feature: indexes[feature], default=None)
    return None if worst is None else {"feature": worst, "psi": indexes[worst], "rows": rows.height}


def compare(
    project: Project,
    rows: pl.DataFrame,
    contenders: Sequence[Contender],
    champion: Champion | None,
    *,
    snapshot: str,
    source: str,
    earlier: Mapping[str, Any] | None = None,
    latency: Callable[[Project, graph.Session, pl.DataFrame], float] = latency_ms,
) -> dict[str, Any]:
    """What the gate needs to know of holdout rows [N]; `earlier` is the last look of the same champion at its holdout."""
    found: dict[str, Any] = {"snapshot": snapshot, "source": source, "rows": rows.height, "candidates": {}}
    judged = {
        one.about["candidate"]: _judged(project, one.onnx, tuple(one.about["classes"]), rows) for one in contenders
    }
    best = selection.winner(project, {one.about["candidate"]: one.about for one in contenders})
    primary = project.primary
    for one in contenders:
        name = one.about["candidate"]
        model = judged[name]
        count = _count(project, decides=False)
        asked = project.metrics if name == best else [primary]
        drawn = metrics.bootstrap(project, asked, model.answers, model.resamples(count))
        found["candidates"][name] = {key: value for key, value in one.about.items() if key != "selection"} | {
            "selection": {key: value for key, value in one.about["selection"].items() if key != "draws"},
            "metrics": metrics.figures(project, model.answers),
            "intervals": {metric: metrics.interval(values) for metric, values in drawn.items()},
            "slices": slices(project, model.answers, rows),
            "losses": losses(project, model.told),
            "calibration": metrics.calibration_error(model.answers),
            "latency_ms": latency(project, model.session, rows),
            "size_mb": len(one.onnx) / 1e6,
        }
    found |= {"winner": best, "curves": curves(project, judged[best].told), "champion": None, "look": None}
    if champion is None:
        return found
    winner, present = judged[best], _judged(project, champion.onnx, champion.classes, rows)
    pair = [_draws(project, one, [primary], decides=True)[primary.name] for one in (winner, present)]
    sha256 = hashlib.sha256(next(one.onnx for one in contenders if one.about["candidate"] == best)).hexdigest()
    look = budget.look(earlier, rows, snapshot=snapshot, model=sha256, same=bool((pair[0] == pair[1]).all()))
    figures = metrics.figures(project, present.answers)
    best_figure = found["candidates"][best]["metrics"][primary.name]
    _at_best_of_slices(project, winner, found["candidates"][best]["slices"])
    found["look"] = look.to_dict()
    found["champion"] = {
        "version": champion.version,
        "candidate": champion.candidate,
        "metrics": figures,
        "slices": slices(project, present.answers, rows),
        "losses": losses(project, present.told),
        "latency_ms": latency(project, present.session, rows) if project.gate.margin else None,
        "size_mb": len(champion.onnx) / 1e6,
        "gain": (gain := _gain(primary, best_figure, figures[primary.name], pair, look.level, training=TRAINING)),
        "gain_interval": gain["interval"],
        "share_of_resamples_better": gain["share_better"],
        # Failing is believed at twice the level, and the winner must be the better one besides: half of all pairs that are alike.
        "newest": _newest(project, source, rows, winner, present, 2 * look.level),
        "trusted": _trusted(project, source, rows, winner, present),
    }
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A model on rows of the holdout."""

    project: Project
    session: graph.Session
    rows: pl.DataFrame
    told: Answers
    """What it predicted of the rows."""
    answers: Answers
    """What is judged: these, or the games that it played."""

    def on(self, places: Array) -> _Judged:
        """The same model on some of the rows."""
        rows, told = self.rows[places], self.told.take(places)
        judged = played(self.project, self.session, told, rows) if self.project.play else told
        return _Judged(project=self.project, session=self.session, rows=rows, told=told, answers=judged)

    def resamples(self, count: int) -> metrics.Resamples:
        return selection.resamples(self.project, self.rows, self.answers, count)


def _judged(project: Project, onnx: bytes, classes: tuple[str, ...], rows: pl.DataFrame) -> _Judged:
    model = graph.session(onnx)
    told = ask(project, model, classes, rows)
    return _Judged(project=project, session=model, rows=rows, told=told, answers=played(project, model, told, rows))


def _count(project: Project, *, decides: bool) -> int:
    """Bootstrap samples: all the same where they cost nothing."""
    if not project.evaluate:
        return metrics.RESAMPLES
    return metrics.OWN_RESAMPLES if decides else metrics.REPORTED_RESAMPLES


def _draws(project: Project, model: _Judged, asked: Sequence[Metric], *, decides: bool = False) -> dict[str, Array]:
    return metrics.bootstrap(project, asked, model.answers, model.resamples(_count(project, decides=decides)))


def _gain(
    metric: Metric,
    ours: float | None,
    theirs: float | None,
    drawn: Sequence[Array],
    level: float,
    *,
    training: float = 0.0,
) -> dict[str, Any]:
    """By how much the winner is better, and both ends of it, in pairs over the same bootstrap samples.

    With `training` the ends are those of its training, else of this model; `interval` is always of this model.
    """
    sign = 1.0 if metric.direction == "higher" else -1.0
    gains = sign * (drawn[0] - drawn[1])
    value = None if ours is None or theirs is None else sign * (ours - theirs)
    low, high = (None, None)
    if value is not None:
        wider = value + math.sqrt(1 + training) * (gains - value)
        low, above = (metrics.lower_end(part * value, part * wider, level) for part in (1.0, -1.0))
        high = None if above is None else -above
    known = gains[~np.isnan(gains)]
    return {
        "value": value,
        "low": low,
        "high": high,
        "level": level,
        "resamples": len(known),
        "interval": metrics.interval(gains),
        "share_better": float((known > 0).mean()) if len(known) else None,
    }


def _at_best(metric: Metric, value: float | None, draws: Array, level: float) -> float | None:
    """The best that a model's figure may be, at `level`."""
    sign = 1.0 if metric.direction == "higher" else -1.0
    worst = None if value is None else metrics.lower_end(-sign * value, -sign * draws, level)
    return None if worst is None else -sign * worst


def _beside(
    project: Project, source: str, winner: _Judged, champion: _Judged, level: float
) -> dict[str, dict[str, float | None]]:
    """The first metric and each bounded one of both models, the best that it may be at `level`, and both ends of the winner's gain."""
    asked = [one for one in project.metrics if one is project.primary or one.limit(source) is not None]
    drawn = [_draws(project, one, asked) for one in (winner, champion)]
    found: dict[str, dict[str, float | None]] = {}
    for metric in asked:
        ours, theirs = (metrics.figure(project, metric, one.answers) for one in (winner, champion))
        gain = _gain(metric, ours, theirs, [one[metric.name] for one in drawn], level)
        found[metric.name] = {
            "winner": ours,
            "winner_at_best": _at_best(metric, ours, drawn[0][metric.name], level),
            "champion": theirs,
            "champion_at_best": _at_best(metric, theirs, drawn[1][metric.name], level),
            "gain_low": gain["low"],
            "gain_high": gain["high"],
        }
    return found


def _newest(
    project: Project, source: str, rows: pl.DataFrame, winner: _Judged, champion: _Judged, level: float
) -> dict[str, Any]:
    """Both models on the newest rows that came back, and on all rows where these are few."""
    places = np.arange(rows.height)
    back = rows.with_row_index("_place").filter(pl.col("_origin") == "feedback") if "_origin" in rows.columns else None
    if back is not None and back.height >= FEW:
        places = back.sort("_time", maintain_order=True).tail(NEWEST)["_place"].to_numpy()
    ours, theirs = (one if len(places) == rows.height else one.on(places) for one in (winner, champion))
    return {"rows": len(places), "metrics": _beside(project, source, ours, theirs, level)}


def _trusted(
    project: Project, source: str, rows: pl.DataFrame, winner: _Judged, champion: _Judged
) -> dict[str, Any] | None:
    """Both models on the rows whose labels are trusted; None where all rows are, or none is, or the snapshot doesn't say."""
    if "_trusted" not in rows.columns or rows["_trusted"].n_unique() < 2:
        return None
    places = np.flatnonzero(rows["_trusted"].fill_null(value=False).to_numpy())
    ours, theirs = winner.on(places), champion.on(places)
    return {"rows": len(places), "metrics": _beside(project, source, ours, theirs, budget.ALPHA / 2)}


def curves(project: Project, said: Answers) -> dict[str, Any]:
    """What plots need of the winner: confusion and ROC for classes, truth against answer for numbers, sizes of segments.

    Of answers that are no scalars the figures by which they are watched, beside the truth's.
    """
    target = project.schema.target
    if target is not None and answers.structured(target):
        known = words_of_answers(target, list(said.truth))
        told, true = (
            answered(target, list(values), known).to_dict(as_series=False) for values in (said.predicted, said.truth)
        )
        return {"figures": {name: {"predicted": told[name], "truth": true[name]} for name in told}}
    if not len(said.truth):
        return {"sizes": {name: int((said.predicted == name).sum()) for name in said.classes}}
    if not said.classes:
        return {"truth": said.truth.tolist(), "predicted": said.predicted.tolist()}
    from sklearn.metrics import confusion_matrix, roc_curve  # noqa: PLC0415  # numbers need neither

    confusion = confusion_matrix(said.truth, said.predicted, labels=list(said.classes)).tolist()
    found: dict[str, Any] = {"classes": list(said.classes), "confusion": confusion}
    if len(said.classes) == 2 and len(set(said.truth)) == 2 and said.probabilities is not None:
        fpr, tpr, thresholds = roc_curve(said.truth == said.classes[-1], said.probabilities[:, -1])
        thresholds = np.minimum(thresholds, 1.0)  # scikit-learn starts at infinity, which JSON can't hold
        found["roc"] = {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "thresholds": thresholds.tolist()}
        found["scores"] = {
            "truth": (said.truth == said.classes[-1]).tolist(),
            "score": said.probabilities[:, -1].tolist(),
        }
    return found
