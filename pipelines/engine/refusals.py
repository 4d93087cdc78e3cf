"""Errors of the REST API in the format of the gRPC gateway, which KFP's clients expect."""

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
"""gRPC codes by HTTP status. Other statuses have the code 13 (internal)."""
MAX_SHOWN: Final = 200
"""Maximum characters of a wrong value in an error message."""


class RefusedError(Exception):
    """Refuses a request with a status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def format_value(value: object) -> str:
    """Format a wrong value for an error message, in ASCII."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def fields(status: int, message: str) -> dict[str, Any]:
    """Return the error as JSON fields."""
    return {"error": message, "code": CODES.get(status, 13), "message": message, "details": []}


def response(status: int, message: str) -> JSONResponse:
    """Return the error as a response."""
    return JSONResponse(fields(status, message), status)


def access_body(refusal: access.Refusal) -> bytes:
    """Return the response body for an error of the access rules."""
    return json.dumps(fields(refusal.status, f"{refusal.problem}. {refusal.fix}")).encode()


async def _refused(_: Request, error: Exception) -> Response:
    status, message = (error.status, error.message) if isinstance(error, RefusedError) else (500, str(error))
    return response(status, message)


async def _http(request: Request, error: Exception) -> Response:
    """Handle Starlette's errors: malformed forms and unsupported methods."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else str(error)
    error_response = response(status, f"{request.method} {format_value(request.url.path)}: {detail}")
    error_response.headers.update(getattr(error, "headers", None) or {})
    return error_response


async def _unavailable(_: Request, error: Exception) -> Response:
    """Handle failures of the disk or the system: the same request may succeed later."""
    logger.warning("a request failed: %s: %s", type(error).__name__, error)
    return response(503, str(error))


async def _unexpected(_: Request, error: Exception) -> Response:
    """Handle bugs of the engine. Starlette raises the error again for the log."""
    return response(500, f"The engine failed: {type(error).__name__}. Read its log by `phaseflow logs pipelines`.")


async def _client_disconnected(_: Request, error: Exception) -> Response:  # noqa: ARG001  # Starlette's signature
    return response(400, "The client closed the connection before the end of the body.")


HANDLERS: Final[dict[Any, Callable[[Request, Exception], Awaitable[Response]]]] = {
    RefusedError: _refused,
    HTTPException: _http,
    ClientDisconnect: _client_disconnected,
    PlatformError: _unavailable,
    OSError: _unavailable,
    Exception: _unexpected,
}
"""Starlette's exception handlers by class."""
