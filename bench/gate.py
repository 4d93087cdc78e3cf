"""`python -m bench.gate`: how often the gate promotes when nothing has changed, and when the declared drift has.

It simulates retrainings without MLflow and Airflow, by the very functions that the pipeline calls: selection, training, comparison, gate. Each time
the rows are split anew, and champion and challenger learn resamples (Efron 1979) of the same training rows, so that both the holdout and the
training vary. After a drift the challenger learns what `phaseflow demo` has by then: the base rows, and the rows whose truths came back. The figures
are kept in bench/gate.json, and in the table of docs/gate.md; an interrupted run goes on where it was.

    OMP_NUM_THREADS=1 .venvs/tabular/bin/python -m bench.gate                                # titanic, from_scratch, and a table of texts
    OMP_NUM_THREADS=1 .venvs/torch/bin/python -m bench.gate --projects digits --count 20 --sequences 0
"""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

import projects
from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.settings import ROOT, from_environment
from phaseflow.store import Store
from phaseflow.toolkit import graph, pictures, source
from phaseflow.toolkit.fit import fit
from phaseflow.toolkit.holdout import keys, sides
from pipelines.etl.caps import allowed
from pipelines.steps import budget, gate, selection
from pipelines.steps.champion import Champion
from pipelines.steps.evaluate import Contender, compare

