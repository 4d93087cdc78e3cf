"""The ASGI application: access rules for all routes, handlers of the hot routes, and BentoML for the other routes."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec
from prometheus_client import generate_latest

from phaseflow import access
from phaseflow.log import logger
from phaseflow.predictor import Row
from services.serving import clients, content_types, openapi, parsing, protocol, requests
from services.serving.model import Model
from services.serving.requests import MAX_BYTES, ClientDisconnectedError, Reader, RefusedError
from services.serving.state import FEEDBACK, PredictionBatch, Service
from services.serving.work import IMAGE_READERS, WORKERS, Work, in_thread

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

JSON: Final = (b"content-type", b"application/json")
HTML: Final = (b"content-type", b"text/html; charset=utf-8")
TEXT: Final = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
ROUTES: Final = frozenset({"predict", "feedback"})
LINGER_SECONDS: Final = 2.0
"""How long the rest of a refused body is read and discarded, so that the client can read the response."""
INLINE_ROWS: Final = 64
INLINE_BYTES: Final = 64 << 10
"""Requests with more rows or bytes run in a thread, so that small requests don't wait for them."""
MAX_BUFFERED_BYTES: Final = 64 << 20
"""Limit for the total size of all bodies that arrive in parts; a body counts from its first byte until its response."""
encode = msgspec.json.Encoder().encode


class Buffered:
    """Number of bytes of request bodies that the process holds."""

    total = 0


class Body:
    """The body of one request."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0

    async def read(self, scope: Any, receive: Receive) -> bytes:
        """Read the whole body.

        Raises ClientDisconnectedError if the client disconnects, RefusedError with 413 as soon as the body is too
        large, and RefusedError with 503 if the process holds too many large bodies.
        """
        _check_length(scope)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return message.get("body", b"")  # type: ignore[no-any-return]  # bytes, by the ASGI specification
        parts = []
        while True:
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            part = message.get("body", b"")
            parts.append(part)
            self.size += len(part)
            Buffered.total += len(part)
            if self.size > MAX_BYTES:
                raise _too_large()
            if Buffered.total > MAX_BUFFERED_BYTES:
                raise RefusedError(
                    "The service holds too many large bodies", "Send the request again later.", status=503
                )
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()

    def release(self) -> None:
        """Stop counting the bytes of this body."""
        Buffered.total -= self.size
        self.size = 0


def _check_length(scope: Any) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MAX_BYTES:
            raise _too_large()


def _too_large() -> RefusedError:
    return RefusedError(f"The body is larger than {MAX_BYTES >> 20} MiB", "Send fewer rows at once.", status=413)


async def reply(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a complete response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, NOSNIFF, length]})
    await send({"type": "http.response.body", "body": body})


async def refuse(receive: Receive, send: Send, error: RefusedError, *, plain: bool = False) -> None:
    """Send the error as a response; `plain` selects the format of the Open Inference Protocol."""
    detail: Any = {"field": error.field, "problem": error.problem, "fix": error.fix}
    body = encode({"error": f"{error.problem}. {error.fix}" if plain else detail})
    if error.status == 503:
        return await reply(send, 503, body, JSON, (b"retry-after", b"5"))
    if error.status == 401:
        return await reply(send, 401, body, JSON, (b"www-authenticate", b"Bearer"))
    if error.status != 413:
        return await reply(send, error.status, body, JSON)
    # Closing at once would reset the connection while the client is still sending, and the response would be lost.
    headers = [JSON, NOSNIFF, (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        pass
    return await send({"type": "http.response.body", "body": b""})


async def respond(service: Service, scope: Any, receive: Receive, body: Body, name: str, route: str) -> bytes:
    """Return the response body of a hot route's 200; raises RefusedError and ClientDisconnectedError."""
    if route == "feedback":
        return await _feedback(service, scope, receive, body, name)
    model, reader = service.model(name), requests.get_reader(name)
    content = await body.read(scope, receive)
    read: Callable[[Callable[[], None]], tuple[list[Row], str]]
    if route == "predict":
        kind = next((value for key, value in scope["headers"] if key == b"content-type"), b"")
        read = lambda check: (parsing.rows_of(reader, content, kind, check), "")  # noqa: E731  # one of two
    else:
        read = lambda check: protocol.rows_of(reader, content, check)  # noqa: E731  # one of two
    batch, identity = await _predict(service, model, reader, receive, len(content), read)
    response = service.complete(batch)
    return encode(response if route == "predict" else protocol.infer_response(model, response, identity))


async def _predict(
    service: Service,
    model: Model,
    reader: Reader,
    receive: Receive,
    size: int,
    read: Callable[[Callable[[], None]], tuple[list[Row], str]],
) -> tuple[PredictionBatch, str]:
    """Predict the rows of a body of `size` bytes, in a thread if that may be slow; return them and the request's id."""

    def read_and_predict(work: Work) -> tuple[PredictionBatch, str]:
        rows, identity = read(work.check)
        return service.predict(model, rows, work.check), identity

    if reader.images:
        return await in_thread(IMAGE_READERS, read_and_predict, receive)
    if size > INLINE_BYTES or model.predictor.generates:
        return await in_thread(WORKERS, read_and_predict, receive)
    rows, identity = read(requests.no_check)
    if len(rows) <= INLINE_ROWS:
        return service.predict(model, rows), identity
    return await in_thread(WORKERS, lambda work: service.predict(model, rows, work.check), receive), identity


