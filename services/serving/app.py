"""The ASGI application: the hot routes here, every other route to the BentoML service."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from prometheus_client import generate_latest

from phaseflow import registry
from services.serving import openapi, protocol, requests
from services.serving.requests import MOST_BYTES, RefusedError
from services.serving.state import Service

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

JSON = (b"content-type", b"application/json")
HTML = (b"content-type", b"text/html; charset=utf-8")
TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
encode = msgspec.json.Encoder().encode


async def body_of(scope: Any, receive: Receive) -> bytes:
    """The request's body; raises RefusedError with 413 as soon as it is known to be too large."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > MOST_BYTES:
            raise _too_large()
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise _too_large()
    return b"".join(parts)


def _too_large() -> RefusedError:
    return RefusedError(f"The body is larger than {MOST_BYTES >> 20} MiB", "Send fewer rows at once.", status=413)


async def reply(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """A whole response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def application(service: Service, bento: Application) -> Application:  # noqa: PLR0915  # a list of routes over one state
    """The hot routes before `bento`."""

    async def hot(scope: Any, receive: Receive, send: Send, name: str, route: str) -> None:
        begin = time.perf_counter()
        status, headers = 200, [JSON]
        try:
            if route == "predict":
                model = service.model(name)
                rows = requests.rows_of(requests.reader(name), await body_of(scope, receive))
                body = encode(await service.predict(model, rows))
            elif route == "infer":
                model = service.model(name)
                rows, wanted = protocol.rows_of(requests.reader(name), await body_of(scope, receive))
                body = encode(protocol.answered(await service.predict(model, rows), wanted))
            else:
                if name not in registry.names():
                    service.model(name)
                found = requests.reader(name)
                try:
                    truths = found.feedback.decode(await body_of(scope, receive)).truths
                except msgspec.DecodeError as error:
                    refused = requests.explained(error, found.project)
                    refused.fix = 'Send {"truths": [{"id": "..", "truth": ..}]}, the truth of the target\'s kind.'
                    raise refused from error
                body = encode({"accepted": service.feedback(found.project, truths)})
        except RefusedError as error:
            status = error.status
            body = encode({"error": {"field": error.field, "problem": error.problem, "fix": error.fix}})
            if status == 503:
                headers.append((b"retry-after", b"5"))
            if status == 413:
                headers.append((b"connection", b"close"))
        known = name if status != 404 else ""  # a stranger's path makes no new series
        service.observed.request(known, route, status, time.perf_counter() - begin)
        await reply(send, status, body, *headers)

    async def page(path: str, send: Send) -> bool:
        """Answer a GET of ours; false where it is not ours."""
        name, _, rest = path[1:].partition("/")
        if path == "/healthz":
            await reply(send, 200, b'{"status":"ok"}', JSON)
        elif path == "/readyz":
            ready = service.manager.ready
            await reply(send, 200 if ready else 503, encode({"ready": ready}), JSON)
        elif path == "/metrics":
            await reply(send, 200, generate_latest(service.observed.registry), TEXT)
        elif path == "/projects":
            await reply(send, 200, encode(service.projects()), JSON)
        elif path == "/openapi.json":
            await reply(send, 200, encode(openapi.document()), JSON)
        elif path == "/docs":
            await reply(send, 200, openapi.page().encode(), HTML)
        elif name == "v2":
            status, said = protocol.get(service, rest)
            await reply(send, status, encode(said), JSON)
        elif rest == "model":
            try:
                service.model(name)
                await reply(send, 200, encode(service.manager.describe(name)), JSON)
            except RefusedError as error:
                said = {"error": {"field": "", "problem": error.problem, "fix": error.fix}}
                await reply(send, error.status, encode(said), JSON)
        else:
            return False
        return True

    async def lifespan(scope: Any, receive: Receive, send: Send) -> None:
        await service.start()

        async def sending(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await service.stop()
            await send(message)

        await bento(scope, receive, sending)

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if scope["method"] == "POST":
                name, _, route = path[1:].partition("/")
                if route in {"predict", "feedback"} and name != "bento":
                    return await hot(scope, receive, send, name, route)
                if path.startswith("/v2/models/") and path.endswith("/infer"):
                    return await hot(
                        scope, receive, send, path.removeprefix("/v2/models/").removesuffix("/infer"), "infer"
                    )
            elif scope["method"] == "GET" and await page(path, send):
                return None
        elif scope["type"] == "lifespan":
            return await lifespan(scope, receive, send)
        return await bento(scope, receive, send)

    return app
