"""Compiled pipelines: YAML or JSON from a client, parsed with limits and validated before use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from pipelines.engine.fields import MAX_DEPTH, MAX_NAME, check_storable
from pipelines.engine.refusals import format_value

MAX_NODES: Final = 200_000
"""Maximum number of values in a file."""
MAX_CHARACTERS: Final = 32 << 20
"""Maximum characters of all values. An anchor counts once per alias, because aliases can expand a short file."""
MAX_NUMBER: Final = 100
"""Maximum characters of a number. The time to parse a number grows with the square of its length."""
NUMBERS: Final = frozenset("0123456789abcdefABCDEFxoXO_:.+-")
Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Specification:
    """The parts of a compiled pipeline that a run needs."""

    name: str
    spec: dict[str, Any]
    parameters: Mapping[str, Mapping[str, Any]]
    """Declarations of the parameters, by name."""


def parse(content: str | bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Parse the pipeline's specification and its platform's. Raises ValueError if the text is not a pipeline."""
    try:
        _check_size(yaml.parse(content, Loader=Loader))
        documents = [document for document in yaml.load_all(content, Loader=Loader) if document]
        for document in documents:
            check_storable(document)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not YAML: {error}") from error
    if not documents or not isinstance(documents[0], dict) or "pipelineInfo" not in documents[0]:
        raise ValueError("not a compiled pipeline: pipelineInfo is missing. Compile it with kfp's compiler.")
    to_specification(documents[0])
    platform = documents[1] if len(documents) > 1 else None
    if platform is not None and not isinstance(platform, dict):
        raise ValueError(f"the second document must be an object; given: {format_value(platform)}")
    return documents[0], platform


def to_specification(spec: Mapping[str, Any]) -> Specification:
    """Return the specification in `spec`, which may also hold the platform's. Raises ValueError if it is invalid."""
    inner = spec.get("pipeline_spec", spec)
    if not isinstance(inner, dict) or "pipelineInfo" not in inner:
        raise ValueError("pipeline_spec is not a compiled pipeline: pipelineInfo is missing.")
    name = _object(inner, "pipelineInfo").get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError(
            f"pipelineInfo.name must be a string of 1 to {MAX_NAME} characters; given: {format_value(name)}"
        )
    for key in ("components", "deploymentSpec"):
        _object(inner, key)
    parameters = _object(_object(_object(inner, "root"), "inputDefinitions"), "parameters")
    for parameter in parameters:
        _object(parameters, parameter)
    return Specification(name, inner, parameters)


def _object(fields: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = fields.get(key, {})
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{format_value(key)} must be an object in a pipeline; given: {format_value(value)}")
    return value


def _check_size(events: Iterable[yaml.Event]) -> None:
    """Raise ValueError if a file expands to more than a pipeline may be, before anything is built."""
    anchors: dict[str, _Size] = {}
    open_collections: list[tuple[str | None, _Size]] = [(None, _Size())]
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            anchors.clear()
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(open_collections) > MAX_DEPTH:
                raise ValueError(f"not a pipeline: lists and objects are nested more than {MAX_DEPTH} deep")
            open_collections.append((event.anchor, _Size(nodes=1)))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_collections.pop()
            _add(open_collections[-1][1], anchor, size, anchors)
        elif isinstance(event, yaml.ScalarEvent):
            _check_number(event)
            _add(open_collections[-1][1], event.anchor, _Size(1, len(event.value)), anchors)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise ValueError(
                    f"not YAML: the alias {format_value(event.anchor)} stands for nothing that ended before it"
                )
            _add(open_collections[-1][1], None, anchors[event.anchor], anchors)


@dataclass(slots=True)
class _Size:
    nodes: int = 0
    characters: int = 0


def _add(outer: _Size, anchor: str | None, size: _Size, anchors: dict[str, _Size]) -> None:
    """Add the size of a closed node to its parent, and store it for its aliases."""
    outer.nodes += size.nodes
    outer.characters += size.characters
    if outer.nodes > MAX_NODES or outer.characters > MAX_CHARACTERS:
        raise ValueError("not a pipeline: with its aliases it is too large")
    if anchor is not None:
        anchors[anchor] = size


def _check_number(event: yaml.ScalarEvent) -> None:
    is_number = not event.style or event.tag is not None
    if is_number and len(event.value) > MAX_NUMBER and NUMBERS.issuperset(event.value):
        raise ValueError(f"not a pipeline: a number has more than {MAX_NUMBER} characters")
