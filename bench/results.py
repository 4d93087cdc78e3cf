"""`python -m bench.results`: collect the results of the latest runs, and render them in the READMEs.

The results are stored in bench/results.json. The tables are in the README and in each project's README. The runs come
from the platform's store, whether a DAG or `phaseflow run` started them. `--render` only updates the tables from the
file. `--check` writes nothing and fails if a table is stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from phaseflow import discovery, generated
from phaseflow.contract import Project
from phaseflow.errors import PhaseflowError, PlatformError
from phaseflow.settings import ROOT, from_environment
from phaseflow.store import Store

FILE: Final = ROOT / "bench" / "results.json"
README: Final = ROOT / "README.md"
BEGIN: Final = "<!-- projects: made by `python -m bench.results` -->\n"
END: Final = "<!-- end of projects -->\n"
BEGIN_FIGURES: Final = "<!-- figures: made by `python -m bench.results` -->\n"
END_FIGURES: Final = "<!-- end of figures -->\n"
HEAD: Final = """\
| phase | project | answers with | metric | selection | baseline | strong baseline | champion | changed world | retrained | training | model | latency |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def last(store: Store, project: Project) -> dict[str, Any]:
    """The results of the latest first training (`first`) and of the latest retraining after an alert (`retrained`).

    A first training has no earlier champion; `first` has the figures of every candidate. `retrained` has the primary
    metric of the champion and of the winner on a holdout with rows from before and after the drift. Only runs whose
    winner passed the gate count.
    """
    keys = [key for key in store.keys(f"runs/{project.name}") if key.endswith("/verdict.json")]
    passed = [verdict for verdict in (json.loads(store.read(key)) for key in keys) if verdict["passed"]]
    result: dict[str, Any] = {}
    metric = project.primary.name
    for verdict in sorted(passed, key=lambda verdict: str(verdict["created"])):
        day = verdict["created"][:10]
        if verdict["champion"] is None:
            result["first"] = {"winner": verdict["candidate"], "day": day, "candidates": verdict["candidates"]}
        elif verdict["run"].startswith("retrain__"):
            before, after = verdict["champion_metrics"][metric], verdict["metrics"][metric]
            result["retrained"] = {"champion": before, "winner": after, "day": day}
            if verdict.get("intervals"):  # verdicts of earlier releases have no intervals
                result["retrained"] |= {"interval": verdict["intervals"][metric], "gain": verdict["gain"]}
    return result


def collect(store: Store, previous: Mapping[str, Any]) -> dict[str, Any]:
    """The latest runs of every project, or its previous results if the store has no run.

    Raises PlatformError if the store has no run at all.
    """
    latest = {project.name: last(store, project) for project in discovery.all_projects()}
    if not any(latest.values()):
        raise PlatformError(f"There is no run in {store.root}", fix=f"`bin/phaseflow demo {next(iter(latest))}`")
    return {name: merged for name, result in latest.items() if (merged := {**previous.get(name, {}), **result})}


def table(results: Mapping[str, Any]) -> str:
    """A Markdown table with one row per project that has results.

    The first candidate is the simple baseline, the second is the strong baseline. `selection` is the winner's metric on
    the training rows; all other figures are from the holdout. Each has its 95 % interval, if the run recorded one.
    """
    lines = []
    projects = [project for project in discovery.all_projects() if "first" in results.get(project.name, {})]
    for project in sorted(projects, key=lambda project: (project.phase, project.name)):
        result, retraining = results[project.name]["first"], results[project.name].get("retrained")
        baseline, winner = project.candidates[0].name, result["winner"]
        metric = project.primary.name
        first, best = result["candidates"][baseline], result["candidates"][winner]
        strong = next(
            (candidate.name for candidate in project.candidates[1:2] if candidate.name in result["candidates"]), ""
        )
        strong_cell = f"{_metric_cell(result['candidates'][strong], metric)} ({_words(strong)})" if strong else ""
        lines.append(
            f"| {project.phase} | [`{project.name}`](projects/{project.name}/README.md) | {input_and_target(project)} | {metric.replace('_', ' ')} "
            f"| {_selection(best)} | {_metric_cell(first, metric)} ({_words(baseline)}) | {strong_cell} | {_metric_cell(best, metric)} ({_words(winner)}) "
            f"| {_figure(retraining, 'champion')} | {_figure(retraining, 'winner')}{_span((retraining or {}).get('interval'))} "
            f"| {best['seconds']:.1f} s | {_size(best['size_mb'])} | {best['latency_ms']:.2g} ms |\n"
        )
    return HEAD + "".join(lines)


