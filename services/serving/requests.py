"""What a client may send: msgspec types made from the project's schema, and errors that name the field and the fix."""

from __future__ import annotations

import base64
import binascii
import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from phaseflow import answers, personal, registry
from phaseflow.contract import Column, Project
from phaseflow.errors import DataError, PlatformError, suggestion
from phaseflow.settings import from_environment
from phaseflow.toolkit import images

MOST_ROWS: Final = 1000
MOST_BYTES: Final = 8 << 20
MOST_CHARACTERS: Final = {"text": 100_000, "image": MOST_BYTES}
MOST_CHARACTERS_OF_A_WORD: Final = 1000
MAX_PIXELS: Final = 64_000_000
"""Of all images of a request."""
SHOWN: Final = 100
"""Characters of a client's own words that an error repeats."""
LARGEST: Final = 3.4028234e38
"""The model takes 32-bit floats."""
BATCH: Final = re.compile(rb'\s*\{\s*"rows"\s*:\s*\[')
PLACE: Final = re.compile(r" - at `(?P<place>[^`]*)`$")
NOT_A_NUMBER: Final = re.compile(rb'"(?P<field>\w{1,48})"\s*:\s*(?P<found>NaN|-?Infinity)')
DATA_URL: Final = re.compile(r"data:image/[a-z+]{1,10};base64,")
GROUP: Final = re.compile(r"([0-9a-f]{64})?")
"""SHA-256 of what a row's group is called; empty of a row that is a group of its own."""
SHAPE: Final = f'Send one row as an object, or {{"rows": [..]}} with 1 to {MOST_ROWS} rows.'

Row = tuple[Any, ...]
"""Values in the order of the schema's features."""


class RefusedError(Exception):
    """A request that the client has to mend, or to send later; becomes a 4xx, or a 503."""

    def __init__(self, problem: str, fix: str, *, field: str = "", status: int = 422) -> None:
        super().__init__(problem)
        self.problem, self.fix, self.field, self.status = problem, fix, field, status


class GoneError(Exception):
    """The client went away in mid-request."""


def no_check() -> None:
    """Checks nothing."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Decoders of a project's requests."""

    project: Project
    row: msgspec.json.Decoder[Any]
    batch: msgspec.json.Decoder[Any]
    rows: Any
    """The type of a list of rows, for `msgspec.convert`."""
    feedback: msgspec.json.Decoder[Any]
    closed: tuple[tuple[int, Column, frozenset[str | None]], ...]
    """Columns whose values are listed, with their place in a row."""
    images: tuple[tuple[int, Column], ...]
    """Columns that hold images, with their place in a row."""
    hashed: tuple[tuple[int, Column], ...]
    """Personal columns whose values are replaced by their keyed hash, with their place in a row."""


def _type(column: Column) -> Any:
    low, high = column.minimum, column.maximum
    kind: Any
    if column.kind == "number":
        kind = Annotated[float, msgspec.Meta(ge=-LARGEST if low is None else low, le=LARGEST if high is None else high)]
    elif column.kind == "integer":
        least = -(2**63) if low is None else max(math.ceil(low), -(2**63))
        most = 2**63 - 1 if high is None else min(math.floor(high), 2**63 - 1)
        kind = Annotated[int, msgspec.Meta(ge=least, le=most)]
    elif column.kind == "boolean":
        kind = bool
    else:
        most = MOST_CHARACTERS.get(column.kind, MOST_CHARACTERS_OF_A_WORD)
        least = 0 if column.nullable or column.kind == "text" else 1
        kind = Annotated[str, msgspec.Meta(min_length=least, max_length=most)]
    return kind | None if column.nullable else kind


def _truth_type(project: Project) -> Any:
    target = project.schema.target
    if target is None:
        return str
    if target.kind == "integer":  # 3.0 is welcome
        return Annotated[float, msgspec.Meta(ge=target.minimum, le=target.maximum)]
    if answers.structured(target):
        text = Annotated[str, msgspec.Meta(max_length=MOST_CHARACTERS["text"])]
        return text if target.kind == "text" else list[Any]  # its parts are checked by `answers`, in our words
    word = Annotated[str, msgspec.Meta(max_length=MOST_CHARACTERS_OF_A_WORD)]
    return _type(target) if target.kind in {"number", "boolean"} else word | int | bool


