"""`python -m bench.gate`: how often the gate promotes when nothing has changed, and when the declared drift has.

Retrainings are simulated (`bench.retrainings`) and judged by the very functions that the pipeline calls. After a drift the challenger learns what
`phaseflow demo` has by then: the base rows, and the rows whose truths came back. Trained models are kept; the figures are in bench/gate.json
with a digest of the rule's sources, and in the table of docs/gate.md.

    OMP_NUM_THREADS=1 .venvs/tabular/bin/python -m bench.gate                                # titanic, from_scratch, and a table of texts
    OMP_NUM_THREADS=1 .venvs/torch/bin/python -m bench.gate --projects digits --count 20 --sequences 0
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from bench import retrainings
from bench.retrainings import LATE, PAIR, POOL, Model, World
from phaseflow.contract import Project
from phaseflow.settings import ROOT
from phaseflow.toolkit import graph
from pipelines.steps import budget, gate
from pipelines.steps.champion import Champion
from pipelines.steps.evaluate import Contender, compare

FILE: Final = ROOT / "bench" / "gate.json"
PAGE: Final = ROOT / "docs" / "gate.md"
BEGIN: Final = "<!-- figures: made by `python -m bench.gate` -->\n"
END: Final = "<!-- end of figures -->\n"
PROJECTS: Final = ("titanic", "from_scratch", retrainings.TEXTS)
COUNT: Final = 300
SEQUENCES: Final = 100
LOOKS: Final = 20
SEED_OF_POOLS: Final = 1_000_000
OF_A_SPLIT: Final = 10
"""Sequences of one split."""
RULE: Final = tuple(f"pipelines/steps/{name}.py" for name in ("budget", "evaluate", "gate", "metrics"))
"""What decides on a promotion."""


def contender(model: Model) -> Contender:
    """As the training step hands it on; its selection is done."""
    selected: dict[str, Any] = {"value": None, "draws": []}
    return Contender(
        onnx=model.content,
        about={"candidate": model.candidate, "classes": list(model.classes), "selection": selected},
    )


def champion(model: Model) -> Champion:
    """A model that was promoted."""
    return Champion(version="1", onnx=model.content, classes=model.classes, candidate=model.candidate)


def no_latency(project: Project, model: graph.Session, rows: pl.DataFrame) -> float:  # noqa: ARG001  # as `evaluate.latency_ms`
    """The latency of every model here: a simulation on a busy machine measures nothing of use."""
    return 1.0


def looked(
    project: Project, holdout: pl.DataFrame, challenger: Model, present: Model, earlier: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What the gate decides of a challenger, and what the point estimate alone would."""
    evaluation = compare(
        project,
        holdout,
        [contender(challenger)],
        champion(present),
        snapshot=hashlib.sha256(challenger.content).hexdigest(),
        source="sample",
        earlier=earlier,
        latency=no_latency,
    )
    verdict = gate.judge(project, evaluation)
    gain = evaluation["champion"]["gain"]
    return {
        "promoted": verdict.passed,
        "reason": verdict.reason,
        "refused_by": [check.check for check in verdict.checks if not check.passed],
        "champion": present.candidate,
        "candidate": challenger.candidate,
        "gain": gain["value"],
        "low": gain["low"],
        "error": None if gain["interval"] is None else (gain["interval"][1] - gain["interval"][0]) / (2 * 1.96),
        "by_point_estimate": gain["value"] is not None and gain["value"] > project.gate.minimum_gain,
        "look": evaluation["look"],
        "newest": evaluation["champion"]["newest"],
    }


def judged(world: World, seed: int, trained: Sequence[Model]) -> dict[str, Any]:
    """A champion against a model of like rows, both ways, after traffic of the same world; and against the one after the drift."""
    project, rows = world.project, retrainings.unchanged(world, seed).holdout
    first, second, *newer = trained
    outcome = {"unchanged": looked(project, rows, second, first), "mirrored": looked(project, rows, first, second)}
    if newer:
        outcome["drift"] = looked(project, retrainings.drifted(world, seed).holdout, newer[0], first)
    return outcome


