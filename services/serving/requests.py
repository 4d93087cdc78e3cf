"""Decodes requests with msgspec types built from the project's schema; errors name the field and the fix."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from phaseflow import discovery, kinds, personal
from phaseflow.contract import Column, Project
from phaseflow.errors import DataError, PlatformError, suggestion
from phaseflow.kinds import image_files
from phaseflow.kinds.kind import MAX_CHARACTERS, JsonType
from phaseflow.predictor import Row
from phaseflow.settings import from_environment

MAX_ROWS: Final = 1000
MAX_BYTES: Final = 8 << 20
MAX_PIXELS: Final = 64_000_000
"""Of all images of a request together."""
MAX_QUOTED: Final = 100
"""Characters of a client's text that an error message quotes."""
BATCH: Final = re.compile(rb'\s*\{\s*"rows"\s*:\s*\[')
LOCATION: Final = re.compile(r" - at `(?P<path>[^`]*)`$")
NOT_A_NUMBER: Final = re.compile(rb'"(?P<field>\w{1,48})"\s*:\s*(?P<value>NaN|-?Infinity)')
GROUP: Final = re.compile(r"([0-9a-f]{64})?")
"""SHA-256 of the name of a row's group; empty if the row is its own group."""
SHAPE: Final = f'Send one row as an object, or {{"rows": [..]}} with 1 to {MAX_ROWS} rows.'


class RefusedError(Exception):
    """A request that the client must correct or retry later; becomes a 4xx or a 503."""

    def __init__(self, problem: str, fix: str, *, field: str = "", status: int = 422) -> None:
        super().__init__(problem)
        self.problem, self.fix, self.field, self.status = problem, fix, field, status


class ClientDisconnectedError(Exception):
    """The client disconnected before the response."""


def no_check() -> None:
    """Do nothing; the default of `check` parameters."""


@dataclass(frozen=True, slots=True)
class Reader:
    """The decoders for a project's requests."""

    project: Project
    row: msgspec.json.Decoder[Any]
    batch: msgspec.json.Decoder[Any]
    rows: Any
    """The type of a list of rows, for `msgspec.convert`."""
    feedback: msgspec.json.Decoder[Any]
    closed: tuple[tuple[int, Column, frozenset[str | None]], ...]
    """Columns with a closed set of values: position in a row, column, allowed values."""
    images: tuple[tuple[int, Column], ...]
    """Image columns, with their positions in a row."""
    hashed: tuple[tuple[int, Column], ...]
    """Personal columns whose values are replaced by keyed hashes, with their positions in a row."""


def _type(json_type: JsonType) -> Any:
    """The type of a value for msgspec."""
    accepted: Any = json_type.base
    if json_type.limits:
        accepted = Annotated[json_type.base, msgspec.Meta(**json_type.limits)]
    for alternative in json_type.alternatives:
        accepted |= alternative
    return accepted | None if json_type.nullable else accepted


@functools.cache
def get_reader(project_name: str) -> Reader:
    """The project's decoders, built once."""
    project = discovery.get(project_name)
    features, target = project.schema.features, project.schema.target
    fields = [(c.name, _type(kinds.of(c).json_type(c)), *([None] if c.nullable else [])) for c in features]
    row = msgspec.defstruct("Row", fields, kw_only=True, forbid_unknown_fields=True, gc=False)
    rows = Annotated[list[row], msgspec.Meta(min_length=1, max_length=MAX_ROWS)]  # type: ignore[valid-type]  # dynamic
    batch = msgspec.defstruct("Batch", [("rows", rows)], forbid_unknown_fields=True)
    identity = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    group = Annotated[str, msgspec.Meta(max_length=MAX_CHARACTERS)]
    fields_of_label: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("id", identity),
        ("label", str if target is None else _type(kinds.of(target).label_type(target))),
        ("group", group, ""),
    ]
    label = msgspec.defstruct("Label", fields_of_label, forbid_unknown_fields=True)
    labels = Annotated[list[label], msgspec.Meta(min_length=1, max_length=MAX_ROWS)]  # type: ignore[valid-type]  # dynamic
    feedback = msgspec.defstruct("Feedback", [("labels", labels)], forbid_unknown_fields=True)
    closed = tuple(
        (position, column, frozenset([*column.allowed, None] if column.nullable else column.allowed))
        for position, column in enumerate(features)
        if column.closed
    )
    pictures = tuple((position, column) for position, column in enumerate(features) if kinds.of(column) is kinds.IMAGE)
    hashed = tuple((position, column) for position, column in enumerate(features) if column.hashed)
    decoder = msgspec.json.Decoder
    return Reader(project, decoder(row), decoder(batch), rows, decoder(feedback), closed, pictures, hashed)


