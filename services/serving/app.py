"""The ASGI application: the hot routes here, every other route to the BentoML service, all behind the access rules."""

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
from services.serving import bodies, clients, content_types, openapi, protocol, requests
from services.serving.model import Model
from services.serving.requests import MOST_BYTES, GoneError, Reader, RefusedError, Row
from services.serving.state import FEEDBACK, Predicted, Service
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
"""How long the rest of a refused body is thrown away, so that its sender gets to read the answer."""
INLINE_ROWS: Final = 64
INLINE_BYTES: Final = 64 << 10
"""Requests of more rows or bytes run in a thread, so that small ones don't wait for them."""
MAX_BUFFERED_BYTES: Final = 64 << 20
"""Of all bodies that don't come at once, from their first byte to their response."""
encode = msgspec.json.Encoder().encode


class Buffered:
    """Bytes of bodies that the process holds."""

    total = 0


class Body:
    """The body of one request."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0

    async def read(self, scope: Any, receive: Receive) -> bytes:
        """All of it.

        Raises GoneError, and RefusedError with 413 as soon as it is known to be too large, with 503 when too many large ones are held.
        """
        _check_length(scope)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            return message.get("body", b"")  # type: ignore[no-any-return]  # ASGI says bytes
        parts = []
        while True:
            if message["type"] == "http.disconnect":
                raise GoneError
            part = message.get("body", b"")
            parts.append(part)
            self.held += len(part)
            Buffered.total += len(part)
            if self.held > MOST_BYTES:
                raise _too_large()
            if Buffered.total > MAX_BUFFERED_BYTES:
                raise RefusedError("The service holds too many large bodies", "Send it again later.", status=503)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()

    def release(self) -> None:
        """Its bytes are not needed any more."""
        Buffered.total -= self.held
        self.held = 0


def _check_length(scope: Any) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MOST_BYTES:
            raise _too_large()


def _too_large() -> RefusedError:
    return RefusedError(f"The body is larger than {MOST_BYTES >> 20} MiB", "Send fewer rows at once.", status=413)


async def reply(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """A whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, NOSNIFF, length]})
    await send({"type": "http.response.body", "body": body})


async def refuse(receive: Receive, send: Send, error: RefusedError, *, plain: bool = False) -> None:
    """The error as a response; `plain` is the Open Inference Protocol's form."""
    said: Any = {"field": error.field, "problem": error.problem, "fix": error.fix}
    body = encode({"error": f"{error.problem}. {error.fix}" if plain else said})
    if error.status == 503:
        return await reply(send, 503, body, JSON, (b"retry-after", b"5"))
    if error.status == 401:
        return await reply(send, 401, body, JSON, (b"www-authenticate", b"Bearer"))
    if error.status != 413:
        return await reply(send, error.status, body, JSON)
    # Closing at once would reset the connection under a client that is still sending, and the answer would be lost.
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


async def answer(service: Service, scope: Any, receive: Receive, body: Body, name: str, route: str) -> bytes:
    """The content of a hot route's 200; raises RefusedError and GoneError."""
    if route == "feedback":
        return await _feedback(service, scope, receive, body, name)
    model, reader = service.model(name), requests.reader(name)
    content = await body.read(scope, receive)
    read: Callable[[Callable[[], None]], tuple[list[Row], str]]
    if route == "predict":
        kind = next((value for key, value in scope["headers"] if key == b"content-type"), b"")
        read = lambda check: (bodies.rows_of(reader, content, kind, check), "")  # noqa: E731  # of two, one is chosen
    else:
        read = lambda check: protocol.rows_of(reader, content, check)  # noqa: E731  # of two, one is chosen
    done, identity = await _predicted(service, model, reader, receive, len(content), read)
    response = service.counted(done)
    return encode(response if route == "predict" else protocol.answered(response, identity))


