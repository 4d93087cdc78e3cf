"""Request bodies with limits of size and time, which apply while the body is read."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any, Final

from starlette.requests import Request

from pipelines.engine.fields import json_object
from pipelines.engine.refusals import RefusedError

MAX_JSON_BYTES: Final = 4 << 20
MAX_UPLOAD_BYTES: Final = 8 << 20
"""Maximum size of the whole form."""
BODY_SECONDS: Final = 60.0
"""Maximum time to read the whole body."""


def limit_body(request: Request, limit: int, seconds: float = BODY_SECONDS) -> Request:
    """Return the request with a limited body: RefusedError 413 after `limit` bytes and 408 after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    received = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal received
        try:
            async with asyncio.timeout_at(deadline):
                message = await request.receive()
        except TimeoutError as error:
            raise RefusedError(408, f"The body did not end within {seconds:.0f} s. Send it at once.") from error
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise _too_large(limit)
    return Request(request.scope, receive)


async def json_body(request: Request) -> dict[str, Any]:
    """Return the body's JSON object. Raises RefusedError."""
    return json_object(await limit_body(request, MAX_JSON_BYTES).body(), "The body")


async def uploaded_file(request: Request) -> bytes:
    """Return the form's file `uploadfile`. Raises RefusedError, and HTTPException (400) if the form is malformed."""
    async with limit_body(request, MAX_UPLOAD_BYTES).form(max_files=1, max_fields=10) as form:
        file = form.get("uploadfile")
        if file is None or isinstance(file, str):
            raise RefusedError(
                400, "The form has no file uploadfile. Send the compiled pipeline as multipart/form-data."
            )
        return await file.read()


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, f"The body is larger than {limit >> 20} MiB. Send less.")
