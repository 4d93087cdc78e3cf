"""Typed values of bodies and queries. A wrong value is refused with an error that names the field (400)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from pipelines.engine.refusals import RefusedError, format_value

MAX_NAME: Final = 512
"""Characters."""
MAX_DESCRIPTION: Final = 10_000
"""Characters."""
MAX_DEPTH: Final = 100
"""Maximum nesting of lists and objects, so that values can be serialized without exhausting the stack."""
MAX_PAGE: Final = 200
"""Maximum records per page, as in KFP. Larger sizes are reduced to it."""
MAX_OFFSET: Final = 10**9
FILTERED: Final = frozenset({"display_name", "name"})
"""Keys that a filter may name."""
EQUALS: Final = (None, "EQUALS", 1)
"""The only supported filter operation, by name or by number."""


def json_object(content: str | bytes, what: str) -> dict[str, Any]:
    """Parse the JSON object in `content`. Raises RefusedError for anything else and for invalid values."""
    try:
        value = json.loads(content, parse_constant=_no_constant)
        check_storable(value)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"{what} is not JSON: {format_value(str(error))}.") from error
    if not isinstance(value, dict):
        raise RefusedError(400, f"{what} must be a JSON object; given: {format_value(value)}.")
    return value


def check_storable(value: Any) -> None:
    """Raise ValueError if a value can't be written as JSON in UTF-8 or is nested too deeply."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            break
    else:
        raise ValueError(f"lists and objects are nested more than {MAX_DEPTH} deep")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except TypeError as error:
        raise ValueError(str(error)) from error


def text(fields: Mapping[str, Any], key: str, *, limit: int = MAX_NAME) -> str:
    """Return the string `key`; "" if it is absent or null."""
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > limit:
        raise RefusedError(400, f"{key} must be a string of at most {limit} characters; given: {format_value(value)}.")
    return value


def mapping(fields: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the object `key`; empty if it is absent or null."""
    value = fields.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RefusedError(400, f"{key} must be an object; given: {format_value(value)}.")
    return value


def page(query: Mapping[str, str]) -> tuple[int, int]:
    """Return offset and size of a page. The page token is the offset."""
    size = _number(query, "page_size", MAX_OFFSET) or 20
    return _number(query, "page_token", MAX_OFFSET), min(size, MAX_PAGE)


def filter_names(query: Mapping[str, str]) -> list[str]:
    """Return the display names of the query's `filter`, all of which must match."""
    content = query.get("filter")
    if not content:
        return []
    predicates = json_object(content, "filter").get("predicates") or []
    if not isinstance(predicates, list):
        raise RefusedError(400, f"filter.predicates must be a list; given: {format_value(predicates)}.")
    names = []
    for predicate in predicates:
        if not isinstance(predicate, dict):
            raise RefusedError(400, f"A predicate must be an object; given: {format_value(predicate)}.")
        operation, key = predicate.get("operation"), predicate.get("key")
        value = predicate.get("string_value", predicate.get("stringValue"))
        if operation not in EQUALS or isinstance(operation, bool) or not isinstance(value, str):
            raise RefusedError(400, f"A predicate must be EQUALS with a stringValue; given: {format_value(predicate)}.")
        if not isinstance(key, str) or key not in FILTERED:
            raise RefusedError(400, f"A filter's key must be one of {sorted(FILTERED)}; given: {format_value(key)}.")
        names.append(value)
    return names


def _number(query: Mapping[str, str], key: str, limit: int) -> int:
    value = query.get(key) or "0"
    if not (value.isascii() and value.isdigit()) or len(value) > 12 or int(value) > limit:
        raise RefusedError(400, f"{key} must be a whole number from 0 to {limit}; given: {format_value(value)}.")
    return int(value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a valid JSON number")
