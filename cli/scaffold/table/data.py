"""Renders `data.py`."""

from __future__ import annotations

from collections.abc import Sequence

from cli.scaffold.code import Call, quote, render
from cli.scaffold.plan import Feature, Plan
from cli.scaffold.table.origin import Origin, line
from phaseflow.toolkit.delimited import Dialect


def data(origin: Origin, plan: Plan) -> str:
    """The content of `data.py`."""
    used = list(dict.fromkeys(feature.source.name for feature in plan.features))
    inferred_columns = {column.name: column for column in plan.columns} | {plan.target.name: plan.target}
    columns = {
        name: Call(
            inferred_columns[name].reader.function,
            (inferred_columns[name].source,),
            inferred_columns[name].reader.arguments,
        )
        for name in [*used, plan.target.name]
    }
    parts = [feature for feature in plan.features if feature.part]
    names = sorted(
        {"Dialect", *(call.function for call in columns.values()), *(feature.part for feature in parts)},
        key=_import_order,
    )
    dialect = {key: getattr(plan.dialect, key) for key in ("encoding", "separator", "quoted", "skip")}
    non_default = {key: value for key, value in dialect.items() if value != getattr(Dialect(), key)}
    dropped = [f"- {line(column.source)}: {line(column.note)}" for column in plan.columns if column.kind == "dropped"]
    note = "\n\nDropped columns:\n\n" + "\n".join(dropped) + "\n" if dropped else ""
    imported = f"from phaseflow.toolkit.delimited import {', '.join(names)}"
    return f'''"""Read {line(origin.file)}, stored as {origin.stored} in this folder.{note}"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl

from phaseflow.toolkit import delimited
{imported}

DIALECT = {render(Call("Dialect", kwargs=non_default), before=10)}
COLUMNS = {render(columns, before=10)}
"""Readers of the used columns, by name in the schema."""


def sample(seed: int) -> bytes:  # noqa: ARG001  # the sample is the whole file
    """The content of the data file."""
    return (Path(__file__).parent / "{origin.stored}").read_bytes()


def read(content: bytes) -> pl.DataFrame:
    """The file's columns with their types. Cells that don't parse are missing values."""
    return delimited.read(content, COLUMNS, DIALECT)


def transform(raw: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
{_transform(parts)}'''


def _transform(parts: Sequence[Feature]) -> str:
    """The docstring and the body of `transform`."""
    if not parts:
        return '    """Return the columns unchanged: they match the schema."""\n    return raw\n'
    expressions = "".join(
        f"        {part.part}({quote(part.source.name)}).alias({quote(part.name)}),\n" for part in parts
    )
    return (
        '    """Add the parts of dates as numbers. Requests send these parts."""\n'
        f"    return raw.with_columns(\n{expressions}    )\n"
    )


def _import_order(name: str) -> tuple[bool, str]:
    return not name[0].isupper(), name
