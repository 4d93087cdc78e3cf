"""Generate a complete project for tabular data, texts or images.

`python -m cli.scaffold NAME --csv FILE --target COLUMN [--text COLUMN]`, or `NAME --images FOLDER`.
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

from cli.scaffold import images, measure, new_project, plan, texts
from cli.scaffold.measure import Measurement
from cli.scaffold.new_project import NewProject
from cli.scaffold.plan import Plan
from cli.scaffold.table.files import files as table_files
from cli.scaffold.table.origin import Origin
from phaseflow import checks, errors
from phaseflow.errors import ContractError, DataError, PhaseflowError, PlatformError
from phaseflow.settings import ROOT

LARGEST: Final = 2_000_000_000
SEED: Final = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 if a project can't be generated; the last line of stderr has the reason."""
    parser = argparse.ArgumentParser(
        prog="phaseflow new", description="Generate a project from a CSV file, or from a folder of images."
    )
    parser.add_argument("name", help="name of the project: lower-case letters, digits and _")
    parser.add_argument("--csv", type=Path, help="the CSV file, optionally gzipped")
    parser.add_argument("--target", default="", help="name of the column to predict")
    parser.add_argument("--text", default="", help="name of the text column, for text classification")
    parser.add_argument(
        "--images", type=Path, help="instead of a CSV file: a folder with one subfolder of images per class"
    )
    parser.add_argument("--side", type=int, default=images.SIDE, help="width and height of the images in pixels")
    parser.add_argument("--into", type=Path, default=ROOT / "projects", help="folder in which the project is created")
    parser.add_argument(
        "--task", choices=["classification", "regression"], default="", help="by default inferred from the target"
    )
    parser.add_argument("--url", default="", help="public URL of the same file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(arguments)
    try:
        if args.images or args.text:
            return _create_from_texts_or_images(args)
        if not (args.csv and args.target):
            raise ContractError(
                "There is no input for the project", fix="Give --csv FILE --target COLUMN, or --images FOLDER"
            )
        project_plan, measurement, folder = create(
            args.name, args.csv, args.target, args.into, task=args.task, url=args.url
        )
    except PhaseflowError as error:
        errors.report(error)
        return 2
    summary = _summary(args.name, project_plan, measurement, folder)
    print(json.dumps(summary, indent=2) if args.json else _table(summary, project_plan))
    return 0


def create(
    name: str, csv: Path, target: str, into: Path, *, task: str = "", url: str = ""
) -> tuple[Plan, Measurement, Path]:
    """Create the project `into/name` from a table. The folder is written atomically.

    Raises PhaseflowError if the name is invalid, the folder exists or the file is unsuitable.
    """
    _check_name(name, into)
    content = _read_file(csv)
    project_plan, measurement = _plan_and_measure(content, target, task)
    stored_content = new_project.compress_if_large(content)
    origin = Origin(
        name=name, file=csv.name, content=stored_content, url=url, sha256=hashlib.sha256(content).hexdigest()
    )
    files = {path: text.encode() for path, text in table_files(origin, project_plan, measurement).items()}
    return project_plan, measurement, new_project.publish(into, name, files | {origin.stored: stored_content})


def create_from_texts_or_images(
    name: str,
    into: Path,
    *,
    csv: Path | None = None,
    text: str = "",
    target: str = "",
    url: str = "",
    folder: Path | None = None,
    side: int = images.SIDE,
) -> tuple[NewProject, Path]:
    """Create the project `into/name` from a folder of images or a text column. Raises PhaseflowError like `create`."""
    _check_name(name, into)
    if folder is not None:
        project = images.make(name, folder, side=side)
    elif csv is not None and target:
        project = texts.make(name, _read_file(csv), text, target, file=csv.name, url=url)
    else:
        raise ContractError(
            "A project of texts needs a CSV file and a target column",
            fix="Give --csv FILE --text COLUMN --target COLUMN",
        )
    return project, new_project.publish(into, name, project.files)


def _create_from_texts_or_images(args: argparse.Namespace) -> int:
    project, folder = create_from_texts_or_images(
        args.name,
        args.into,
        csv=args.csv,
        text=args.text,
        target=args.target,
        url=args.url,
        folder=args.images,
        side=args.side,
    )
    quality = project.quality
    summary = {
        "project": args.name,
        "folder": str(folder),
        "task": "classification",
        "target": project.target,
        "classes": list(project.classes),
        "rows": project.rows,
        "metric": "balanced_accuracy",
        "baseline": quality.baseline,
        "quick_model": quality.quick,
        "threshold": quality.threshold,
        "notes": list(project.notes),
        "next": _next_commands(args.name),
    }
    lines = [
        f"classification: {len(project.classes)} classes, {project.rows:,} rows: {', '.join(project.classes[:10])}",
        f"balanced_accuracy: baseline {quality.baseline:g}, quick model {quality.quick:g}; the gate requires {quality.threshold:g}",
        *(f"! {note}" for note in project.notes),
        "",
        f"Written to {folder}. Next:",
        *(f"  {command}" for command in summary["next"]),
    ]
    print(json.dumps(summary, indent=2) if args.json else "\n".join(lines))
    return 0


def _next_commands(name: str) -> list[str]:
    return [f"phaseflow run {name}", f"phaseflow traffic {name}", f"phaseflow traffic {name} --drift --feedback"]


def _check_name(name: str, into: Path) -> None:
    """Raise PhaseflowError if the name is invalid or the project exists."""
    checks.project_name("The project's name", name)
    if keyword.iskeyword(name):
        raise ContractError(
            f"The project's name is {name!r}, a Python keyword", fix=f'Choose another, for example "my_{name}"'
        )
    if (into / name).exists():
        raise PlatformError(
            f"{into / name} already exists", fix=f"Choose another name, or remove it with `rm -r {into / name}`"
        )


def _plan_and_measure(content: bytes, target: str, task: str) -> tuple[Plan, Measurement]:
    """Return the plan and its measurement, without leaking columns if the other columns predict the target."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the quick model need not converge
        project_plan = plan.make(content, target, task)
        try:
            measurement = measure.measure(project_plan, SEED)
        except DataError:
            if not project_plan.leaking:
                raise
        else:
            if measurement.beats_baseline or not project_plan.leaking:
                return project_plan, measurement
        project_plan = plan.make(content, target, task, keep_leaks=True)
        return project_plan, measure.measure(project_plan, SEED)


def _read_file(csv: Path) -> bytes:
    try:
        if csv.stat().st_size > LARGEST:
            raise DataError(f"{csv} is larger than {LARGEST:,} bytes", fix="Give a sample of its rows")
        return csv.read_bytes()
    except OSError as error:
        raise DataError(f"{csv} can't be read: {error.strerror}", fix="Give the path of a CSV file") from error


def _summary(name: str, project_plan: Plan, measurement: Measurement, folder: Path) -> dict[str, Any]:
    used_columns = {feature.source.source for feature in project_plan.features}
    columns = [
        {
            "column": column.source,
            "kind": column.kind if column.source in used_columns else "dropped",
            "missing": column.missing,
            "features": [feature.name for feature in project_plan.features if feature.source.source == column.source],
            "note": column.note,
        }
        for column in project_plan.columns
    ]
    notes = list(project_plan.notes)
    if not measurement.beats_baseline:
        notes.append("The columns hardly predict the target: the quick model is no better than the baseline")
    return {
        "project": name,
        "folder": str(folder),
        "task": project_plan.task,
        "target": project_plan.target.name,
        "classes": list(project_plan.classes),
        "rows": len(project_plan.rows),
        "columns": columns,
        "metric": measurement.metric,
        "baseline": measurement.baseline,
        "quick_model": measurement.quick,
        "threshold": measurement.threshold,
        "notes": notes,
        "next": _next_commands(name),
    }


def _table(summary: dict[str, Any], project_plan: Plan) -> str:
    """Render the summary as text."""
    rows = [("column", "kind", "missing", "note")]
    rows += [
        (column["column"][:32], column["kind"], str(column["missing"]), column["note"]) for column in summary["columns"]
    ]
    widths = [max(len(row[index]) for row in rows) for index in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    ]
    task = f"{summary['task']} of {project_plan.target.source}"
    if summary["classes"]:
        task += f", {len(summary['classes'])} classes: {', '.join(summary['classes'][:10])}"
    return "\n".join(
        [
            *lines,
            "",
            f"{task}; {summary['rows']:,} rows, {len(project_plan.features)} features",
            f"{summary['metric']}: baseline {summary['baseline']:g}, quick model {summary['quick_model']:g}; "
            f"the gate requires {summary['threshold']:g}",
            *(f"! {note}" for note in summary["notes"]),
            "",
            f"Written to {summary['folder']}. Next:",
            *(f"  {command}" for command in summary["next"]),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
