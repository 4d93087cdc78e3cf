"""Renders `drift.py`."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from cli.scaffold.code import quote, render
from cli.scaffold.measure import Measurement
from cli.scaffold.plan import Plan
from cli.scaffold.table.origin import line


def drift(plan: Plan, measurement: Measurement) -> str:
    """The content of `drift.py`."""
    moves = {name: amount for name in measurement.importance if (amount := _spread(plan, name))}
    moves = dict(list(moves.items())[:3])
    lines = [f"        pl.col({quote(name)}) + {amount!r}," for name, amount in moves.items()]
    if not moves:  # No numeric feature can shift: a category gets values that are not in the training data.
        name = next(iter(measurement.importance))
        words = next(feature.kind for feature in plan.features if feature.name == name) == "category"
        lines = [f"        pl.col({quote(name)}) + {quote(' (new)')}," if words else f"        ~pl.col({quote(name)}),"]
    constants, rule, body = (
        _new_numbers(plan) if plan.task == "regression" else _new_classes(plan, moves) or _next_class(plan)
    )
    moved = "\n".join(lines)
    return f'''"""Simulated drift for `phaseflow traffic --drift`: other inputs, and another relation between inputs and label."""

from __future__ import annotations

import numpy as np
import polars as pl

{constants}
def simulate(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Shift the most important columns of rows [N], and change their labels.

    New labels: {rule}.
    Monitoring detects the shift, but a model can learn the new labels only from feedback.
    """
    moved = rows.with_columns(
{moved}
    )
{body}'''


def _new_numbers(plan: Plan) -> tuple[str, str, str]:
    """Constants, a sentence and code for larger labels of a regression."""
    target, spread = plan.target.name, float(f"{plan.rows[plan.target.name].std() or 1.0:.2g}")
    body = f"""    noise = pl.Series(random.normal(1.0, 0.02, rows.height))
    return moved.with_columns(((pl.col({quote(target)}) * 1.5 + {spread!r}) * noise).alias({quote(target)}))
"""
    return "", f"{line(plan.target.source, 40)} is multiplied by 1.5 and increased by {spread:g}", body


def _new_classes(plan: Plan, moves: Mapping[str, float]) -> tuple[str, str, str] | None:
    """Constants, a sentence and code for classes by ranges of one column; None if no column has enough values."""
    count, target = len(plan.classes), plan.target.name
    key = next((name for name in moves if plan.rows[name].n_unique() >= 2 * count), None)
    if key is None or count > 10:
        return None
    values = plan.rows[key].cast(pl.Float64).drop_nulls() + moves[key]
    quantiles = (values.quantile(index / count) for index in range(1, count))
    cuts = tuple(sorted({float(f"{cut:.6g}") for cut in quantiles if cut is not None}))
    constants = f"""CUTS = {render(cuts, before=7)}
CLASSES = {render(plan.classes[::-1][: len(cuts) + 1], before=10)}

"""
    body = f"""    positions = np.searchsorted(CUTS, moved[{quote(key)}].fill_null(CUTS[0]).to_numpy())
    positions = np.where(random.random(rows.height) < 0.05, random.integers(0, len(CLASSES), rows.height), positions)
    return moved.with_columns(pl.Series({quote(target)}, np.array(CLASSES)[positions]))
"""
    return constants, f"the class is the range of {key} between two cuts", body


def _next_class(plan: Plan) -> tuple[str, str, str]:
    """Constants, a sentence and code that replace each class by the next."""
    target = plan.target.name
    following = dict(zip(plan.classes, (*plan.classes[1:], plan.classes[0]), strict=True))
    body = f"""    changed = pl.Series(random.random(rows.height) < 0.9)
    label = pl.col({quote(target)})
    return moved.with_columns(pl.when(changed).then(label.replace(NEXT)).otherwise(label).alias({quote(target)}))
"""
    return (
        f"NEXT = {render(following, before=7)}\n\n",
        "nine rows in ten get the next class",
        body,
    )


def _spread(plan: Plan, name: str) -> float | int:
    """2.5 standard deviations of a numeric feature that can shift, else 0."""
    feature = next(feature for feature in plan.features if feature.name == name)
    if feature.kind not in {"number", "integer"} or feature.part not in {"", "days"}:
        return 0
    spread = 2.5 * float(plan.rows[name].cast(pl.Float64).std() or 0)  # type: ignore[arg-type]  # a number's
    return max(1, round(spread)) if feature.kind == "integer" else float(f"{spread:.2g}")
