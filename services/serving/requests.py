"""What a client may send: msgspec types made from the project's schema, and errors that name the field and the fix."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from phaseflow.contract import Column, Project
from phaseflow.errors import suggestion

MOST_ROWS: Final = 1000
MOST_BYTES: Final = 8 << 20
MOST_TEXT: Final = 10_000
"""Characters of one word."""
TYPES: Final = {"number": float, "integer": int, "boolean": bool}
BATCH: Final = re.compile(rb'\s*\{\s*"rows"\s*:')
PLACE: Final = re.compile(r" - at `\$(?P<place>[^`]*)`$")


class RefusedError(Exception):
    """A request that the client has to mend; becomes a 4xx."""

    def __init__(self, problem: str, fix: str, *, field: str = "", status: int = 422) -> None:
        super().__init__(problem)
        self.problem, self.fix, self.field, self.status = problem, fix, field, status


@dataclass(frozen=True, slots=True)
class Reader:
    """Decoders of a project's requests."""

    project: Project
    row: msgspec.json.Decoder[Any]
    batch: msgspec.json.Decoder[Any]
    rows: Any
    """The type of a list of rows, for `msgspec.convert`."""
    feedback: msgspec.json.Decoder[Any]


def _type(column: Column) -> Any:
    kind: Any = TYPES.get(column.kind, str)
    if column.kind in {"number", "integer"}:
        kind = Annotated[kind, msgspec.Meta(ge=column.minimum, le=column.maximum)]
    elif kind is str:
        kind = Annotated[kind, msgspec.Meta(max_length=MOST_TEXT)]
    return kind | None if column.nullable else kind


@functools.cache
def reader(project_name: str) -> Reader:
    """The project's decoders, made once."""
    from phaseflow import registry  # noqa: PLC0415  # only the first request of a project needs it

    project = registry.get(project_name)
    fields = [(c.name, _type(c), None) if c.nullable else (c.name, _type(c)) for c in project.schema.features]
    row = msgspec.defstruct("Row", fields, kw_only=True, forbid_unknown_fields=True, gc=False)
    rows = Annotated[list[row], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]  # type: ignore[valid-type]  # made here
    batch = msgspec.defstruct("Batch", [("rows", rows)], forbid_unknown_fields=True)
    target = project.schema.target
    truth: Any = float if target is not None and target.kind in {"number", "integer"} else str | int | bool
    one = msgspec.defstruct("Truth", [("id", Annotated[str, msgspec.Meta(max_length=200)]), ("truth", truth)])
    truths = Annotated[list[one], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]  # type: ignore[valid-type]  # made here
    feedback = msgspec.defstruct("Feedback", [("truths", truths)], forbid_unknown_fields=True)
    return Reader(project, msgspec.json.Decoder(row), msgspec.json.Decoder(batch), rows, msgspec.json.Decoder(feedback))


def rows_of(found: Reader, body: bytes) -> list[tuple[Any, ...]]:
    """The rows of a request's body, each in the order of the schema's features.

    Raises RefusedError.
    """
    try:
        rows = found.batch.decode(body).rows if BATCH.match(body) else [found.row.decode(body)]
    except msgspec.DecodeError as error:
        raise explained(error, found.project) from error
    return checked(found, rows)


def converted(found: Reader, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Rows of plain dictionaries, likewise; raises RefusedError."""
    try:
        return checked(found, msgspec.convert(rows, found.rows))
    except msgspec.ValidationError as error:
        raise explained(error, found.project) from error


def checked(found: Reader, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    """What msgspec can't say: closed sets of words, and numbers too large for a float."""
    tuples = [msgspec.structs.astuple(row) for row in rows]
    for place, column in enumerate(found.project.schema.features):
        if column.allowed:
            for number, row in enumerate(tuples):
                if row[place] is not None and row[place] not in column.allowed:
                    raise RefusedError(
                        f"{column.name} of row {number} is {row[place]!r:.100}; allowed: {', '.join(column.allowed)}",
                        suggestion(row[place][:100], column.allowed) or "Send one of them.",
                        field=column.name,
                    )
        elif column.kind in {"number", "integer"}:
            for number, row in enumerate(tuples):
                if row[place] is not None and not (abs(row[place]) <= 3.4e38 and math.isfinite(row[place])):
                    raise RefusedError(
                        f"{column.name} of row {number} is too large for a 32-bit float",
                        "Send a finite number.",
                        field=column.name,
                    )
    return tuples


def explained(error: msgspec.DecodeError, project: Project) -> RefusedError:
    """The decoder's complaint, in terms of the schema."""
    text = str(error)
    names = project.schema.feature_names
    if not isinstance(error, msgspec.ValidationError):
        return RefusedError(
            f"The body is not JSON: {text}", "Send JSON (NaN and Infinity are not; a missing value is null)."
        )
    place = PLACE.search(text)
    path = place["place"].lstrip(".") if place else ""
    field = path.rsplit(".", 1)[-1] if path and not path.endswith("]") else ""
    said = PLACE.sub("", text)
    quoted = re.search(r"field `([^`]*)`", said)
    if quoted:
        field = quoted[1]
    where = f" (at {path})" if path else ""
    if "unknown field" in said:
        fix = suggestion(field, names) or f"Send only: {', '.join(names)}."
        return RefusedError(f"There is no field {field!r:.100}{where}", fix, field=field)
    if "missing required field" in said:
        return RefusedError(
            f"The field {field!r} is missing{where}", f"Add it: {described(project, field)}.", field=field
        )
    if field in names:
        return RefusedError(f"{field}{where}: {said}", f"Send {described(project, field)}.", field=field)
    return RefusedError(
        f"{said}{where}", 'Send one row as an object, or {"rows": [..]} with 1 to 1000 rows.', field=field
    )


def described(project: Project, name: str) -> str:
    """What a field takes, in words."""
    try:
        column = project.schema[name]
    except KeyError:
        return f"a value for {name}"
    word = {"number": "a finite number", "integer": "a whole number", "boolean": "true or false"}.get(
        column.kind, "a text"
    )
    if column.minimum is not None or column.maximum is not None:
        low = "" if column.minimum is None else f" from {column.minimum:g}"
        high = "" if column.maximum is None else f" to {column.maximum:g}"
        word += low + high
    if column.allowed:
        word = f"one of {', '.join(column.allowed)}"
    return f"{word}{' or null' if column.nullable else ''}"