@functools.cache
def pseudonyms(project_name: str) -> personal.Pseudonyms | None:
    """The hasher of the project's personal columns, or None; raises PlatformError if the secret is missing."""
    return personal.pseudonyms(discovery.get(project_name), from_environment())


def rows_of(reader: Reader, body: bytes, check: Callable[[], None] = no_check) -> list[Row]:
    """The rows of a JSON body; raises RefusedError. `check` is called before each image and may raise."""
    if BATCH.match(body):
        return _validate(reader, decode(reader.batch, body, reader.project).rows, check)
    return _validate(reader, [decode(reader.row, body, reader.project)], check)


def convert(reader: Reader, rows: Sequence[Any], check: Callable[[], None] = no_check) -> list[Row]:
    """Rows from dictionaries, with the same validation; raises RefusedError."""
    for number, row in enumerate(rows):  # other decoders accept NaN and Infinity
        for name, value in row.items() if isinstance(row, dict) else ():
            is_feature = name in reader.project.schema.feature_names  # unknown fields are refused below
            if is_feature and isinstance(value, float) and not math.isfinite(value):
                raise _not_a_number(reader.project, str(name), f"[{number}].{name}", str(value))
    try:
        return _validate(reader, msgspec.convert(rows, reader.rows), check)
    except msgspec.ValidationError as error:
        raise explain(error, reader.project) from error


def decode(decoder: msgspec.json.Decoder[Any], body: bytes, project: Project, fix: str = SHAPE) -> Any:
    """Decode the body to the decoder's type; raises RefusedError."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explain(error, project, fix) from error
    except RecursionError as error:
        raise RefusedError("The body is nested too deeply", fix) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        match = NOT_A_NUMBER.search(body)
        if match is not None and match["field"].decode() in project.schema.feature_names:
            name, number = match["field"].decode(), body[: match.start()].count(b"{") - 2
            where = f"rows[{number}].{name}" if BATCH.match(body) else name
            raise _not_a_number(project, name, where, match["value"].decode()) from error
        problem = str(error).removeprefix("JSON is malformed: ")
        raise RefusedError(
            f"The body is not JSON: {problem:.200}",
            "Send JSON in UTF-8. NaN and Infinity are not JSON; send null for a missing value.",
        ) from error


def _not_a_number(project: Project, name: str, where: str, value: str) -> RefusedError:
    return RefusedError(f"{where} is {value}, which is not a number", f"Send {describe(project, name)}.", field=name)


def _validate(reader: Reader, rows: Sequence[Any], check: Callable[[], None]) -> list[Row]:
    """Convert structs to tuples, check closed sets of values, hash personal values and decode images."""
    tuples: list[Row] = [msgspec.structs.astuple(row) for row in rows]
    for position, column, allowed in reader.closed:
        for number, row in enumerate(tuples):
            if row[position] not in allowed:
                raise RefusedError(
                    f"{column.name} of row {number} is {row[position][:MAX_QUOTED]!r}; allowed: {', '.join(column.allowed)}",
                    suggestion(row[position][:MAX_QUOTED], column.allowed) or "Send one of them.",
                    field=column.name,
                )
    if reader.hashed:
        tuples = _hash_personal(reader, tuples)
    return _decode_images(reader, tuples, check) if reader.images else tuples


def _hash_personal(reader: Reader, rows: list[Row]) -> list[Row]:
    """Replace personal values by keyed hashes, which the model was trained on."""
    try:
        hashes = pseudonyms(reader.project.name)
    except PlatformError as error:
        raise RefusedError(
            f"The personal columns of {reader.project.name} can't be hashed: {error.problem}",
            f"{error.fix}.",
            status=503,
        ) from error
    if hashes is None:
        return rows
    tables = [list(row) for row in rows]
    for position, column in reader.hashed:
        for cells in tables:
            cells[position] = hashes(column.name, cells[position])
    return [tuple(cells) for cells in tables]


def _decode_images(reader: Reader, rows: list[Row], check: Callable[[], None]) -> list[Row]:
    """Replace base64 images by pixels; all sizes are checked before the first image is decoded."""
    tables = [list(row) for row in rows]
    budget = MAX_PIXELS
    for position, column in reader.images:
        for number, cells in enumerate(tables):
            if cells[position] is not None:
                where = f"{column.name} of row {number}"
                cells[position] = _file(cells[position], column, where)
                width, height = _size(cells[position], column, where)
                budget -= width * height
                if budget < 0:
                    raise RefusedError(
                        f"The images of the request have more than {MAX_PIXELS / 1e6:g} million pixels",
                        "Send fewer at once, or smaller ones.",
                        field=column.name,
                    )
    for position, column in reader.images:
        for number, cells in enumerate(tables):
            if cells[position] is not None:
                check()
                cells[position] = _pixels(cells[position], column, f"{column.name} of row {number}")
    return [tuple(cells) for cells in tables]


def _file(text: str, column: Column, where: str) -> bytes:
    """Decode a base64 text to the file's bytes; raises RefusedError whose message starts with `where`."""
    try:
        return kinds.IMAGE.read(text)
    except ValueError as error:
        raise RefusedError(
            f"{where} is not base64: {error}", f"Send {kinds.form(column)}.", field=column.name
        ) from error


