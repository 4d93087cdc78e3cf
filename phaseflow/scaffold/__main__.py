"""`python -m phaseflow.scaffold NAME --csv FILE --target COLUMN`: write a project that runs as it is."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import keyword
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from phaseflow import checks
from phaseflow.errors import ContractError, DataError, PhaseflowError, PlatformError
from phaseflow.scaffold import measure, plan, render
from phaseflow.scaffold.measure import Measured
from phaseflow.scaffold.plan import Plan
from phaseflow.scaffold.render import Origin
from phaseflow.settings import ROOT
from phaseflow.store import write_atomic

LARGE: Final = 1_000_000
"""Bytes above which the file is kept gzipped."""
LARGEST: Final = 2_000_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 where the file or an argument does not make a project; the last line of stderr says why."""
    parser = argparse.ArgumentParser(prog="phaseflow new", description="Write a new tabular project from a CSV.")
    parser.add_argument("name", help="the project's name: lower-case letters, digits and _")
    parser.add_argument("--csv", required=True, type=Path, help="the file, gzipped or not")
    parser.add_argument("--target", required=True, help="the column to predict")
    parser.add_argument("--into", type=Path, default=ROOT / "projects", help="the folder of projects")
    parser.add_argument("--task", choices=["classification", "regression"], default="", help="by default the target's")
    parser.add_argument("--url", default="", help="public address of the same file")
    parser.add_argument("--json", action="store_true", help="answer with JSON")
    given = parser.parse_args(arguments)
    try:
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
    checks.name("The project's name", name)
    if keyword.iskeyword(name):
        raise ContractError(
            f"The project's name is {name!r}, a word of Python's", fix=f'Choose another, for example "my_{name}"'
        )
    folder = into / name
    if folder.exists():
        raise PlatformError(
            f"{folder} is already there", fix=f"Choose another name, or remove it with `rm -r {folder}`"
        )
    content = _content(csv)
    found, measured = _measured(content, target, task)
    packed = content if len(content) <= LARGE or content.startswith(b"\x1f\x8b") else gzip.compress(content, mtime=0)
    origin = Origin(name=name, file=csv.name, content=packed, url=url, sha256=hashlib.sha256(content).hexdigest())
    into.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=into))
    try:
        unfinished.chmod(0o755)
        for path, text in render.files(origin, found, measured).items():
            write_atomic(unfinished / path, text.encode())
        write_atomic(unfinished / origin.stored, packed)
        unfinished.rename(folder)
    except OSError as error:
        raise PlatformError(
            f"{folder} can't be written: {error.strerror}", fix="Correct the folder, then try again"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return found, measured, folder


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
        "next": [f"phaseflow run {name}", f"phaseflow traffic {name}", f"phaseflow traffic {name} --drift --feedback"],
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
