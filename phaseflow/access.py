"""Who may call an HTTP service of the platform: an ASGI middleware that the engine, the monitor, the portal and serving share.

A service on the loopback is reachable by every web page that the machine's browser opens, and by every local user. The middleware
refuses what such callers can send:

- a `Host` that is neither an IP literal nor a known name (403): DNS rebinding needs a name. Probes and scrapers send the pod's address.
- an `Origin` that is not the service's own, and a cross-site request of a browser that would change something (403).
- a request to a protected route without its bearer token (401).
- a body of an undeclared content type (415): a form or `text/plain` can be sent by a page of any origin without being asked first.

Standard library only. The specification is https://asgi.readthedocs.io/en/latest/specs/www.html.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from phaseflow import registry
from phaseflow.settings import PORTS, Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
JSON_ONLY: Final = frozenset({"application/json"})
CLIENT: Final = "phaseflow.client"
"""Key of the ASGI scope under which the name of the token's holder is passed on."""
MAX_CACHED_HOSTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response that the middleware gives instead of the application."""

    status: int
    problem: str
    fix: str


def no_tokens() -> Mapping[str, str]:
    """The tokens of a service that protects no route."""
    return {}


def no_route(_method: str, _path: str) -> bool:
    """Protects nothing."""
    return False


def json_only(_path: str) -> frozenset[str]:
    """Every route takes JSON."""
    return JSON_ONLY


def no_fix(_path: str) -> str | None:
    """No words of its own."""
    return None


def error_body(refusal: Refusal) -> bytes:
    """`{"error": {"field", "problem", "fix"}}`."""
    return json.dumps({"error": {"field": None, "problem": refusal.problem, "fix": refusal.fix}}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a service accepts."""

    hosts: frozenset[str]
    """Names in `Host`, in lower case and without a port; one that begins with a dot stands for every name below it."""
    origins: frozenset[str] = frozenset()
    """Origins besides the service's own, such as `https://phaseflow.example.com`."""
    content_types: Callable[[str], frozenset[str]] = json_only
    """Media types of a body, by path."""
    protected: Callable[[str, str], bool] = no_route
    """Whether a method and a path need a token."""
    tokens: Callable[[], Mapping[str, str]] = no_tokens
    """Tokens by the name of their holder; read at each protected request, so that a token can be replaced."""
    credential: str = "the service's token"
    """What an error calls the token: `the secret engine_token`."""
    content_type_fix: Callable[[str], str | None] = no_fix
    """By path, what to do about a content type that is not taken; None gives the list of those that are."""
    body: Callable[[Refusal], bytes] = error_body
    """The JSON of an error."""


def known_hosts(settings: Settings) -> frozenset[str]:
    """Host names under which the platform's parts reach each other, and the public one; `PHASEFLOW_ALLOWED_HOSTS` adds more."""
    addresses = [str(getattr(settings, f"{name}_url")) for name in PORTS if name != "serving"]
    addresses += [settings.serving(name) for name in registry.names()] if "{" in settings.serving_url else []
    addresses += [settings.public_url] + ([] if "{" in settings.serving_url else [settings.serving_url])
    names = {urlsplit(address).hostname for address in addresses}
    return frozenset({"localhost", *settings.allowed_hosts} | {name.lower() for name in names if name})


def known_origins(settings: Settings) -> frozenset[str]:
    """The front door's origin, and those of `PHASEFLOW_ALLOWED_ORIGINS`."""
    public = urlsplit(settings.public_url)
    own = {f"{public.scheme}://{public.netloc}".lower()} if public.netloc else set()
    return frozenset(own | set(settings.allowed_origins))


def policy(settings: Settings, **options: Any) -> Policy:
    """The policy of a service of this platform; `options` are fields of `Policy`."""
    return Policy(hosts=known_hosts(settings), origins=known_origins(settings), **options)


