"""Which content types a route takes: JSON, and the files of images where a row is one."""

from __future__ import annotations

import functools
from typing import Final

from phaseflow import registry
from phaseflow.access import JSON_ONLY
from services.serving import requests

IMAGES: Final = JSON_ONLY | {"image/png", "image/jpeg", "application/octet-stream", "multipart/form-data"}
HOW_TO_SEND_JSON: Final = "Send JSON. With curl: `-H 'content-type: application/json'`."
HOW_TO_SEND_A_FILE: Final = (
    "Send an image's file with its type, a form, or JSON. "
    "With curl: `-H 'content-type: image/png' --data-binary @x.png`, or `-F image=@x.png`."
)


def allowed(path: str) -> frozenset[str]:
    """Media types of a body sent to `path`."""
    name, _, route = path[1:].partition("/")
    return IMAGES if route == "predict" and _is_image(name) else JSON_ONLY


def fix(path: str) -> str:
    """How to send a body to `path`."""
    return HOW_TO_SEND_A_FILE if allowed(path) is IMAGES else HOW_TO_SEND_JSON


def _is_image(name: str) -> bool:
    """Whether a row of the project is one image; an unknown project has none."""
    try:
        return _declared(name)
    except Exception:  # a declaration may raise anything; the route itself says what is wrong with it
        return False


@functools.lru_cache(maxsize=10_000)
def _declared(name: str) -> bool:
    """Raises what the declaration raises, which is not cached: a name that a client invents takes no room."""
    if name not in registry.names():
        raise KeyError(name)
    return requests.is_image(registry.get(name))