def sequences(world: World, seed: int, pool: Sequence[Model]) -> list[dict[str, list[bool]]]:
    """Retrainings of one split, one after the other on the same holdout: with the budget, and with the first look's level each time."""
    project, random, holdout = world.project, np.random.default_rng([seed, 5]), world.split(seed).holdout
    known: dict[tuple[int, int, float], bool] = {}
    outcomes = []
    for _ in range(OF_A_SPLIT):
        order = random.permutation(len(pool))[: LOOKS + 1]
        looks: dict[str, list[bool]] = {}
        for name in ("budget", "no_budget"):
            present, earlier = order[0], None
            looks[name] = []
            for challenger in order[1:]:
                spent = budget.look(earlier, holdout, snapshot="", model=str(challenger))
                key = (int(challenger), int(present), spent.level)
                if key not in known:
                    known[key] = looked(project, holdout, pool[challenger], pool[present], earlier)["promoted"]
                looks[name].append(known[key])
                earlier = spent.to_dict() if name == "budget" else None
                if known[key]:
                    present, earlier = challenger, None
        outcomes.append(looks)
    return outcomes


_world: World | None = None


def _ready(name: str) -> None:
    global _world  # noqa: PLW0603  # of a worker's process
    _world = World.of(name)


def _work(folder: Path, kind: str, seed: int) -> tuple[str, int, Any]:
    """Train, unless these models are kept, and judge."""
    assert _world is not None  # noqa: S101  # `_ready` ran before

    def trained(kind: str) -> list[Model]:
        path = folder / f"{kind}-{seed}.pickle"
        if not path.exists():
            retrainings.save(path, retrainings.models(_world, kind, seed))
        return retrainings.load(path)

    with retrainings.unconverted():
        if kind == POOL:
            return kind, seed, sequences(_world, seed, trained(POOL))
        if kind == PAIR:
            return kind, seed, judged(_world, seed, trained(PAIR))
        rows = retrainings.drifted(_world, seed, more=retrainings.LATER).holdout
        return kind, seed, looked(_world.project, rows, trained(LATE)[0], trained(PAIR)[0])


def simulate(name: str, tasks: Sequence[tuple[str, int]], processes: int, work: Path) -> Iterator[tuple[str, int, Any]]:
    """Outcomes of retrainings and sequences, as they come."""
    folder = retrainings.folder(work, name)
    workers = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_ready, initargs=(name,)
    )  # a fork would copy the locks of polars' threads, and not the threads
    with workers as pool:
        for future in as_completed([pool.submit(_work, folder, kind, seed) for kind, seed in tasks]):
            yield future.result()


def kept(name: str, tasks: Sequence[tuple[str, int]], work: Path) -> list[tuple[str, int]]:
    """Those of which an earlier run has kept the models."""
    folder = retrainings.folder(work, name)
    return [(kind, seed) for kind, seed in tasks if (folder / f"{kind}-{seed}.pickle").exists()]


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """How many, and the interval of 95 % for their share (Clopper and Pearson 1934)."""
    from scipy.stats import binomtest  # noqa: PLC0415  # not where the table alone is made

    span = binomtest(sum(hits), len(hits)).proportion_ci(0.95, "exact")
    return {
        "count": len(hits),
        "promoted": sum(hits),
        "share": sum(hits) / len(hits),
        "interval": [float(span.low), float(span.high)],
    }


def summary(outcomes: Sequence[tuple[str, int, Any]]) -> dict[str, Any]:
    """The shares of a project."""
    alone = [outcome for kind, _, outcome in outcomes if kind == PAIR]
    figures: dict[str, Any] = {
        "unchanged": share([outcome["unchanged"]["promoted"] for outcome in alone]),
        "mirrored": share([outcome["mirrored"]["promoted"] for outcome in alone]),
        "by_point_estimate": share([outcome["unchanged"]["by_point_estimate"] for outcome in alone]),
    }
    gains = [outcome[key]["gain"] for outcome in alone for key in ("unchanged", "mirrored")]
    errors = [outcome["unchanged"]["error"] for outcome in alone]
    figures["gain"] = {
        "deviation": float(np.sqrt(np.mean(np.square(gains)))),
        "error": float(np.median(errors)),
    }
    late = [outcome for kind, _, outcome in outcomes if kind == LATE]
    for key, drifted in (("drift", [outcome["drift"] for outcome in alone if "drift" in outcome]), ("late", late)):
        if not drifted:
            continue
        figures[key] = share([outcome["promoted"] for outcome in drifted])
        reasons = [outcome["reason"] for outcome in drifted]
        figures[key]["reasons"] = {name: reasons.count(name) for name in sorted(set(reasons) - {""})}
        refusals = [check for outcome in drifted if not outcome["promoted"] for check in outcome["refused_by"]]
        figures[key]["refused_by"] = {name: refusals.count(name) for name in sorted(set(refusals))}
    series = [outcome for kind, _, split in outcomes if kind == POOL for outcome in split]
    if series:
        figures["sequences"] = {"count": len(series), "looks": LOOKS}
        for rule in ("budget", "no_budget"):
            looks = np.array([outcome[rule] for outcome in series], bool)
            figures["sequences"][rule] = {
                "share": float(looks.mean()),
                "interval": _clustered(looks.mean(axis=1)),
                "by_look": [float(value) for value in looks.mean(axis=0)],
                "any": share([bool(outcome) for outcome in np.asarray(looks.any(axis=1))]),
            }
    return figures