def guarded(application: Application, rules: Policy) -> Application:
    """`application` behind the rules. The lifespan passes; a WebSocket is held to the same rules as a GET."""
    hosts = _Hosts(rules.hosts)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await application(scope, receive, send)
        refusal = refused(scope, rules, hosts)
        if refusal is None:
            return await application(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": refusal.problem[:100]})
        return await _respond(send, refusal, rules.body(refusal))

    return app


def refused(scope: Scope, rules: Policy, hosts: Callable[[str], bool]) -> Refusal | None:
    """Why a request is refused; None where it may pass."""
    host, origin, site, authorization, media, length = _headers(scope["headers"])
    if host is None or not hosts(host):
        return Refusal(
            403,
            f"The host {_shown(host)} is not known",
            "Use the address that `phaseflow status` shows, or add the name to PHASEFLOW_ALLOWED_HOSTS.",
        )
    if origin is not None and not _same_origin(origin, host) and origin.lower() not in rules.origins:
        return Refusal(
            403, f"The origin {_shown(origin)} is not allowed", "Add it to PHASEFLOW_ALLOWED_ORIGINS if you trust it."
        )
    method, path = scope.get("method", "GET"), scope["path"]
    if site == "cross-site" and method not in SAFE_METHODS:
        return Refusal(
            403, "A page of another site sent this request", "Send it from the service's own pages or from a program."
        )
    if rules.protected(method, path):
        holder = _holder(authorization, rules.tokens())
        if holder is None:
            return Refusal(
                401, "The token is missing or wrong", f"Send `Authorization: Bearer` with {rules.credential}."
            )
        scope[CLIENT] = holder
    if method not in SAFE_METHODS and length:
        allowed = rules.content_types(path)
        if media not in allowed:
            return Refusal(
                415,
                f"The content type {_shown(media)} is not taken here",
                rules.content_type_fix(path)
                or f"Send one of: {', '.join(sorted(allowed))}. With curl: `-H 'content-type: {min(allowed)}'`.",
            )
    return None


def holder_of(scope: Scope, tokens: Mapping[str, str]) -> str | None:
    """The name of whoever holds the request's bearer token; None where there is no token, or a wrong one."""
    return _holder(_headers(scope["headers"])[3], tokens)


def named_tokens(text: str) -> dict[str, str]:
    """Tokens by name, of a file with a line `name token` for each; empty lines and `#` comments are passed over.

    Raises ValueError where a line is not of that form, or a token is shorter than 16 characters.
    """
    tokens: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split()
        if len(words) != 2 or len(words[1]) < 16 or words[0] in tokens:
            raise ValueError(
                f"line {number} is not `name token`, each name once and each token of 16 characters or more"
            )
        tokens[words[0]] = words[1]
    return tokens


class _Hosts:
    """Whether a `Host` header names this service; what was decided is kept, since every request asks."""

    def __init__(self, names: frozenset[str]) -> None:
        self._exact = frozenset(name for name in names if not name.startswith("."))
        self._suffixes = tuple(name for name in names if name.startswith("."))
        self._decided: dict[str, bool] = {}

    def __call__(self, host: str) -> bool:
        decided = self._decided.get(host)
        if decided is None:
            name = host_name(host)
            decided = name is not None and (name in self._exact or name.endswith(self._suffixes) or _is_address(name))
            if len(self._decided) < MAX_CACHED_HOSTS:  # a client may send any number of them
                self._decided[host] = decided
        return decided


def host_name(host: str) -> str | None:
    """The name of a `Host` header in lower case, without its port and a closing dot; None where it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises ValueError for what is no number
    except ValueError:
        return None
    if not parts.hostname or parts.netloc != host or parts.username is not None:
        return None
    return parts.hostname.rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` is the service's own: the scheme is not compared, TLS may end before the service."""
    scheme, separator, rest = origin.partition("://")
    return bool(separator) and scheme in {"http", "https"} and rest.lower() == host.lower()


def _headers(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[str | None, str | None, str, str, str, bool]:
    """Host, Origin, Sec-Fetch-Site, Authorization, media type, and whether there is a body.

    A header that comes twice, where programs may read different ones, becomes a value that nothing allows.
    """
    host: str | None = None
    origin: str | None = None
    site = authorization = media = ""
    length = False
    for name, raw in headers:
        if name == b"host":
            host = raw.decode("latin-1") if host is None else "twice, twice"
        elif name == b"origin":
            origin = raw.decode("latin-1") if origin is None else "twice, twice"
        elif name == b"sec-fetch-site":
            site = raw.decode("latin-1").strip().lower()
        elif name == b"authorization":
            authorization = raw.decode("latin-1") if not authorization else "twice, twice"
        elif name == b"content-type":
            value = raw.decode("latin-1").partition(";")[0].strip().lower()
            media = value if not media else "twice, twice"
        elif name == b"content-length":
            length = length or raw.strip() != b"0"
        elif name == b"transfer-encoding":
            length = True
    return host, origin, site, authorization, media, length


def _holder(authorization: str, tokens: Mapping[str, str]) -> str | None:
    """Every token is compared, each in constant time, so that the time says nothing about any of them."""
    scheme, _, token = authorization.partition(" ")
    given = token.strip().encode("latin-1", "replace")
    holder = None
    for name, expected in tokens.items():
        if expected and hmac.compare_digest(given, expected.encode()):
            holder = name
    return holder if scheme.lower() == "bearer" else None


def _shown(value: str | None) -> str:
    return repr(value[:100]) if value else "(none)"


async def _respond(send: Send, refusal: Refusal, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