@functools.cache
def reader(project_name: str) -> Reader:
    """The project's decoders, made once."""
    project = registry.get(project_name)
    features = project.schema.features
    fields = [(c.name, _type(c), None) if c.nullable else (c.name, _type(c)) for c in features]
    row = msgspec.defstruct("Row", fields, kw_only=True, forbid_unknown_fields=True, gc=False)
    rows = Annotated[list[row], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]  # type: ignore[valid-type]  # made here
    batch = msgspec.defstruct("Batch", [("rows", rows)], forbid_unknown_fields=True)
    identity = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    group = Annotated[str, msgspec.Meta(max_length=MOST_CHARACTERS_OF_A_WORD)]
    fields_of_truth: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("id", identity),
        ("truth", _truth_type(project)),
        ("group", group, ""),
    ]
    one = msgspec.defstruct("Truth", fields_of_truth, forbid_unknown_fields=True)
    truths = Annotated[list[one], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]  # type: ignore[valid-type]  # made here
    feedback = msgspec.defstruct("Feedback", [("truths", truths)], forbid_unknown_fields=True)
    closed = tuple(
        (place, column, frozenset([*column.allowed, None] if column.nullable else column.allowed))
        for place, column in enumerate(features)
        if column.closed
    )
    pictures = tuple((place, column) for place, column in enumerate(features) if column.kind == "image")
    hashed = tuple((place, column) for place, column in enumerate(features) if column.hashed)
    decoder = msgspec.json.Decoder
    return Reader(project, decoder(row), decoder(batch), rows, decoder(feedback), closed, pictures, hashed)


@functools.cache
def pseudonyms(project_name: str) -> personal.Pseudonyms | None:
    """What hashes the project's personal columns; raises PlatformError when the secret is missing."""
    return personal.pseudonyms(registry.get(project_name), from_environment())


def rows_of(found: Reader, body: bytes, check: Callable[[], None] = no_check) -> list[Row]:
    """The rows of a request's body; raises RefusedError, and what `check` raises, which is called between two images."""
    if BATCH.match(body):
        return _checked(found, decoded(found.batch, body, found.project).rows, check)
    return _checked(found, [decoded(found.row, body, found.project)], check)


def converted(found: Reader, rows: Sequence[Any], check: Callable[[], None] = no_check) -> list[Row]:
    """Rows of plain dictionaries, likewise; raises RefusedError."""
    for number, row in enumerate(rows):  # what other decoders let through
        for name, value in row.items() if isinstance(row, dict) else ():
            known = name in found.project.schema.feature_names  # a field that is not is refused below, by its name
            if known and isinstance(value, float) and not math.isfinite(value):
                raise _not_a_number(found.project, str(name), f"[{number}].{name}", str(value))
    try:
        return _checked(found, msgspec.convert(rows, found.rows), check)
    except msgspec.ValidationError as error:
        raise explained(error, found.project) from error


def decoded(decoder: msgspec.json.Decoder[Any], body: bytes, project: Project, fix: str = SHAPE) -> Any:
    """The body as the decoder's type; raises RefusedError."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explained(error, project, fix) from error
    except RecursionError as error:
        raise RefusedError("The body is nested too deeply", fix) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        wrong = NOT_A_NUMBER.search(body)
        if wrong is not None and wrong["field"].decode() in project.schema.feature_names:
            name, number = wrong["field"].decode(), body[: wrong.start()].count(b"{") - 2
            where = f"rows[{number}].{name}" if BATCH.match(body) else name
            raise _not_a_number(project, name, where, wrong["found"].decode()) from error
        said = str(error).removeprefix("JSON is malformed: ")
        raise RefusedError(
            f"The body is not JSON: {said:.200}",
            "Send JSON, in UTF-8 (NaN and Infinity are none; a missing value is null).",
        ) from error


def _not_a_number(project: Project, name: str, where: str, found: str) -> RefusedError:
    return RefusedError(f"{where} is {found}, which is not a number", f"Send {described(project, name)}.", field=name)


def _checked(found: Reader, rows: Sequence[Any], check: Callable[[], None]) -> list[Row]:
    """Tuples; what msgspec can't say in our words is said here: closed sets of words."""
    tuples: list[Row] = [msgspec.structs.astuple(row) for row in rows]
    for place, column, allowed in found.closed:
        for number, row in enumerate(tuples):
            if row[place] not in allowed:
                raise RefusedError(
                    f"{column.name} of row {number} is {row[place][:SHOWN]!r}; allowed: {', '.join(column.allowed)}",
                    suggestion(row[place][:SHOWN], column.allowed) or "Send one of them.",
                    field=column.name,
                )
    if found.hashed:
        tuples = _hashed(found, tuples)
    return _seen(found, tuples, check) if found.images else tuples