def _size(content: bytes, column: Column, where: str) -> tuple[int, int]:
    try:
        return image_files.size(content)
    except DataError as error:
        raise RefusedError(f"{where}: {error.problem}", f"{error.fix}.", field=column.name) from error


def _pixels(content: bytes, column: Column, where: str) -> bytes:
    try:
        return image_files.decode(content, column.shape)
    except DataError as error:
        raise RefusedError(f"{where}: {error.problem}", f"{error.fix}.", field=column.name) from error


def is_image(project: Project) -> bool:
    """Whether a row is a single image."""
    needed = [kinds.of(column) for column in project.schema.features if not column.nullable]
    return needed == [kinds.IMAGE]


def row_of_image(reader: Reader, content: bytes) -> list[Row]:
    """The row of a request whose body is an image file; raises RefusedError if a row is not a single image."""
    if not is_image(reader.project):
        raise RefusedError(f"A row of {reader.project.name} is not a single image", SHAPE, status=415)
    ((position, column),) = reader.images
    row: list[Any] = [None] * len(reader.project.schema.features)
    row[position] = _pixels(content, column, column.name)
    return [tuple(row)]


def explain(error: msgspec.ValidationError, project: Project, fix: str = SHAPE) -> RefusedError:
    """Convert a decoder's error to one in terms of the schema."""
    text = str(error)
    names = project.schema.feature_names
    location = LOCATION.search(text)
    path = location["path"].lstrip("$.")[:MAX_QUOTED] if location else ""
    message = LOCATION.sub("", text)[: 2 * MAX_QUOTED]
    where = f" (at {path})" if path else ""
    quoted = re.search(r"field `(.*)`", LOCATION.sub("", text), re.DOTALL)
    if quoted:
        field = quoted[1][:MAX_QUOTED]
        if "unknown field" in message:
            if fix is SHAPE and field not in (*names, "rows"):
                fix = suggestion(field, names) or f"Send only: {', '.join(names)}."
            return RefusedError(f"There is no field {field!r}{where}", fix, field=field)
        missing_fix = f"Add it: {describe(project, field)}." if field in names else fix
        return RefusedError(f"The field {field!r} is missing{where}", missing_fix, field=field)
    field = path.rsplit(".", 1)[-1]
    if field in names:
        return RefusedError(f"{path}: {message}", f"Send {describe(project, field)}.", field=field)
    return RefusedError(f"{message}{where}", fix, field="" if field.endswith("]") else field)


def describe(project: Project, name: str) -> str:
    """Describe in words which values a feature accepts."""
    return kinds.form(project.schema[name])
