"""Compiled pipelines: YAML or JSON that someone sends, read with limits and checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from pipelines.engine.fields import MAX_DEPTH, MAX_NAME, check_storable
from pipelines.engine.refusals import shown

MAX_NODES: Final = 200_000
"""Values in a file."""
MAX_CHARACTERS: Final = 32 << 20
"""Of all values, an anchor's once for each of its aliases: a short file can stand for a long one."""
MAX_NUMBER: Final = 100
"""Characters of a number: reading a longer one takes a time that grows with the square of it."""
NUMBERS: Final = frozenset("0123456789abcdefABCDEFxoXO_:.+-")
Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Specification:
    """What a run needs of a compiled pipeline."""

    name: str
    spec: dict[str, Any]
    parameters: Mapping[str, Mapping[str, Any]]
    """Declarations of the parameters, by name."""


def parsed(content: str | bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The pipeline's specification and its platform's; raises ValueError when the text is no pipeline."""
    try:
        _check_size(yaml.parse(content, Loader=Loader))
        documents = [document for document in yaml.load_all(content, Loader=Loader) if document]
        for document in documents:
            check_storable(document)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not YAML: {error}") from error
    if not documents or not isinstance(documents[0], dict) or "pipelineInfo" not in documents[0]:
        raise ValueError("no compiled pipeline: pipelineInfo is missing. Compile it with kfp's compiler.")
    checked(documents[0])
    platform = documents[1] if len(documents) > 1 else None
    if platform is not None and not isinstance(platform, dict):
        raise ValueError(f"the second document must be an object; given: {shown(platform)}")
    return documents[0], platform


def checked(spec: Mapping[str, Any]) -> Specification:
    """The specification in `spec`, which may hold the platform's beside it; raises ValueError when a run can't be made of it."""
    inner = spec.get("pipeline_spec", spec)
    if not isinstance(inner, dict) or "pipelineInfo" not in inner:
        raise ValueError("pipeline_spec is no compiled pipeline: pipelineInfo is missing.")
    name = _object(inner, "pipelineInfo").get("name")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"pipelineInfo.name must be a text of 1 to {MAX_NAME} characters; given: {shown(name)}")
    for key in ("components", "deploymentSpec"):
        _object(inner, key)
    parameters = _object(_object(_object(inner, "root"), "inputDefinitions"), "parameters")
    for parameter in parameters:
        _object(parameters, parameter)
    return Specification(name, inner, parameters)


def _object(fields: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = fields.get(key, {})
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{shown(key)} must be an object in a pipeline; given: {shown(value)}")
    return value


def _check_size(events: Iterable[yaml.Event]) -> None:
    """Raise ValueError where a file stands for more than a pipeline can be; nothing is built of it yet."""
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
                raise ValueError(f"not YAML: the alias {shown(event.anchor)} stands for nothing that ended before it")
            _add(open_collections[-1][1], None, anchors[event.anchor], anchors)


@dataclass(slots=True)
class _Size:
    nodes: int = 0
    characters: int = 0


def _add(outer: _Size, anchor: str | None, size: _Size, anchors: dict[str, _Size]) -> None:
    """Count what has ended into what it stands in, and keep it for its aliases."""
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
