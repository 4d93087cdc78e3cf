"""Errors of the REST calls, in the form of gRPC's gateway, which KFP's clients read."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from phaseflow import access
from phaseflow.errors import PlatformError
from phaseflow.log import logger

CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 409: 6, 413: 8, 415: 3, 503: 14}
"""gRPC's code of an HTTP status; 13 (internal) for any other."""
MAX_SHOWN: Final = 200
"""Characters of a wrong value that an error repeats."""


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def shown(value: object) -> str:
    """A wrong value as an error repeats it, in ASCII."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def fields(status: int, message: str) -> dict[str, Any]:
    """The error as JSON."""
    return {"error": message, "code": CODES.get(status, 13), "message": message, "details": []}


def response(status: int, message: str) -> JSONResponse:
    """The error as a response."""
    return JSONResponse(fields(status, message), status)


def access_body(refusal: access.Refusal) -> bytes:
    """An error of the access rules."""
    return json.dumps(fields(refusal.status, f"{refusal.problem}. {refusal.fix}")).encode()


async def _refused(_: Request, error: Exception) -> Response:
    status, message = (error.status, error.message) if isinstance(error, RefusedError) else (500, str(error))
    return response(status, message)


async def _http(request: Request, error: Exception) -> Response:
    """What Starlette refuses: a malformed form, a method that a path has not."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else str(error)
    answer = response(status, f"{request.method} {shown(request.url.path)}: {detail}")
    answer.headers.update(getattr(error, "headers", None) or {})
    return answer


async def _unavailable(_: Request, error: Exception) -> Response:
    """The disk or the system failed: the same request may succeed later."""
    logger.warning("a request failed: %s: %s", type(error).__name__, error)
    return response(503, str(error))


async def _unexpected(_: Request, error: Exception) -> Response:
    """A fault of the engine itself; Starlette raises it again for the log."""
    return response(500, f"The engine failed: {type(error).__name__}. Read its log by `phaseflow logs pipelines`.")


async def _gone(_: Request, error: Exception) -> Response:  # noqa: ARG001  # Starlette's signature
    return response(400, "The client closed the connection before the end of the body.")


HANDLERS: Final[dict[Any, Callable[[Request, Exception], Awaitable[Response]]]] = {
    RefusedError: _refused,
    HTTPException: _http,
    ClientDisconnect: _gone,
    PlatformError: _unavailable,
    OSError: _unavailable,
    Exception: _unexpected,
}
"""By class of exception, for Starlette."""