def _clustered(shares: Any) -> list[float]:
    """The interval of a mean of sequences [S], by resampling the splits that they belong to."""
    groups = shares.reshape(-1, OF_A_SPLIT).mean(axis=1)
    random = np.random.default_rng(1)
    means = groups[random.integers(0, len(groups), (2000, len(groups)))].mean(axis=1)
    return [float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))]


def table(results: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    head = [
        "project",
        "nothing changed",
        "by the point estimate alone",
        "gain differs by, interval says",
        "after the declared drift",
        "at the next retraining",
        "20 looks: each",
        "20 looks: any",
    ]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for name, figures in results.items():
        series = figures.get("sequences", {}).get("budget")
        cells = [
            f"`{name}`",
            *(_cell(figures.get(key)) for key in ("unchanged", "by_point_estimate")),
            f"{figures['gain']['deviation']:.2g}, {figures['gain']['error']:.2g}",
            *(_cell(figures.get(key)) for key in ("drift", "late")),
            _percent(series["share"], series["interval"]) if series else "",
            _cell(series["any"]) if series else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(figures: Mapping[str, Any] | None) -> str:
    return (
        ""
        if figures is None
        else f"{_percent(figures['share'], figures['interval'])}, {figures['promoted']} of {figures['count']}"
    )


def _percent(value: float, span: Sequence[float]) -> str:
    return f"{value:.1%} ({span[0]:.1%} to {span[1]:.1%})"


def rendered(page: str, results: Mapping[str, Any]) -> str:
    """The page with its table made again; raises ValueError without the two marks."""
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"{PAGE} lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}{table(results)}{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Do it."""
    parser = argparse.ArgumentParser(prog="bench.gate", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--projects", nargs="+", default=list(PROJECTS))
    parser.add_argument("--count", type=int, default=COUNT, help="simulated retrainings of each kind")
    parser.add_argument("--late", type=int, default=COUNT, help="retrainings after more of the drift")
    parser.add_argument("--sequences", type=int, default=SEQUENCES, help=f"sequences of {LOOKS} retrainings")
    parser.add_argument("--kept", action="store_true", help="train nothing: judge the models of earlier runs alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".phaseflow" / "bench-gate", help="where trained models are kept"
    )
    parser.add_argument("--render", action="store_true", help="make the table of bench/gate.json")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where the table is stale")
    given = parser.parse_args(arguments)
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    if not (given.render or given.check):
        for name in given.projects:
            tasks = [(PAIR, seed) for seed in range(given.count)]
            drifts = retrainings.declared(name).drift.scenario
            tasks += [(LATE, seed) for seed in range(given.late)] if drifts else []
            tasks += [(POOL, SEED_OF_POOLS + place) for place in range(given.sequences // OF_A_SPLIT)]
            if given.kept:
                tasks = kept(name, tasks, given.work)
            outcomes = []
            for outcome in simulate(name, tasks, given.processes, given.work):
                outcomes.append(outcome)
                print(f"{name}: {len(outcomes)} of {len(tasks)}", file=sys.stderr)
            outcomes.sort(key=lambda outcome: outcome[:2])
            results[name] = {"rule": retrainings.digest(RULE)} | summary(outcomes)
            FILE.write_text(json.dumps(results, indent=1) + "\n")
            print(json.dumps({name: results[name]}, indent=1))
    page = PAGE.read_text()
    new = rendered(page, results)
    if new != page and given.check:
        print("stale: docs/gate.md (`make generate`)", file=sys.stderr)
        return 1
    if new != page:
        PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