async def _predicted(
    service: Service,
    model: Model,
    reader: Reader,
    receive: Receive,
    size: int,
    read: Callable[[Callable[[], None]], tuple[list[Row], str]],
) -> tuple[Predicted, str]:
    """The predictions of a body of `size` bytes, and the request's own id; in a thread where that takes its time."""

    def whole(work: Work) -> tuple[Predicted, str]:
        rows, identity = read(work.check)
        return service.predicted(model, rows, work.check), identity

    if reader.images:
        return await in_thread(IMAGE_READERS, whole, receive)
    if size > INLINE_BYTES or model.generates:
        return await in_thread(WORKERS, whole, receive)
    rows, identity = read(requests.no_check)
    if len(rows) <= INLINE_ROWS:
        return service.predicted(model, rows), identity
    return await in_thread(WORKERS, lambda work: service.predicted(model, rows, work.check), receive), identity


async def _feedback(service: Service, scope: Any, receive: Receive, body: Body, name: str) -> bytes:
    reader = service.reader(name)
    client = clients.client_of(scope, service.settings)
    content = await body.read(scope, receive)

    def decoded(_work: object = None) -> Any:
        return requests.decoded(reader.feedback, content, reader.project, FEEDBACK)

    labels = await in_thread(WORKERS, decoded, receive) if len(content) > INLINE_BYTES else decoded()
    return encode(await service.feedback(reader.project, labels.truths, client))


async def hot(service: Service, scope: Any, receive: Receive, send: Send, name: str, route: str) -> None:
    """Answer, and count how it went."""
    begin = time.perf_counter()
    status, body = 200, Body()
    try:
        try:
            content = await answer(service, scope, receive, body, name, route)
        except RefusedError:
            raise
        except GoneError:
            status = 499  # nobody reads the answer
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
        # A stranger's path makes no series of its own.
        service.observed.request("" if status == 404 else name, route, status, time.perf_counter() - begin)


def page(service: Service, path: str) -> tuple[int, bytes, tuple[bytes, bytes]] | None:
    """A GET of ours: status, body and content type; None where it is not ours. Raises RefusedError."""
    name, _, rest = path[1:].partition("/")
    status, kind, body = 200, JSON, b""
    said: Any = None
    match name, rest:
        case "healthz" | "livez", "":
            overdue = service.loops.overdue()
            status, said = (503, {"status": "failing", "overdue": overdue}) if overdue else (200, {"status": "ok"})
        case "readyz", "":
            overdue, ready = service.loops.overdue(), service.ready
            status, said = 200 if ready else 503, {"ready": ready} | ({"overdue": overdue} if overdue else {})
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


def rules(service: Service) -> access.Policy:
    """Who may send what."""
    return access.policy(
        service.settings, content_types=content_types.allowed, content_type_fix=content_types.fix, body=_refusal
    )


def _refusal(refusal: access.Refusal) -> bytes:
    return encode({"error": {"field": "", "problem": refusal.problem, "fix": refusal.fix}})


def _plain_refusal(refusal: access.Refusal) -> bytes:
    """In the Open Inference Protocol's form."""
    return encode({"error": f"{refusal.problem}. {refusal.fix}"})


def application(bento: Application, service: Service) -> Application:
    """The hot routes before `bento`, behind the access rules; also a middleware of the BentoML service, by the same arguments."""

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
                raise RefusedError("The body's length is not told", "Send it with a Content-Length.", status=411)
        except RefusedError as error:
            return await refuse(receive, send, error, plain=path.startswith("/v2/"))
        return await bento(scope, receive, _without_sniffing(send))

    policy = rules(service)
    native = access.guarded(app, policy)
    protocol_v2 = access.guarded(app, dataclasses.replace(policy, body=_plain_refusal))

    async def guarded(scope: Any, receive: Receive, send: Send) -> None:
        chosen = protocol_v2 if scope["type"] == "http" and scope["path"].startswith("/v2/") else native
        await chosen(scope, receive, send)

    return guarded


def _without_sniffing(send: Send) -> Send:
    """`send` of a response whose content type holds."""

    async def wrapped(message: Message) -> None:
        # BentoML has this application as a middleware too, whose responses come with it.
        if message["type"] == "http.response.start" and NOSNIFF not in message.get("headers", []):
            message["headers"] = [*message.get("headers", []), NOSNIFF]
        await send(message)

    return wrapped