async def _feedback(service: Service, scope: Any, receive: Receive, body: Body, name: str) -> bytes:
    reader = service.reader(name)
    client = clients.client_of(scope, service.settings)
    content = await body.read(scope, receive)

    def decode(_work: object = None) -> Any:
        return requests.decode(reader.feedback, content, reader.project, FEEDBACK)

    request_body = await in_thread(WORKERS, decode, receive) if len(content) > INLINE_BYTES else decode()
    return encode(await service.feedback(reader.project, request_body.labels, client))


async def hot(service: Service, scope: Any, receive: Receive, send: Send, name: str, route: str) -> None:
    """Respond, and record the status and the duration."""
    begin = time.perf_counter()
    status, body = 200, Body()
    try:
        try:
            content = await respond(service, scope, receive, body, name, route)
        except RefusedError:
            raise
        except ClientDisconnectedError:
            status = 499  # nobody reads the response
            return
        except Exception as error:
            logger.exception("%s of %s failed", route, name)
            raise RefusedError("The service failed", "Read its log: `phaseflow logs serving`.", status=500) from error
        await reply(send, 200, content, JSON)
    except RefusedError as error:
        status = error.status
        await refuse(receive, send, error, plain=route == "infer")
    finally:
        body.release()
        # An unknown path gets no series of its own.
        service.metrics.record_request("" if status == 404 else name, route, status, time.perf_counter() - begin)


def page(service: Service, path: str) -> tuple[int, bytes, tuple[bytes, bytes]] | None:
    """Status, body and content type for a GET; None if the path belongs to BentoML. Raises RefusedError."""
    name, _, rest = path[1:].partition("/")
    status, kind, body = 200, JSON, b""
    content: Any = None
    match name, rest:
        case "healthz" | "livez", "":
            overdue = service.loops.overdue()
            status, content = (503, {"status": "failing", "overdue": overdue}) if overdue else (200, {"status": "ok"})
        case "readyz", "":
            overdue, ready = service.loops.overdue(), service.ready
            status, content = 200 if ready else 503, {"ready": ready} | ({"overdue": overdue} if overdue else {})
        case "metrics", "":
            kind, body = TEXT, generate_latest(service.metrics.registry)
        case "projects", "":
            content = service.projects()
        case "openapi.json", "":
            content = openapi.document()
        case "docs", "":
            kind, body = HTML, openapi.page().encode()
        case "v2", _:
            status, content = protocol.get(service, rest)
        case _, "model":
            service.model(name)
            content = service.manager.describe(name)
        case _, "predict" | "feedback":
            raise RefusedError(
                f"{path[: requests.MAX_QUOTED]} does not accept GET", "Send a POST; /docs shows how.", status=405
            )
        case _:
            return None
    return status, body if content is None else encode(content), kind


def rules(service: Service) -> access.Policy:
    """The access rules: who may send what."""
    return access.policy(
        service.settings, content_types=content_types.allowed, content_type_fix=content_types.fix, body=_refusal
    )


def _refusal(refusal: access.Refusal) -> bytes:
    return encode({"error": {"field": "", "problem": refusal.problem, "fix": refusal.fix}})


def _plain_refusal(refusal: access.Refusal) -> bytes:
    """The refusal in the format of the Open Inference Protocol."""
    return encode({"error": f"{refusal.problem}. {refusal.fix}"})


def application(bento: Application, service: Service) -> Application:
    """Wrap `bento` with the access rules and the hot routes; also usable as a middleware of the BentoML service."""

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
                response = page(service, path)
                if response is not None:
                    status, body, kind = response
                    return await reply(send, status, body, kind)
            _check_length(scope)
            if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
                raise RefusedError("The body has no Content-Length", "Send the body with a Content-Length.", status=411)
        except RefusedError as error:
            return await refuse(receive, send, error, plain=path.startswith("/v2/"))
        return await bento(scope, receive, _without_sniffing(send))

    policy = rules(service)
    native = access.guarded(app, policy)
    protocol_v2 = access.guarded(app, dataclasses.replace(policy, body=_plain_refusal))

    async def guarded(scope: Any, receive: Receive, send: Send) -> None:
        handler = protocol_v2 if scope["type"] == "http" and scope["path"].startswith("/v2/") else native
        await handler(scope, receive, send)

    return guarded


def _without_sniffing(send: Send) -> Send:
    """Wrap `send` to add `x-content-type-options: nosniff` to the response."""

    async def wrapped(message: Message) -> None:
        # BentoML also runs this application as a middleware, whose responses already have the header.
        if message["type"] == "http.response.start" and NOSNIFF not in message.get("headers", []):
            message["headers"] = [*message.get("headers", []), NOSNIFF]
        await send(message)

    return wrapped