FILE: Final = ROOT / "bench" / "gate.json"
PAGE: Final = ROOT / "docs" / "gate.md"
BEGIN: Final = "<!-- figures: made by `python -m bench.gate` -->\n"
END: Final = "<!-- end of figures -->\n"
TEXTS: Final = "texts"
"""The project that `phaseflow new` makes of a file of sentences."""
SENTENCES: Final = 1500
PROJECTS: Final = ("titanic", "from_scratch", TEXTS)
COUNT: Final = 300
SEQUENCES: Final = 100
LOOKS: Final = 20
POOL: Final = 30
"""Models of one split, of which its sequences are drawn without repetition: 2,100 trainings would take a day."""
OF_A_SPLIT: Final = 10
"""Sequences of one split."""
BEFORE: Final = 400
"""Rows of the world as it was that the demo sends first: ten seconds at forty a second."""
AFTER: Final = 800
"""Rows of the changed world whose truths have come back when the retraining takes its snapshot: twenty seconds, in which an alert fires, Airflow
starts a run, and reads the source. The demo needs four hundred at least (`phaseflow.cli.demo.RATE`)."""
START: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A project and its base rows [N], with `_key`."""

    project: Project
    rows: pl.DataFrame

    @classmethod
    def of(cls, name: str) -> World:
        """From the project's own sample."""
        project = made(name)
        with tempfile.TemporaryDirectory() as home:
            settings = from_environment({"PHASEFLOW_HOME": home, "PHASEFLOW_OFFLINE": "1"})
            rows = source.rows(source.load(project, settings, Store(settings.store)), project)
        return cls(project=project, rows=rows.with_columns(keys(rows, project)))

    def split(self, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Training rows and holdout of another split: each row's key is hashed with the seed."""
        salted = [hashlib.sha256(f"{seed} {key}".encode()).hexdigest() for key in self.rows["_key"]]
        train, holdout = sides(self.rows.with_columns(pl.Series("_key", salted)), self.project)
        return based(train), based(holdout)


def made(name: str) -> Project:
    """A declared project, or `TEXTS`: the sample's sentences of film_sentiment as a CSV, made into a project."""
    if name != TEXTS:
        return registry.get(name)
    from phaseflow.scaffold.__main__ import another  # noqa: PLC0415  # in the environment of tables alone

    folder = Path(tempfile.mkdtemp(prefix="bench-gate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "projects").mkdir()
    read, sample = (registry.load(f"film_sentiment.data:{function}") for function in ("read", "sample"))
    sentences: pl.DataFrame = read(*sample(7)).sample(fraction=1.0, shuffle=True, seed=7).head(SENTENCES)
    sentences.write_csv(folder / "sentences.csv")
    projects.__path__.append(str(folder / "projects"))
    another(TEXTS, folder / "projects", csv=folder / "sentences.csv", text="review", target="sentiment")
    return registry.get(TEXTS)


def based(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows [N] as a snapshot holds base rows."""
    return rows.with_columns(
        pl.col("_key").alias("_group"),
        pl.lit("base").alias("_origin"),
        pl.lit(None, pl.Datetime("us", "UTC")).alias("_time"),
        pl.lit(value=True).alias("_trusted"),
    )


def resampled(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Rows [N] drawn with replacement."""
    return rows[random.integers(0, rows.height, rows.height)]


def with_traffic(project: Project, side: pl.DataFrame, share: float, random: np.random.Generator) -> pl.DataFrame:
    """A side's base rows and its share of the traffic of both worlds, drawn from this side alone, within the caps of feedback."""
    before, after = (side[random.integers(0, side.height, round(count * share))] for count in (BEFORE, AFTER))
    names = [column.name for column in project.schema.columns]
    changed = registry.load(project.drift.scenario)(after.select(names), random).select(names)
    back = pl.concat([before, changed.hstack(after.drop(names)).select(before.columns)])
    times = [START + timedelta(milliseconds=25 * place) for place in range(back.height)]
    back = back.with_columns(
        pl.Series("_time", times, pl.Datetime("us", "UTC")),
        pl.lit("feedback").alias("_origin"),
        pl.lit(value=False).alias("_trusted"),
    )
    client_share = 1.0 if project.schema.target is None else project.feedback_share_per_client
    most, _ = allowed(side.height, {"": back.height}, project.feedback_share, client_share)
    kept = np.sort(random.permutation(back.height)[:most])
    return pl.concat([side, back[kept]])


def trained(project: Project, rows: pl.DataFrame) -> Contender:
    """The candidate that selection chooses, as the pipeline's training step leaves it."""
    about = {
        one.name: {"candidate": one.name, "selection": selection.select(rows, project, one)}
        for one in project.candidates
    }
    name = selection.winner(project, about)
    with pictures.undrawn():
        model = fit(rows, project, next(one for one in project.candidates if one.name == name))
    return Contender(onnx=model.onnx, about=about[name] | {"classes": list(model.classes)})


def champion(one: Contender) -> Champion:
    """A contender that was promoted."""
    return Champion(
        version="1", onnx=one.onnx, classes=tuple(one.about["classes"]), candidate=str(one.about["candidate"])
    )


def no_latency(project: Project, model: graph.Session, rows: pl.DataFrame) -> float:  # noqa: ARG001  # as `evaluate.latency_ms`
    """Of a busy machine: what a simulation would measure."""
    return 1.0


def looked(
    project: Project,
    holdout: pl.DataFrame,
    challenger: Contender,
    present: Contender,
    earlier: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the gate says of a challenger, and what the point estimate alone would."""
    evaluation = compare(
        project,
        holdout,
        [challenger],
        champion(present),
        snapshot=hashlib.sha256(challenger.onnx).hexdigest(),
        source="sample",
        earlier=earlier,
        latency=no_latency,
    )
    verdict = gate.judge(project, evaluation)
    vetoes = [check.check for check in verdict.checks if not check.passed]
    gain = evaluation["champion"]["gain"]["value"]
    return {
        "promoted": verdict.passed,
        "reason": verdict.reason,
        "refused_by": vetoes,
        "candidate": verdict.candidate,
        "champion": present.about["candidate"],
        "low": evaluation["champion"]["gain"]["low"],
        "gain": gain,
        "by_point_estimate": gain is not None and gain > project.gate.minimum_gain,
        "look": evaluation["look"],
    }


def retraining(world: World, seed: int) -> dict[str, Any]:
    """One champion, and two challengers: of the same world, and of the changed one."""
    project, random = world.project, np.random.default_rng([seed, 1])
    train, holdout = world.split(seed)
    present = trained(project, resampled(train, random))
    found = {"unchanged": looked(project, holdout, trained(project, resampled(train, random)), present)}
    if project.drift.scenario:
        both = with_traffic(project, train, 1 - project.holdout_share, random)
        newer = with_traffic(project, holdout, project.holdout_share, random)
        found["drift"] = looked(project, newer, trained(project, both), present)
    return found


def sequences(world: World, seed: int) -> list[dict[str, list[bool]]]:
    """Retrainings of one split, one after the other on the same holdout: with the budget, and with the first look's level each time."""
    project, random = world.project, np.random.default_rng([seed, 2])
    train, holdout = world.split(1_000_000 + seed)
    pool = [trained(project, resampled(train, random)) for _ in range(POOL)]
    known: dict[tuple[int, int, float], dict[str, Any]] = {}
    found = []
    for _ in range(OF_A_SPLIT):
        order = random.permutation(POOL)[: LOOKS + 1]
        looks = []
        for budgeted in (True, False):
            present, earlier = order[0], None
            promoted = []
            for challenger in order[1:]:
                spent = budget.look(earlier, holdout, snapshot="", model=str(challenger)) if budgeted else None
                key = (int(challenger), int(present), spent.level if spent else 0.0)
                if key not in known:
                    known[key] = looked(project, holdout, pool[challenger], pool[present], earlier)
                said = known[key]
                promoted.append(said["promoted"])
                earlier = spent.to_dict() if spent else None
                if said["promoted"]:
                    present, earlier = challenger, None
            looks.append(promoted)
        found.append({"budget": looks[0], "no_budget": looks[1]})
    return found


_world: World | None = None


def _ready(name: str) -> None:
    global _world  # noqa: PLW0603  # of a worker's process
    _world = World.of(name)


def _work(task: tuple[str, int]) -> tuple[str, int, Any]:
    assert _world is not None  # noqa: S101  # `_ready` ran before
    kind, seed = task
    return kind, seed, retraining(_world, seed) if kind == "retraining" else sequences(_world, seed)


def simulate(name: str, count: int, splits: int, processes: int, work: Path) -> Iterator[tuple[str, int, Any]]:
    """Outcomes of `count` retrainings and of the sequences of `splits` splits, those of an earlier run first."""
    work.parent.mkdir(parents=True, exist_ok=True)
    done: dict[tuple[str, int], Any] = {}
    if work.exists():
        for line in work.read_text().splitlines():
            kind, seed, outcome = json.loads(line)
            done[kind, seed] = outcome
    tasks = [("retraining", seed) for seed in range(count)] + [("sequences", seed) for seed in range(splits)]
    for task in tasks:
        if task in done:
            yield (*task, done[task])
    left = [task for task in tasks if task not in done]
    if not left:
        return
    workers = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_ready, initargs=(name,)
    )  # a fork would copy the locks of polars' threads, and not the threads
    with workers as pool, work.open("a") as log:
        for future in as_completed([pool.submit(_work, task) for task in left]):
            kind, seed, outcome = future.result()
            log.write(json.dumps([kind, seed, outcome]) + "\n")
            log.flush()
            yield kind, seed, outcome


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
    alone = [outcome for kind, _, outcome in outcomes if kind == "retraining"]
    found: dict[str, Any] = {
        "unchanged": share([one["unchanged"]["promoted"] for one in alone]),
        "by_point_estimate": share([one["unchanged"]["by_point_estimate"] for one in alone]),
    }
    drifted = [one["drift"] for one in alone if "drift" in one]
    if drifted:
        found["drift"] = share([one["promoted"] for one in drifted])
        refusals = [check for one in drifted if not one["promoted"] for check in one["refused_by"]]
        found["drift"]["refused_by"] = {name: refusals.count(name) for name in sorted(set(refusals))}
    series = [one for kind, _, split in outcomes if kind == "sequences" for one in split]
    if series:
        found["sequences"] = {"count": len(series), "looks": LOOKS}
        for rule in ("budget", "no_budget"):
            looks = np.array([one[rule] for one in series], bool)
            found["sequences"][rule] = {
                "share": float(looks.mean()),
                "interval": _clustered(looks.mean(axis=1)),
                "by_look": [float(value) for value in looks.mean(axis=0)],
                "any": share([bool(one) for one in np.asarray(looks.any(axis=1))]),
            }
    return found


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
        "after the declared drift",
        "20 looks: each",
        "20 looks: any",
    ]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for name, found in results.items():
        series = found.get("sequences", {}).get("budget")
        cells = [
            f"`{name}`",
            *(_cell(found.get(key)) for key in ("unchanged", "by_point_estimate", "drift")),
            _percent(series["share"], series["interval"]) if series else "",
            _cell(series["any"]) if series else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(one: Mapping[str, Any] | None) -> str:
    return "" if one is None else f"{_percent(one['share'], one['interval'])}, {one['promoted']} of {one['count']}"


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
    parser.add_argument("--sequences", type=int, default=SEQUENCES, help=f"sequences of {LOOKS} retrainings")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=ROOT / ".phaseflow" / "bench-gate", help="where outcomes are kept")
    parser.add_argument("--render", action="store_true", help="make the table of bench/gate.json")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where the table is stale")
    given = parser.parse_args(arguments)
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    if not (given.render or given.check):
        for name in given.projects:
            outcomes = []
            splits = given.sequences // OF_A_SPLIT
            for outcome in simulate(name, given.count, splits, given.processes, given.work / f"{name}.jsonl"):
                outcomes.append(outcome)
                print(f"{name}: {len(outcomes)} of {given.count + splits}", file=sys.stderr)
            results[name] = summary(outcomes)
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