def _hashed(found: Reader, rows: list[Row]) -> list[Row]:
    """The rows with keyed hashes in the place of personal values: the model has learned from those."""
    try:
        hashes = pseudonyms(found.project.name)
    except PlatformError as error:
        raise RefusedError(
            f"The personal columns of {found.project.name} can't be hashed: {error.problem}",
            f"{error.fix}.",
            status=503,
        ) from error
    if hashes is None:
        return rows
    tables = [list(row) for row in rows]
    for place, column in found.hashed:
        for cells in tables:
            cells[place] = hashes(column.name, cells[place])
    return [tuple(cells) for cells in tables]


def _seen(found: Reader, rows: list[Row], check: Callable[[], None]) -> list[Row]:
    """The rows with pixels in the place of their images' base64; no image is decoded before all sizes have been looked at."""
    tables = [list(row) for row in rows]
    budget = MAX_PIXELS
    for place, column in found.images:
        for number, cells in enumerate(tables):
            if cells[place] is not None:
                where = f"{column.name} of row {number}"
                cells[place] = _file(cells[place], column, where)
                width, height = _size(cells[place], column, where)
                budget -= width * height
                if budget < 0:
                    raise RefusedError(
                        f"The images of the request have more than {MAX_PIXELS / 1e6:g} million pixels",
                        "Send fewer at once, or smaller ones.",
                        field=column.name,
                    )
    for place, column in found.images:
        for number, cells in enumerate(tables):
            if cells[place] is not None:
                check()
                cells[place] = _pixels(cells[place], column, f"{column.name} of row {number}")
    return [tuple(cells) for cells in tables]


def _file(text: str, column: Column, where: str) -> bytes:
    """The file of a base64 text; raises RefusedError that begins with `where`."""
    try:
        return base64.b64decode(DATA_URL.sub("", text, count=1), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(
            f"{where} is not base64: {error}", f"Send {_described(column)}.", field=column.name
        ) from error


def _size(content: bytes, column: Column, where: str) -> tuple[int, int]:
    try:
        return images.size(content)
    except DataError as error:
        raise RefusedError(f"{where}: {error.problem}", f"{error.fix}.", field=column.name) from error


def _pixels(content: bytes, column: Column, where: str) -> bytes:
    try:
        return images.decode(content, column.shape)
    except DataError as error:
        raise RefusedError(f"{where}: {error.problem}", f"{error.fix}.", field=column.name) from error


def is_image(project: Project) -> bool:
    """Whether a single image is a row."""
    needed = [column.kind for column in project.schema.features if not column.nullable]
    return needed == ["image"]


def row_of_image(found: Reader, content: bytes) -> list[Row]:
    """The row of a request whose body is an image's file; raises RefusedError where a row is more than that."""
    if not is_image(found.project):
        raise RefusedError(f"A row of {found.project.name} is no single image", SHAPE, status=415)
    ((place, column),) = found.images
    row: list[Any] = [None] * len(found.project.schema.features)
    row[place] = _pixels(content, column, column.name)
    return [tuple(row)]


def explained(error: msgspec.ValidationError, project: Project, fix: str = SHAPE) -> RefusedError:
    """The decoder's complaint, in terms of the schema."""
    text = str(error)
    names = project.schema.feature_names
    place = PLACE.search(text)
    path = place["place"].lstrip("$.")[:SHOWN] if place else ""
    said = PLACE.sub("", text)[: 2 * SHOWN]
    where = f" (at {path})" if path else ""
    quoted = re.search(r"field `(.*)`", PLACE.sub("", text), re.DOTALL)
    if quoted:
        field = quoted[1][:SHOWN]
        if "unknown field" in said:
            if fix is SHAPE and field not in (*names, "rows"):
                fix = suggestion(field, names) or f"Send only: {', '.join(names)}."
            return RefusedError(f"There is no field {field!r}{where}", fix, field=field)
        known_fix = f"Add it: {described(project, field)}." if field in names else fix
        return RefusedError(f"The field {field!r} is missing{where}", known_fix, field=field)
    field = path.rsplit(".", 1)[-1]
    if field in names:
        return RefusedError(f"{path}: {said}", f"Send {described(project, field)}.", field=field)
    return RefusedError(f"{said}{where}", fix, field="" if field.endswith("]") else field)


def described(project: Project, name: str) -> str:
    """What a feature takes, in words."""
    return _described(project.schema[name])


def _described(column: Column) -> str:
    words = {"number": "a finite number", "integer": "a whole number", "boolean": "true or false"}
    words["image"] = "a PNG or JPEG file as base64, alone or in a data: URL"
    word = words.get(column.kind, "a text")
    if column.allowed:
        word = f"one of {', '.join(column.allowed)}"
    if column.minimum is not None:
        word += f" from {column.minimum:g}"
    if column.maximum is not None:
        word += f" to {column.maximum:g}" if column.minimum is not None else f" up to {column.maximum:g}"
    return f"{word}{' or null' if column.nullable else ''}"
