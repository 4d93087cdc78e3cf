"""The content types that each route accepts: JSON, and image files if a row is a single image."""

from __future__ import annotations

import functools
from typing import Final

from phaseflow import discovery
from phaseflow.access import JSON_ONLY
from services.serving import requests

IMAGES: Final = JSON_ONLY | {"image/png", "image/jpeg", "application/octet-stream", "multipart/form-data"}
HOW_TO_SEND_JSON: Final = "Send JSON. With curl: `-H 'content-type: application/json'`."
HOW_TO_SEND_A_FILE: Final = (
    "Send an image file with its content type, a form, or JSON. "
    "With curl: `-H 'content-type: image/png' --data-binary @x.png`, or `-F image=@x.png`."
)


def allowed(path: str) -> frozenset[str]:
    """The media types that `path` accepts."""
    name, _, route = path[1:].partition("/")
    return IMAGES if route == "predict" and _is_image(name) else JSON_ONLY


def fix(path: str) -> str:
    """How to send a body to `path`."""
    return HOW_TO_SEND_A_FILE if allowed(path) is IMAGES else HOW_TO_SEND_JSON


def _is_image(name: str) -> bool:
    """Whether a row of the project is a single image; False for an unknown project."""
    try:
        return _declared(name)
    except Exception:  # a declaration may raise anything; the route itself reports the error
        return False


@functools.lru_cache(maxsize=10_000)
def _declared(name: str) -> bool:
    """As `_is_image`, but raises; exceptions are not cached, so names that clients invent take no memory."""
    if name not in discovery.names():
        raise KeyError(name)
    return requests.is_image(discovery.get(name))
