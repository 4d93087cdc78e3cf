"""`python -m bench.gate`: measure how often the gate promotes, by chance and after the declared drift.

The benchmark simulates retrainings (`bench.retrainings`) and evaluates them with the functions that the pipeline calls.
After drift, the challenger is trained on what `phaseflow demo` has by then: the base rows, and the rows with labels
from feedback. Trained models are cached. The figures go to bench/gate.json, with a digest of the sources of the
promotion rule, and to the table of docs/gate.md.

    OMP_NUM_THREADS=1 .venvs/tabular/bin/python -m bench.gate                                # titanic, from_scratch, texts
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
FIRST_POOL_SEED: Final = 1_000_000
SEQUENCES_PER_SPLIT: Final = 10
"""Number of sequences per split."""
RULE: Final = tuple(f"pipelines/steps/{name}.py" for name in ("budget", "evaluate", "gate", "metrics"))
"""The sources of the promotion rule."""


def contender(model: Model) -> Contender:
    """The model as the training step passes it on, without the results of its selection."""
    selected: dict[str, Any] = {"value": None, "draws": []}
    return Contender(
        onnx=model.content,
        about={"candidate": model.candidate, "classes": list(model.classes), "selection": selected},
    )


def champion(model: Model) -> Champion:
    """The model as the current champion."""
    return Champion(version="1", onnx=model.content, classes=model.classes, candidate=model.candidate)


def no_latency(project: Project, model: graph.Session, rows: pl.DataFrame) -> float:  # noqa: ARG001  # as `evaluate.latency_ms`
    """Return a constant latency: a measurement on a busy machine would be meaningless."""
    return 1.0


def looked(
    project: Project, holdout: pl.DataFrame, challenger: Model, present: Model, earlier: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The gate's decision on a challenger, and the decision by the point estimate alone."""
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


def compare_pair(world: World, seed: int, trained: Sequence[Model]) -> dict[str, Any]:
    """Compare the champion with a model trained on similar rows, in both directions.

    If the project declares drift, also compare it with the model trained after the drift.
    """
    project, rows = world.project, retrainings.without_drift(world, seed).holdout
    first, second, *newer = trained
    outcome = {"unchanged": looked(project, rows, second, first), "mirrored": looked(project, rows, first, second)}
    if newer:
        outcome["drift"] = looked(project, retrainings.after_drift(world, seed).holdout, newer[0], first)
    return outcome


def sequences(world: World, seed: int, pool: Sequence[Model]) -> list[dict[str, list[bool]]]:
    """Simulate sequences of retrainings on the holdout of one split.

    Each sequence is simulated twice: with the error budget, and with the level of the first look at every look.
    """
    project, random, holdout = world.project, np.random.default_rng([seed, 5]), world.split(seed).holdout
    promotions: dict[tuple[int, int, float], bool] = {}
    outcomes = []
    for _ in range(SEQUENCES_PER_SPLIT):
        order = random.permutation(len(pool))[: LOOKS + 1]
        looks: dict[str, list[bool]] = {}
        for name in ("budget", "no_budget"):
            present, earlier = order[0], None
            looks[name] = []
            for challenger in order[1:]:
                spent = budget.look(earlier, holdout, snapshot="", model=str(challenger))
                key = (int(challenger), int(present), spent.level)
                if key not in promotions:
                    promotions[key] = looked(project, holdout, pool[challenger], pool[present], earlier)["promoted"]
                looks[name].append(promotions[key])
                earlier = spent.to_dict() if name == "budget" else None
                if promotions[key]:
                    present, earlier = challenger, None
        outcomes.append(looks)
    return outcomes


_world: World | None = None


def _initialize_worker(name: str) -> None:
    global _world  # noqa: PLW0603  # one value per worker process
    _world = World.of(name)


def _run_task(folder: Path, kind: str, seed: int) -> tuple[str, int, Any]:
    """Train the models, unless they are cached, and evaluate them."""
    assert _world is not None  # noqa: S101  # set by `_initialize_worker`

    def load_or_train(kind: str) -> list[Model]:
        path = folder / f"{kind}-{seed}.pickle"
        if not path.exists():
            retrainings.save(path, retrainings.models(_world, kind, seed))
        return retrainings.load(path)

    with retrainings.unconverted():
        if kind == POOL:
            return kind, seed, sequences(_world, seed, load_or_train(POOL))
        if kind == PAIR:
            return kind, seed, compare_pair(_world, seed, load_or_train(PAIR))
        rows = retrainings.after_drift(_world, seed, more=retrainings.LATER).holdout
        return kind, seed, looked(_world.project, rows, load_or_train(LATE)[0], load_or_train(PAIR)[0])


def simulate(name: str, tasks: Sequence[tuple[str, int]], processes: int, work: Path) -> Iterator[tuple[str, int, Any]]:
    """Yield the outcomes of retrainings and sequences in the order of completion."""
    folder = retrainings.folder(work, name)
    workers = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_initialize_worker, initargs=(name,)
    )  # a fork would copy the locks of polars' threads without the threads
    with workers as pool:
        for future in as_completed([pool.submit(_run_task, folder, kind, seed) for kind, seed in tasks]):
            yield future.result()