def input_and_target(project: Project) -> str:
    """The kinds of the input and of the target."""
    kinds = {column.kind for column in project.schema.features}
    input_kind = next((kind for kind in ("image", "text", "id") if kind in kinds), "a row")
    target = project.schema.target
    return f"{input_kind} → {target.kind if target else 'segment'}"


def _figure(run: Mapping[str, Any] | None, name: str) -> str:
    return "" if run is None else f"{run[name]:.3g}"


def _selection(candidate: Mapping[str, Any]) -> str:
    selection = candidate.get("selection")
    return (
        f"{selection['value']:.3g}{_span(selection['interval'])}"
        if selection and selection["value"] is not None
        else ""
    )


def _metric_cell(candidate: Mapping[str, Any], metric: str) -> str:
    return f"{candidate['metrics'][metric]:.3g}{_span(candidate.get('intervals', {}).get(metric))}"


def _span(interval: Sequence[float] | None) -> str:
    return f" [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else ""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _size(megabytes: float) -> str:
    return f"{megabytes:.2g} MB" if megabytes >= 1 else f"{megabytes * 1000:.3g} kB"


def figures(project: Project, results: Mapping[str, Any]) -> str:
    """A Markdown table with one row per candidate: its metrics on the holdout in the latest first training."""
    names = [metric.name for metric in project.metrics]
    head = f"| candidate | {' | '.join(map(_words, names))} |\n| --- |{' --- |' * len(names)}\n"
    trained = results.get(project.name, {}).get("first", {}).get("candidates", {})
    lines = [
        f"| `{candidate.name}` | {' | '.join(_number(trained[candidate.name]['metrics'].get(name)) for name in names)} |\n"
        for candidate in project.candidates
        if candidate.name in trained
    ]
    return head + "".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def readme_with_table(readme: str, results: Mapping[str, Any]) -> str:
    """The README with an updated table. Raises PlatformError if one of the two markers is missing."""
    page = between(readme, BEGIN, END, table(results))
    if page is None:
        raise PlatformError("README.md lacks the markers of the table", fix=f"Add the lines {BEGIN!r} and {END!r}")
    return page


def between(page: str, begin: str, end: str, content: str) -> str | None:
    """The page with `content` between the markers `begin` and `end`. None if a marker is missing."""
    before, begin_mark, rest = page.partition(begin)
    _, end_mark, after = rest.partition(end)
    return f"{before}{begin}{content}{end}{after}" if begin_mark and end_mark else None


def pages(results: Mapping[str, Any]) -> dict[Path, str]:
    """Updated text of the README and of each project README that has the markers."""
    contents = {README: readme_with_table(README.read_text(), results)}
    for project in discovery.all_projects():
        path = ROOT / "projects" / project.name / "README.md"
        page = path.read_text() if path.exists() else ""
        new_page = between(page, BEGIN_FIGURES, END_FIGURES, figures(project, results))
        contents |= {} if new_page is None else {path: new_page}
    return contents


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="bench.results", description=__doc__)
    parser.add_argument("--render", action="store_true", help="only update the tables from bench/results.json")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if a table is stale")
    args = parser.parse_args(arguments)
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    try:
        if not (args.render or args.check):
            results = collect(Store(from_environment().store), results)
            FILE.write_text(json.dumps(results, indent=1) + "\n")
        contents = pages(results)
    except PhaseflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    texts = {path.relative_to(ROOT).as_posix(): page for path, page in contents.items()}
    stale = generated.stale(ROOT, texts, whole=False)
    if stale and args.check:
        print(f"stale: {', '.join(stale)} (`make generate`)", file=sys.stderr)
        return 1
    for name in stale:
        (ROOT / name).write_text(texts[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
