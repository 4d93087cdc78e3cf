"""Write a project that runs as it is: of a table, of texts, or of images.

`python -m phaseflow.scaffold NAME --csv FILE --target COLUMN [--text COLUMN]`, or `NAME --images FOLDER`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import keyword
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from phaseflow import checks
from phaseflow.errors import ContractError, DataError, PhaseflowError, PlatformError
from phaseflow.scaffold import images, made, measure, plan, render, texts
from phaseflow.scaffold.made import Made
from phaseflow.scaffold.measure import Measured
from phaseflow.scaffold.plan import Plan
from phaseflow.scaffold.render import Origin
from phaseflow.settings import ROOT

LARGEST: Final = 2_000_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 where the file or an argument does not make a project; the last line of stderr says why."""
    parser = argparse.ArgumentParser(
        prog="phaseflow new", description="Write a new project from a CSV, or from a folder of images."
    )
    parser.add_argument("name", help="the project's name: lower-case letters, digits and _")
    parser.add_argument("--csv", type=Path, help="the file, gzipped or not")
    parser.add_argument("--target", default="", help="the column to predict")
    parser.add_argument(
        "--text", default="", help="the column of texts that it is told from, where that is what it is about"
    )
    parser.add_argument(
        "--images", type=Path, help="instead of a CSV: a folder that has a folder of images for each class"
    )
    parser.add_argument("--side", type=int, default=images.SIDE, help="pixels of an image's side")
    parser.add_argument("--into", type=Path, default=ROOT / "projects", help="the folder of projects")
    parser.add_argument("--task", choices=["classification", "regression"], default="", help="by default the target's")
    parser.add_argument("--url", default="", help="public address of the same file")
    parser.add_argument("--json", action="store_true", help="answer with JSON")
    given = parser.parse_args(arguments)
    try:
        if given.images or given.text:
            return _of_another_kind(given)
        if not (given.csv and given.target):
            raise ContractError(
                "There is nothing to make a project of", fix="Give --csv FILE --target COLUMN, or --images FOLDER"
            )
        found, measured, folder = create(
            given.name, given.csv, given.target, given.into, task=given.task, url=given.url
        )
    except PhaseflowError as error:
        print(error, file=sys.stderr)
        return 2
    answer = _summary(given.name, found, measured, folder)
    print(json.dumps(answer, indent=2) if given.json else _table(answer, found))
    return 0


def create(
    name: str, csv: Path, target: str, into: Path, *, task: str = "", url: str = ""
) -> tuple[Plan, Measured, Path]:
    """Make the project `into/name`: the whole folder appears at once, or none of it.

    Raises PhaseflowError for a wrong name, a folder that is already there, and a file that does not make a project.
    """
    _free(name, into)
    content = _content(csv)
    found, measured = _measured(content, target, task)
    packed = made.packed(content)
    origin = Origin(name=name, file=csv.name, content=packed, url=url, sha256=hashlib.sha256(content).hexdigest())
    files = {path: text.encode() for path, text in render.files(origin, found, measured).items()}
    return found, measured, made.publish(into, name, files | {origin.stored: packed})


def another(
    name: str,
    into: Path,
    *,
    csv: Path | None = None,
    text: str = "",
    target: str = "",
    url: str = "",
    folder: Path | None = None,
    side: int = images.SIDE,
) -> tuple[Made, Path]:
    """Make the project `into/name` of a folder of images, or of a CSV's column of texts; raises PhaseflowError as `create` does."""
    _free(name, into)
    if folder is not None:
        found = images.make(name, folder, side=side)
    elif csv is not None and target:
        found = texts.make(name, _content(csv), text, target, file=csv.name, url=url)
    else:
        raise ContractError(
            "A project of texts needs a file and its classes", fix="Give --csv FILE --text COLUMN --target COLUMN"
        )
    return found, made.publish(into, name, found.files)


