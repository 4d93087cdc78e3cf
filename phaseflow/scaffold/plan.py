"""From a file to what its project will be: the task, the features, and what is left out and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import narwhals as nw
import polars as pl

from phaseflow.errors import DataError, suggestion
from phaseflow.scaffold import infer, leaks
from phaseflow.scaffold.infer import MINIMUM_ROWS, Found, Reader
from phaseflow.scaffold.sniff import sniff
from phaseflow.toolkit import delimited
from phaseflow.toolkit.delimited import Dialect

CLASS_ROWS: Final = 8
"""A class with fewer rows can be neither learned nor judged."""
CLASSES: Final = 100
FEW_NUMBERS: Final = 20
"""Different whole numbers that a target may have and still be taken for classes."""
DATE_PARTS: Final = ("days", "month", "weekday", "hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature: a column of the file, or a part of a date."""

    name: str
    kind: str
    source: Found
    part: str = ""
    """The function of `phaseflow.toolkit.delimited` that takes it from a date."""
    nullable: bool = False

    @property
    def expression(self) -> nw.Expr:
        """It, from the frame that the project's `read` gives."""
        column = self.source.name
        return (getattr(delimited, self.part)(column) if self.part else nw.col(column)).alias(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a project is made from."""

    dialect: Dialect
    columns: tuple[Found, ...]
    """Every column of the file but the target, as found; what is left out is `dropped`."""
    features: tuple[Feature, ...]
    target: Found
    task: str
    classes: tuple[str, ...]
    rows: pl.DataFrame
    """Features, then the target, of every row that can be learned from."""
    unusable: float
    """Share of the file's rows whose target is missing or a class too rare."""
    notes: tuple[str, ...]
    """What its author should look at."""

    @property
    def leaking(self) -> bool:
        """Whether a column was left out because it gives the target away."""
        return any("left out" in note for note in self.notes if note.startswith("LEAK"))


def make(content: bytes, target: str, task: str = "", *, keep_leaks: bool = False) -> Plan:
    """The plan for a file; `task` is chosen by the target's values where it is empty.

    Columns that give the target away are left out unless `keep_leaks`, or unless nothing else would remain.

    Raises DataError when the file, the target or the task do not make a project.
    """
    dialect = sniff(content)
    cells = delimited.table(content, dialect)
    target = target_name(target, cells)
    names = dict(zip(cells.columns, infer.names(cells.columns), strict=True))
    mark = infer.decimal_mark(cells, dialect.separator)
    truth = cells[target].drop_nulls()
    if len(truth) < MINIMUM_ROWS:
        raise DataError(
            f"{len(truth)} rows have a value in {target!r}; allowed: {MINIMUM_ROWS} or more", fix="Collect more rows"
        )
    task, reader = _task(truth, task, mark)
    classes = classes_of(truth) if task == "classification" else ()
    label = Found(
        source=target,
        name=names[target],
        kind="category" if classes else "number",
        missing=cells[target].null_count(),
        reader=reader,
    )

    columns = [infer.column(cells[name], names[name], mark) for name in cells.columns if name != target]
    if all(column.kind == "dropped" for column in columns):  # x = 1, 2, 3, … is then what there is to learn from.
        columns = [replace(column, kind="integer") if column.note == infer.ROW_NUMBER else column for column in columns]
    used = [column for column in (*columns, label) if column.kind != "dropped"]
    typed = delimited.read(content, {column.name: column.reader.reading(column.source) for column in used}, dialect)
    typed = typed.filter(pl.col(label.name).is_in(classes) if classes else pl.col(label.name).is_not_null())
    if len(typed) < MINIMUM_ROWS:
        raise DataError(
            f"{len(typed)} rows can be learned from; allowed: {MINIMUM_ROWS} or more", fix="Collect more rows"
        )
    features = [feature for column in used[:-1] for feature in _features(column, set(names.values()))]
    rows = nw.from_native(typed).select(*(feature.expression for feature in features), label.name)
    kept, reasons, notes = _worth_keeping(features, rows.to_native(), label.name, task, keep_leaks)
    if not kept:
        why = "; ".join(f"{column.source}: {reasons.get(column.source, column.note)}" for column in columns[:8])
        raise DataError(f"No column is left to learn from ({why})", fix="Give a file with columns that vary and repeat")
    return Plan(
        dialect=dialect,
        columns=tuple(
            replace(column, kind="dropped", note=reasons[column.source]) if column.source in reasons else column
            for column in columns
        ),
        features=tuple(replace(feature, nullable=rows[feature.name].null_count() > 0) for feature in kept),
        target=label,
        task=task,
        classes=classes,
        rows=rows.to_native().select(*(feature.name for feature in kept), label.name),
        unusable=1 - len(typed) / len(cells),
        notes=(*_target_notes(label, truth, classes), *notes),
    )


def target_name(target: str, cells: pl.DataFrame) -> str:
    """The file's column that `target` means, in any case."""
    alike = [name for name in cells.columns if name.casefold() == target.strip().casefold()]
    if target in cells.columns or len(alike) == 1:
        return target if target in cells.columns else alike[0]
    shown = ", ".join(cells.columns[:20]) + (", …" if cells.width > 20 else "")
    raise DataError(
        f"The file has no column {target!r}; found: {shown}",
        fix=suggestion(target, cells.columns) or "Give one of them, or add a header line if the file has none",
    )


def _task(truth: pl.Series, task: str, mark: str) -> tuple[str, Reader]:
    """The task that the target's values ask for, and how they read."""
    values = truth.unique(maintain_order=True)
    if len(values) == 1:
        raise DataError(
            f"The target {truth.name!r} is always {values[0]!r}", fix="Choose a column that has two values or more"
        )
    numbers = infer.number_reader(values.head(5000), mark)
    if task == "regression" and numbers is None:
        raise DataError(
            f"The target {truth.name!r} holds text such as {values[0]!r}, which regression can't learn",
            fix="Use --task classification",
        )
    if numbers is None or task == "classification" or (not task and _few_whole(infer.parse(truth, numbers))):
        return "classification", Reader()
    if infer.parse(truth, numbers).n_unique() == 1:
        raise DataError(f"The target {truth.name!r} is always the same number", fix="Choose a column that varies")
    return "regression", numbers


def _few_whole(numbers: pl.Series) -> bool:
    """Whether numbers look like classes: two, or few whole ones that each stand often."""
    known = numbers.drop_nulls()
    distinct = known.n_unique()
    whole = bool((known == known.round()).all())
    return distinct == 2 or (
        whole and distinct <= FEW_NUMBERS and len(known) >= distinct * (10 if distinct <= 10 else 50)
    )


def classes_of(truth: pl.Series) -> tuple[str, ...]:
    """The classes with rows enough, sorted; numbers by value."""
    counts = truth.value_counts()
    often = counts.filter(counts["count"] >= CLASS_ROWS)[truth.name].to_list()
    if len(often) > CLASSES or (not often and len(counts) > CLASSES):
        raise DataError(
            f"The target {truth.name!r} has {len(counts)} different values; allowed for classes: {CLASSES}",
            fix="Group them, choose another column, or use --task regression if they are numbers",
        )
    if len(often) < 2:
        raise DataError(
            f"The target {truth.name!r} has {len(often)} classes of {CLASS_ROWS} rows or more; allowed: two or more",
            fix="Collect more rows of each class, or merge classes",
        )
    try:
        return tuple(sorted(often, key=float))
    except ValueError:
        return tuple(sorted(often))


def _target_notes(label: Found, truth: pl.Series, classes: tuple[str, ...]) -> Iterator[str]:
    if label.missing:
        yield f"{label.missing} rows without {label.source} are quarantined"
    if classes and (rare := sorted(set(truth) - set(classes))):
        shown = ", ".join(rare[:5]) + (", …" if len(rare) > 5 else "")
        yield f"Classes with fewer than {CLASS_ROWS} rows are quarantined: {shown}"
    if infer.IDENTIFIER.search(label.name) and not classes:
        yield f"The target {label.source} looks like an identifier: is it what you want to predict?"


def _features(column: Found, taken: set[str]) -> list[Feature]:
    """The column itself, or the parts of a date under names that no column of the file has."""
    if column.kind != "date":
        return [Feature(name=column.name, kind=column.kind, source=column)]
    names = {part: f"{column.name.rstrip('_')}_{part}" for part in DATE_PARTS}
    return [
        Feature(name=f"{name}_" if name in taken else name, kind="integer", source=column, part=part)
        for part, name in names.items()
    ]


def _worth_keeping(
    features: list[Feature], rows: pl.DataFrame, target: str, task: str, keep_leaks: bool
) -> tuple[list[Feature], dict[str, str], list[str]]:
    """The features to learn from, why other columns (by source) are left out, and what to tell the author."""
    needless = _needless(features, rows)
    varied = [feature for feature in features if feature.name not in needless]
    leaking = leaks.find(rows.select(feature.name for feature in varied), rows[target], task) if varied else {}
    kept = [feature for feature in varied if feature.name not in leaking]
    keep_leaks = keep_leaks or not kept
    then = "kept, as the rest tells nothing" if keep_leaks else "left out; add it if it is known before the truth is"
    notes = [f"LEAK: {name} {reason}: {then}" for name, reason in leaking.items()]
    if keep_leaks:
        kept, leaking = varied, {}
    whole = {feature.name: feature.source.source for feature in features if not feature.part}
    reasons = {whole[name]: reason for name, reason in (needless | leaking).items() if name in whole}
    return kept, reasons, notes


def _needless(features: list[Feature], rows: pl.DataFrame) -> dict[str, str]:
    """Features that never vary, or that order the rows as another one does."""
    found: dict[str, str] = {}
    seen: dict[bytes, str] = {}
    for feature in sorted(features, key=lambda feature: bool(feature.part)):
        values = rows[feature.name]
        if values.n_unique() == 1:
            found[feature.name] = "always the same"
            continue
        same = seen.setdefault(values.rank("dense").hash(0).to_numpy().tobytes(), feature.name)
        if same != feature.name:
            found[feature.name] = f"says the same as {same}"
    return found
