"""The ASGI application: the hot routes here, every other route to the BentoML service."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
from prometheus_client import generate_latest

from services.serving import bodies, openapi, protocol, requests
from services.serving.requests import MOST_BYTES, Reader, RefusedError
from services.serving.state import FEEDBACK, Service

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

JSON: Final = (b"content-type", b"application/json")
HTML: Final = (b"content-type", b"text/html; charset=utf-8")
TEXT: Final = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
ROUTES: Final = frozenset({"predict", "feedback"})
LINGER_SECONDS: Final = 2.0
"""How long the rest of a refused body is thrown away, so that its sender gets to read the answer."""
DECODERS: Final = ThreadPoolExecutor(2, thread_name_prefix="decoder")
"""Threads that read images: a large one takes a while, which no other request should wait for, and much memory, for few at once."""
encode = msgspec.json.Encoder().encode


class GoneError(Exception):
    """The client went away in mid-request."""


async def body_of(scope: Any, receive: Receive) -> bytes:
    """The request's body; raises RefusedError with 413 as soon as it is known to be too large, and GoneError."""
    _check_length(scope)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return message.get("body", b"")  # type: ignore[no-any-return]  # ASGI says bytes
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise GoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise _too_large()
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


def _check_length(scope: Any) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MOST_BYTES:
            raise _too_large()


def _too_large() -> RefusedError:
    return RefusedError(f"The body is larger than {MOST_BYTES >> 20} MiB", "Send fewer rows at once.", status=413)


async def reply(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """A whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def refuse(receive: Receive, send: Send, error: RefusedError, *, plain: bool = False) -> None:
    """The error as a response; `plain` is the Open Inference Protocol's form."""
    said: Any = {"field": error.field, "problem": error.problem, "fix": error.fix}
    body = encode({"error": f"{error.problem}. {error.fix}" if plain else said})
    if error.status == 503:
        return await reply(send, 503, body, JSON, (b"retry-after", b"5"))
    if error.status != 413:
        return await reply(send, error.status, body, JSON)
    # Closing at once would reset the connection under a client that is still sending, and the answer would be lost.
    headers = [JSON, (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        pass
    return await send({"type": "http.response.body", "body": b""})


async def answer(service: Service, scope: Any, receive: Receive, name: str, route: str) -> bytes:
    """The body of a hot route's 200; raises RefusedError and GoneError."""
    if route == "predict":
        model = service.model(name)
        kind = next((value for key, value in scope["headers"] if key == b"content-type"), b"")
        rows = await _read(bodies.rows_of, requests.reader(name), await body_of(scope, receive), kind)
        return encode(await service.predict(model, rows))
    if route == "infer":
        model = service.model(name)
        rows, identity = await _read(protocol.rows_of, requests.reader(name), await body_of(scope, receive))
        return encode(protocol.answered(await service.predict(model, rows), identity))
    reader = service.reader(name)
    told = requests.decoded(reader.feedback, await body_of(scope, receive), reader.project, FEEDBACK)
    return encode(service.feedback(reader.project, told.truths))


async def _read(read: Callable[..., Any], reader: Reader, *arguments: bytes) -> Any:
    """What `read` makes of a body, in a thread where it holds images."""
    if reader.images:
        return await asyncio.get_running_loop().run_in_executor(DECODERS, read, reader, *arguments)
    return read(reader, *arguments)


async def hot(service: Service, scope: Any, receive: Receive, send: Send, name: str, route: str) -> None:
    """Answer, and count how it went."""
    begin = time.perf_counter()
    status = 200
    try:
        try:
            body = await answer(service, scope, receive, name, route)
        except RefusedError:
            raise
        except GoneError:
            status = 499  # nobody reads the answer
            return
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            raise RefusedError("The service failed", "Read its log: `phaseflow logs serving`.", status=500) from error
        await reply(send, 200, body, JSON)
    except RefusedError as error:
        status = error.status
        await refuse(receive, send, error, plain=route == "infer")
    finally:
        # A stranger's path makes no series of its own.
        service.observed.request("" if status == 404 else name, route, status, time.perf_counter() - begin)


def page(service: Service, path: str) -> tuple[int, bytes, tuple[bytes, bytes]] | None:
    """A GET of ours: status, body and content type; None where it is not ours. Raises RefusedError."""
    name, _, rest = path[1:].partition("/")
    status, kind, body = 200, JSON, b""
    said: Any = None
    match name, rest:
        case "healthz", "":
            said = {"status": "ok"}
        case "readyz", "":
            ready = service.manager.ready
            status, said = 200 if ready else 503, {"ready": ready}
        case "metrics", "":
            kind, body = TEXT, generate_latest(service.observed.registry)
        case "projects", "":
            said = service.projects()
        case "openapi.json", "":
            said = openapi.document()
        case "docs", "":
            kind, body = HTML, openapi.page().encode()
        case "v2", _:
            status, said = protocol.get(service, rest)
        case _, "model":
            service.model(name)
            said = service.manager.describe(name)
        case _, "predict" | "feedback":
            raise RefusedError(f"{path[: requests.SHOWN]} takes no GET", "Send a POST; /docs shows how.", status=405)
        case _:
            return None
    return status, body if said is None else encode(said), kind


def application(bento: Application, service: Service) -> Application:
    """The hot routes before `bento`; also a middleware of the BentoML service, by the same arguments."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await bento(scope, receive, send)
        path: str = scope["path"]
        try:
            if scope["method"] == "POST":
                name, _, route = path[1:].partition("/")
                if route in ROUTES:
                    return await hot(service, scope, receive, send, name, route)
                if path.startswith("/v2/models/") and path.endswith("/infer"):
                    model = path.removeprefix("/v2/models/").removesuffix("/infer")
                    return await hot(service, scope, receive, send, model, "infer")
            elif scope["method"] == "GET":
                found = page(service, path)
                if found is not None:
                    status, body, kind = found
                    return await reply(send, status, body, kind)
            _check_length(scope)
            if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
                raise RefusedError("The body's length is not told", "Send it with a Content-Length.", status=411)
        except RefusedError as error:
            return await refuse(receive, send, error, plain=path.startswith("/v2/"))
        return await bento(scope, receive, send)

    return app