def _of_another_kind(given: argparse.Namespace) -> int:
    found, folder = another(
        given.name,
        given.into,
        csv=given.csv,
        text=given.text,
        target=given.target,
        url=given.url,
        folder=given.images,
        side=given.side,
    )
    quality = found.quality
    answer = {
        "project": given.name,
        "folder": str(folder),
        "task": found.task,
        "target": found.target,
        "classes": list(found.classes),
        "rows": found.rows,
        "metric": "balanced_accuracy",
        "baseline": quality.baseline,
        "quick_model": quality.quick,
        "bound": quality.bound,
        "notes": list(found.notes),
        "next": _next(given.name),
    }
    lines = [
        f"{found.task}: {len(found.classes)} classes, {found.rows:,} rows: {', '.join(found.classes[:10])}",
        f"balanced_accuracy: {quality.baseline:g} by a guess, {quality.quick:g} by a quick model; the gate asks for {quality.bound:g}",
        *(f"! {note}" for note in found.notes),
        "",
        f"Written to {folder}. Next:",
        *(f"  {command}" for command in answer["next"]),
    ]
    print(json.dumps(answer, indent=2) if given.json else "\n".join(lines))
    return 0


def _next(name: str) -> list[str]:
    return [f"phaseflow run {name}", f"phaseflow traffic {name}", f"phaseflow traffic {name} --drift --feedback"]


def _free(name: str, into: Path) -> None:
    """Raises PhaseflowError for a name that can't be a project's, or is one already."""
    checks.project_name("The project's name", name)
    if keyword.iskeyword(name):
        raise ContractError(
            f"The project's name is {name!r}, a word of Python's", fix=f'Choose another, for example "my_{name}"'
        )
    if (into / name).exists():
        raise PlatformError(
            f"{into / name} is already there", fix=f"Choose another name, or remove it with `rm -r {into / name}`"
        )


def _measured(content: bytes, target: str, task: str) -> tuple[Plan, Measured]:
    """The plan, without the columns that give the target away where the others tell something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a quick model need not converge
        found = plan.make(content, target, task)
        try:
            measured = measure.measure(found, render.SEED)
        except DataError:
            if not found.leaking:
                raise
        else:
            if measured.learned or not found.leaking:
                return found, measured
        found = plan.make(content, target, task, keep_leaks=True)
        return found, measure.measure(found, render.SEED)


def _content(csv: Path) -> bytes:
    try:
        if csv.stat().st_size > LARGEST:
            raise DataError(f"{csv} is larger than {LARGEST:,} bytes", fix="Give a sample of its rows")
        return csv.read_bytes()
    except OSError as error:
        raise DataError(f"{csv} can't be read: {error.strerror}", fix="Give the path of a CSV file") from error


def _summary(name: str, found: Plan, measured: Measured, folder: Path) -> dict[str, Any]:
    kept = {feature.source.source for feature in found.features}
    columns = [
        {
            "column": column.source,
            "kind": column.kind if column.source in kept else "dropped",
            "missing": column.missing,
            "features": [feature.name for feature in found.features if feature.source.source == column.source],
            "note": column.note,
        }
        for column in found.columns
    ]
    notes = list(found.notes)
    if not measured.learned:
        notes.append("The columns say next to nothing about the target: the quick model is no better than a guess")
    return {
        "project": name,
        "folder": str(folder),
        "task": found.task,
        "target": found.target.name,
        "classes": list(found.classes),
        "rows": len(found.rows),
        "columns": columns,
        "metric": measured.metric,
        "baseline": measured.baseline,
        "quick_model": measured.quick,
        "bound": measured.bound,
        "notes": notes,
        "next": _next(name),
    }


def _table(answer: dict[str, Any], found: Plan) -> str:
    """The summary for people."""
    rows = [("column", "kind", "missing", "note")]
    rows += [(c["column"][:32], c["kind"], str(c["missing"]), c["note"]) for c in answer["columns"]]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    ]
    task = f"{answer['task']} of {found.target.source}"
    if answer["classes"]:
        task += f", {len(answer['classes'])} classes: {', '.join(answer['classes'][:10])}"
    return "\n".join(
        [
            *lines,
            "",
            f"{task}; {answer['rows']:,} rows, {len(found.features)} features",
            f"{answer['metric']}: {answer['baseline']:g} by a guess, {answer['quick_model']:g} by a quick model; "
            f"the gate asks for {answer['bound']:g}",
            *(f"! {note}" for note in answer["notes"]),
            "",
            f"Written to {answer['folder']}. Next:",
            *(f"  {command}" for command in answer["next"]),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