def with_saved_models(name: str, tasks: Sequence[tuple[str, int]], work: Path) -> list[tuple[str, int]]:
    """The tasks whose models an earlier run has cached."""
    folder = retrainings.folder(work, name)
    return [(kind, seed) for kind, seed in tasks if (folder / f"{kind}-{seed}.pickle").exists()]


def share(hits: Sequence[bool]) -> dict[str, Any]:
    """The number of promotions, and their share with its 95 % interval (Clopper and Pearson 1934)."""
    from scipy.stats import binomtest  # noqa: PLC0415  # not needed to render the table

    interval = binomtest(sum(hits), len(hits)).proportion_ci(0.95, "exact")
    return {
        "count": len(hits),
        "promoted": sum(hits),
        "share": sum(hits) / len(hits),
        "interval": [float(interval.low), float(interval.high)],
    }


def summary(outcomes: Sequence[tuple[str, int, Any]]) -> dict[str, Any]:
    """The figures of one project."""
    pairs = [outcome for kind, _, outcome in outcomes if kind == PAIR]
    figures: dict[str, Any] = {
        "unchanged": share([outcome["unchanged"]["promoted"] for outcome in pairs]),
        "mirrored": share([outcome["mirrored"]["promoted"] for outcome in pairs]),
        "by_point_estimate": share([outcome["unchanged"]["by_point_estimate"] for outcome in pairs]),
    }
    gains = [outcome[key]["gain"] for outcome in pairs for key in ("unchanged", "mirrored")]
    errors = [outcome["unchanged"]["error"] for outcome in pairs]
    figures["gain"] = {
        "deviation": float(np.sqrt(np.mean(np.square(gains)))),
        "error": float(np.median(errors)),
    }
    late = [outcome for kind, _, outcome in outcomes if kind == LATE]
    for key, drifted in (("drift", [outcome["drift"] for outcome in pairs if "drift" in outcome]), ("late", late)):
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
                "interval": _cluster_interval(looks.mean(axis=1)),
                "by_look": [float(value) for value in looks.mean(axis=0)],
                "any": share([bool(outcome) for outcome in np.asarray(looks.any(axis=1))]),
            }
    return figures


def _cluster_interval(shares: Any) -> list[float]:
    """The 95 % interval of the mean over sequences [S], by a bootstrap over the splits that they belong to."""
    groups = shares.reshape(-1, SEQUENCES_PER_SPLIT).mean(axis=1)
    random = np.random.default_rng(1)
    means = groups[random.integers(0, len(groups), (2000, len(groups)))].mean(axis=1)
    return [float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))]


def table(results: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
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


def _cell(figure: Mapping[str, Any] | None) -> str:
    return (
        ""
        if figure is None
        else f"{_percent(figure['share'], figure['interval'])}, {figure['promoted']} of {figure['count']}"
    )


def _percent(value: float, interval: Sequence[float]) -> str:
    return f"{value:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"


def with_table(page: str, results: Mapping[str, Any]) -> str:
    """The page with an updated table. Raises ValueError if one of the two markers is missing."""
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"{PAGE} lacks the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}{table(results)}{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="bench.gate", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--projects", nargs="+", default=list(PROJECTS))
    parser.add_argument(
        "--count", type=int, default=COUNT, help="number of simulated retrainings without drift and after drift"
    )
    parser.add_argument(
        "--late", type=int, default=COUNT, help="number of simulated retrainings with more rows after the drift"
    )
    parser.add_argument("--sequences", type=int, default=SEQUENCES, help=f"number of sequences of {LOOKS} retrainings")
    parser.add_argument(
        "--kept", action="store_true", help="train no model: evaluate only the cached models of earlier runs"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".phaseflow" / "bench-gate", help="folder of the cached models"
    )
    parser.add_argument("--render", action="store_true", help="only update the table from bench/gate.json")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if the table is stale")
    args = parser.parse_args(arguments)
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    if not (args.render or args.check):
        for name in args.projects:
            tasks = [(PAIR, seed) for seed in range(args.count)]
            drifts = retrainings.find_project(name).drift.scenario
            tasks += [(LATE, seed) for seed in range(args.late)] if drifts else []
            tasks += [(POOL, FIRST_POOL_SEED + index) for index in range(args.sequences // SEQUENCES_PER_SPLIT)]
            if args.kept:
                tasks = with_saved_models(name, tasks, args.work)
            outcomes = []
            for outcome in simulate(name, tasks, args.processes, args.work):
                outcomes.append(outcome)
                print(f"{name}: {len(outcomes)} of {len(tasks)}", file=sys.stderr)
            outcomes.sort(key=lambda outcome: outcome[:2])
            results[name] = {"rule": retrainings.digest(RULE)} | summary(outcomes)
            FILE.write_text(json.dumps(results, indent=1) + "\n")
            print(json.dumps({name: results[name]}, indent=1))
    page = PAGE.read_text()
    new_page = with_table(page, results)
    if new_page != page and args.check:
        print("stale: docs/gate.md (`make generate`)", file=sys.stderr)
        return 1
    if new_page != page:
        PAGE.write_text(new_page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
