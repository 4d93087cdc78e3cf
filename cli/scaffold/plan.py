"""Plan a project from a file: task, features and dropped columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import narwhals as nw
import polars as pl

from cli.scaffold import infer, leaks
from cli.scaffold.infer import MINIMUM_ROWS, InferredColumn, Reader
from cli.scaffold.sniff import sniff
from phaseflow.errors import DataError, suggestion
from phaseflow.toolkit import delimited
from phaseflow.toolkit.delimited import Dialect

CLASS_ROWS: Final = 8
"""Minimum number of rows per class for training and evaluation."""
CLASSES: Final = 100
FEW_NUMBERS: Final = 20
"""Maximum number of distinct whole numbers in a target that counts as classes."""
DATE_PARTS: Final = ("days", "month", "weekday", "hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature: a column of the file, or a part of a date column."""

    name: str
    kind: str
    source: InferredColumn
    part: str = ""
    """Function of `phaseflow.toolkit.delimited` that extracts the part of a date; empty for other columns."""
    nullable: bool = False

    @property
    def expression(self) -> nw.Expr:
        """Expression of the feature on the frame that the project's `read` returns."""
        column = self.source.name
        return (getattr(delimited, self.part)(column) if self.part else nw.col(column)).alias(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that the templates of a project need."""

    dialect: Dialect
    columns: tuple[InferredColumn, ...]
    """Every column of the file except the target; unused columns have the kind `dropped`."""
    features: tuple[Feature, ...]
    target: InferredColumn
    task: str
    classes: tuple[str, ...]
    rows: pl.DataFrame
    """Features and target of every usable row; the target is the last column."""
    unusable: float
    """Share of the file's rows with a missing target or a rare class."""
    notes: tuple[str, ...]
    """Findings that the author should check."""

    @property
    def leaking(self) -> bool:
        """Whether a column was dropped because it leaks the target."""
        return any("left out" in note for note in self.notes if note.startswith("LEAK"))


def make(content: bytes, target: str, task: str = "", *, keep_leaks: bool = False) -> Plan:
    """Plan a project. If `task` is empty, it is inferred from the target.

    Columns that leak the target are dropped, unless `keep_leaks` is true or no other column would remain.

    Raises DataError if the file, the target or the task is unsuitable.
    """
    dialect = sniff(content)
    cells = delimited.table(content, dialect)
    target = target_name(target, cells)
    names = dict(zip(cells.columns, infer.names(cells.columns), strict=True))
    mark = infer.decimal_mark(cells, dialect.separator)
    task, classes, target_column = _target(cells[target], names[target], task, mark)
    columns = [infer.column(cells[name], names[name], mark) for name in cells.columns if name != target]
    if all(column.kind == "dropped" for column in columns):  # The only usable column is x = 1, 2, 3, …
        columns = [replace(column, kind="integer") if column.note == infer.ROW_NUMBER else column for column in columns]
    used_columns = [column for column in (*columns, target_column) if column.kind != "dropped"]
    typed = delimited.read(
        content, {column.name: column.reader.reading(column.source) for column in used_columns}, dialect
    )
    typed = typed.filter(
        pl.col(target_column.name).is_in(classes) if classes else pl.col(target_column.name).is_not_null()
    )
    if len(typed) < MINIMUM_ROWS:
        raise DataError(
            f"The file has {len(typed)} usable rows; allowed: {MINIMUM_ROWS} or more", fix="Collect more rows"
        )
    features = [feature for column in used_columns[:-1] for feature in _features(column, set(names.values()))]
    rows = nw.from_native(typed).select(*(feature.expression for feature in features), target_column.name)
    selected, reasons, notes = _worth_keeping(features, rows.to_native(), target_column.name, task, keep_leaks)
    if not selected:
        why = "; ".join(f"{column.source}: {reasons.get(column.source, column.note)}" for column in columns[:8])
        raise DataError(f"No column is left to learn from ({why})", fix="Give a file with columns that vary and repeat")
    return Plan(
        dialect=dialect,
        columns=tuple(
            replace(column, kind="dropped", note=reasons[column.source]) if column.source in reasons else column
            for column in columns
        ),
        features=tuple(replace(feature, nullable=rows[feature.name].null_count() > 0) for feature in selected),
        target=target_column,
        task=task,
        classes=classes,
        rows=rows.to_native().select(*(feature.name for feature in selected), target_column.name),
        unusable=1 - len(typed) / len(cells),
        notes=(*_target_notes(target_column, cells[target].drop_nulls(), classes), *notes),
    )


def _target(cells: pl.Series, name: str, task: str, mark: str) -> tuple[str, tuple[str, ...], InferredColumn]:
    """Task, classes and column of the target. Raises DataError if the column has too few values or does not suit."""
    label = cells.drop_nulls()
    if len(label) < MINIMUM_ROWS:
        raise DataError(
            f"{len(label)} rows have a value in {cells.name!r}; allowed: {MINIMUM_ROWS} or more",
            fix="Collect more rows",
        )
    task, reader = _task(label, task, mark)
    classes = classes_of(label) if task == "classification" else ()
    kind = "category" if classes else "number"
    column = InferredColumn(source=cells.name, name=name, kind=kind, missing=cells.null_count(), reader=reader)
    return task, classes, column


def target_name(target: str, cells: pl.DataFrame) -> str:
    """Find the column `target`; case is ignored if there is no exact match."""
    alike = [name for name in cells.columns if name.casefold() == target.strip().casefold()]
    if target in cells.columns or len(alike) == 1:
        return target if target in cells.columns else alike[0]
    column_list = ", ".join(cells.columns[:20]) + (", …" if cells.width > 20 else "")
    raise DataError(
        f"The file has no column {target!r}; found: {column_list}",
        fix=suggestion(target, cells.columns) or "Give one of them, or add a header line if the file has none",
    )


def _task(label: pl.Series, task: str, mark: str) -> tuple[str, Reader]:
    """The task that fits the target's values, and the reader of its cells."""
    values = label.unique(maintain_order=True)
    if len(values) == 1:
        raise DataError(
            f"The target {label.name!r} is always {values[0]!r}", fix="Choose a column that has two values or more"
        )
    numbers = infer.number_reader(values.head(5000), mark)
    if task == "regression" and numbers is None:
        raise DataError(
            f"The target {label.name!r} holds text such as {values[0]!r}, which is not a number",
            fix="Use --task classification",
        )
    if numbers is None or task == "classification" or (not task and _few_whole(infer.parse(label, numbers))):
        return "classification", Reader()
    if infer.parse(label, numbers).n_unique() == 1:
        raise DataError(f"The target {label.name!r} is always the same number", fix="Choose a column that varies")
    return "regression", numbers


def _few_whole(numbers: pl.Series) -> bool:
    """Whether numbers look like classes: two values, or a few frequent whole numbers."""
    non_null = numbers.drop_nulls()
    distinct = non_null.n_unique()
    whole = bool((non_null == non_null.round()).all())
    return distinct == 2 or (
        whole and distinct <= FEW_NUMBERS and len(non_null) >= distinct * (10 if distinct <= 10 else 50)
    )


def classes_of(label: pl.Series) -> tuple[str, ...]:
    """The classes with enough rows, sorted; numbers are sorted by value."""
    counts = label.value_counts()
    frequent = counts.filter(counts["count"] >= CLASS_ROWS)[label.name].to_list()
    if len(frequent) > CLASSES or (not frequent and len(counts) > CLASSES):
        raise DataError(
            f"The target {label.name!r} has {len(counts)} different values; allowed for classes: {CLASSES}",
            fix="Group them, choose another column, or use --task regression if they are numbers",
        )
    if len(frequent) < 2:
        raise DataError(
            f"The target {label.name!r} has {len(frequent)} classes of {CLASS_ROWS} rows or more; allowed: two or more",
            fix="Collect more rows of each class, or merge classes",
        )
    try:
        return tuple(sorted(frequent, key=float))
    except ValueError:
        return tuple(sorted(frequent))


def _target_notes(target_column: InferredColumn, label: pl.Series, classes: tuple[str, ...]) -> Iterator[str]:
    if target_column.missing:
        yield f"{target_column.missing} rows without {target_column.source} are quarantined"
    if classes and (rare := sorted(set(label) - set(classes))):
        class_list = ", ".join(rare[:5]) + (", …" if len(rare) > 5 else "")
        yield f"Classes with fewer than {CLASS_ROWS} rows are quarantined: {class_list}"
    if infer.IDENTIFIER.search(target_column.name) and not classes:
        yield f"The target {target_column.source} looks like an identifier: check that it is the column to predict"


def _features(column: InferredColumn, file_columns: set[str]) -> list[Feature]:
    """The features of a column: the column itself, or the parts of a date under unused names."""
    if column.kind != "date":
        return [Feature(name=column.name, kind=column.kind, source=column)]
    names = {part: f"{column.name.rstrip('_')}_{part}" for part in DATE_PARTS}
    return [
        Feature(name=f"{name}_" if name in file_columns else name, kind="integer", source=column, part=part)
        for part, name in names.items()
    ]


def _worth_keeping(
    features: list[Feature], rows: pl.DataFrame, target: str, task: str, keep_leaks: bool
) -> tuple[list[Feature], dict[str, str], list[str]]:
    """The selected features, the reasons for dropped columns by source name, and notes for the author."""
    redundant = _redundant(features, rows)
    varied = [feature for feature in features if feature.name not in redundant]
    leaking = leaks.find(rows.select(feature.name for feature in varied), rows[target], task) if varied else {}
    selected = [feature for feature in varied if feature.name not in leaking]
    keep_leaks = keep_leaks or not selected
    if keep_leaks:
        outcome = "kept, because the other columns predict nothing"
    else:
        outcome = "left out; add it if its value is known before the label"
    notes = [f"LEAK: {name} {reason}: {outcome}" for name, reason in leaking.items()]
    if keep_leaks:
        selected, leaking = varied, {}
    whole = {feature.name: feature.source.source for feature in features if not feature.part}
    reasons = {whole[name]: reason for name, reason in (redundant | leaking).items() if name in whole}
    return selected, reasons, notes


def _redundant(features: list[Feature], rows: pl.DataFrame) -> dict[str, str]:
    """Features that are constant, or that sort the rows in the same order as another feature."""
    redundant: dict[str, str] = {}
    first_by_order: dict[bytes, str] = {}
    for feature in sorted(features, key=lambda feature: bool(feature.part)):
        values = rows[feature.name]
        if values.n_unique() == 1:
            redundant[feature.name] = "always the same"
            continue
        first_feature = first_by_order.setdefault(values.rank("dense").hash(0).to_numpy().tobytes(), feature.name)
        if first_feature != feature.name:
            redundant[feature.name] = f"redundant with {first_feature}"
    return redundant
