"""`python -m bench.results`: what the last runs of all projects gave, in bench/results.json and in the README's table.

The runs are those of the platform's own store, by whichever way they came (a DAG, `phaseflow run`). With `--render` the table alone is
made again of the file; with `--check` nothing is written, and a stale table is an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from phaseflow import registry
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import ROOT, from_environment
from phaseflow.store import Store

FILE: Final = ROOT / "bench" / "results.json"
README: Final = ROOT / "README.md"
BEGIN: Final = "<!-- projects: made by `python -m bench.results` -->\n"
END: Final = "<!-- end of projects -->\n"
HEAD: Final = """\
| phase | project | answers with | metric | selection | baseline | champion | changed world | retrained | training | model | latency |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def last(store: Store, project: Project) -> dict[str, Any]:
    """The figures of the newest run without an earlier champion whose winner passed the gate (`first`: every candidate's), and of
    the newest that an alert asked for (`retrained`: the primary metric of the champion and of the winner, on the holdout of both
    worlds); each where there is one.
    """
    keys = [key for key in store.keys(f"runs/{project.name}") if key.endswith("/verdict.json")]
    passed = [verdict for verdict in (json.loads(store.read(key)) for key in keys) if verdict["passed"]]
    found: dict[str, Any] = {}
    metric = project.primary.name
    for verdict in sorted(passed, key=lambda verdict: str(verdict["created"])):
        day = verdict["created"][:10]
        if verdict["champion"] is None:
            found["first"] = {"winner": verdict["candidate"], "day": day, "candidates": verdict["candidates"]}
        elif verdict["run"].startswith("retrain__"):
            before, after = verdict["champion_metrics"][metric], verdict["metrics"][metric]
            found["retrained"] = {"champion": before, "winner": after, "day": day}
            if verdict.get("intervals"):  # verdicts of earlier releases have none
                found["retrained"] |= {"interval": verdict["intervals"][metric], "gain": verdict["gain"]}
    return found


def collect(store: Store, known: Mapping[str, Any]) -> dict[str, Any]:
    """The last runs of every project, and where one has none here what is known already; raises PlatformError where there is none."""
    found = {project.name: last(store, project) for project in registry.all_projects()}
    if not any(found.values()):
        raise PlatformError(f"There is no run in {store.root}", fix=f"`bin/phaseflow demo {next(iter(found))}`")
    return {name: both for name, result in found.items() if (both := {**known.get(name, {}), **result})}


def table(results: Mapping[str, Any]) -> str:
    """A line a project with results in Markdown: the first candidate is the baseline, the winner's figures beside it.

    `selection` is the winner's figure inside the training rows, all others are of the holdout; each with its interval of 95 %, where the run
    gave one.
    """
    lines = []
    shown = [project for project in registry.all_projects() if "first" in results.get(project.name, {})]
    for project in sorted(shown, key=lambda one: (one.phase, one.name)):
        result, drifted = results[project.name]["first"], results[project.name].get("retrained")
        baseline, winner = project.candidates[0].name, result["winner"]
        first, best = result["candidates"][baseline], result["candidates"][winner]
        metric = project.primary.name
        lines.append(
            f"| {project.phase} | [`{project.name}`](projects/{project.name}/README.md) | {answer(project)} | {metric.replace('_', ' ')} "
            f"| {_selection(best)} | {_judged(first, metric)} ({_words(baseline)}) | {_judged(best, metric)} ({_words(winner)}) "
            f"| {_figure(drifted, 'champion')} | {_figure(drifted, 'winner')}{_span((drifted or {}).get('interval'))} "
            f"| {best['seconds']:.1f} s | {_size(best['size_mb'])} | {best['latency_ms']:.2g} ms |\n"
        )
    return HEAD + "".join(lines)


def answer(project: Project) -> str:
    """What goes in and what comes out, by the kinds of the schema."""
    kinds = {column.kind for column in project.schema.features}
    given = next((kind for kind in ("image", "text", "id") if kind in kinds), "a row")
    target = project.schema.target
    return f"{given} → {target.kind if target else 'segment'}"


def _figure(found: Mapping[str, Any] | None, name: str) -> str:
    return "" if found is None else f"{found[name]:.3g}"


def _selection(candidate: Mapping[str, Any]) -> str:
    chosen_by = candidate.get("selection")
    return (
        f"{chosen_by['value']:.3g}{_span(chosen_by['interval'])}"
        if chosen_by and chosen_by["value"] is not None
        else ""
    )


def _judged(candidate: Mapping[str, Any], metric: str) -> str:
    return f"{candidate['metrics'][metric]:.3g}{_span(candidate.get('intervals', {}).get(metric))}"


def _span(interval: Sequence[float] | None) -> str:
    return f" [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else ""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _size(megabytes: float) -> str:
    return f"{megabytes:.2g} MB" if megabytes >= 1 else f"{megabytes * 1000:.3g} kB"


def rendered(readme: str, results: Mapping[str, Any]) -> str:
    """The README with its table made again; raises PlatformError without the two marks."""
    before, mark, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise PlatformError("README.md lacks the marks of the table", fix=f"Add the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}{table(results)}{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Do it."""
    parser = argparse.ArgumentParser(prog="bench.results", description=__doc__)
    parser.add_argument("--render", action="store_true", help="make the table of bench/results.json")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where the table is stale")
    told = parser.parse_args(arguments)
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    try:
        if not (told.render or told.check):
            results = collect(Store(from_environment().store), results)
            FILE.write_text(json.dumps(results, indent=1) + "\n")
        readme = README.read_text()
        made = rendered(readme, results)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if made != readme and told.check:
        print("stale: README.md (`make generate`)", file=sys.stderr)
        return 1
    if made != readme:
        README.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
