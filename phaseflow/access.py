"""Access control for the HTTP services: an ASGI middleware that the engine, the monitor, the portal and serving share.

A service on the loopback interface is reachable by every web page in the browser of the machine and by every local
user. The middleware refuses:

- a `Host` that is neither an IP literal nor an allowed name (403). DNS rebinding needs a name; probes and scrapers send
  the address of the pod.
- an `Origin` other than the service's own, and cross-site browser requests with an unsafe method (403).
- requests to a protected route without its bearer token (401).
- a body with an unsupported content type (415), because pages of any origin can send forms and `text/plain` without a
  CORS preflight.

This module uses only the standard library. The specification is https://asgi.readthedocs.io/en/latest/specs/www.html.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from phaseflow import discovery
from phaseflow.settings import PORTS, Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
JSON_ONLY: Final = frozenset({"application/json"})
CLIENT: Final = "phaseflow.client"
"""Key of the ASGI scope that holds the name of the client, which is the name of its token."""
MAX_CACHED_HOSTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response that the middleware sends instead of calling the application."""

    status: int
    problem: str
    fix: str


def no_tokens() -> Mapping[str, str]:
    """The default of `Policy.tokens`: no tokens."""
    return {}


def no_route(_method: str, _path: str) -> bool:
    """The default of `Policy.protected`: no route needs a token."""
    return False


def json_only(_path: str) -> frozenset[str]:
    """The default of `Policy.content_types`: every route accepts only JSON."""
    return JSON_ONLY


def no_fix(_path: str) -> str | None:
    """The default of `Policy.content_type_fix`: the fix is the list of allowed content types."""
    return None


def error_body(refusal: Refusal) -> bytes:
    """The default of `Policy.body`: `{"error": {"field", "problem", "fix"}}`."""
    return json.dumps({"error": {"field": None, "problem": refusal.problem, "fix": refusal.fix}}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The access rules of a service."""

    hosts: frozenset[str]
    """Allowed host names, in lower case and without a port. A leading dot matches all subdomains."""
    origins: frozenset[str] = frozenset()
    """Allowed origins in addition to the service's own, such as `https://phaseflow.example.com`."""
    content_types: Callable[[str], frozenset[str]] = json_only
    """Returns the allowed media types of the request body for a path."""
    protected: Callable[[str, str], bool] = no_route
    """Returns whether a method and a path need a token."""
    tokens: Callable[[], Mapping[str, str]] = no_tokens
    """Returns the tokens by name. It is called for each protected request, so that a token can be replaced."""
    credential: str = "the service's token"
    """Description of the token in error messages, such as `the secret engine_token`."""
    content_type_fix: Callable[[str], str | None] = no_fix
    """Returns the fix for an unsupported content type by path. None means the list of allowed content types."""
    body: Callable[[Refusal], bytes] = error_body
    """Returns the response body of a refusal."""


def known_hosts(settings: Settings) -> frozenset[str]:
    """Host names of all components of the platform and of its public URL, and those in `PHASEFLOW_ALLOWED_HOSTS`."""
    addresses = [str(getattr(settings, f"{name}_url")) for name in PORTS if name != "serving"]
    addresses += [settings.serving(name) for name in discovery.names()] if "{" in settings.serving_url else []
    addresses += [settings.public_url] + ([] if "{" in settings.serving_url else [settings.serving_url])
    names = {urlsplit(address).hostname for address in addresses}
    return frozenset({"localhost", *settings.allowed_hosts} | {name.lower() for name in names if name})


def known_origins(settings: Settings) -> frozenset[str]:
    """The origin of the reverse proxy, and those in `PHASEFLOW_ALLOWED_ORIGINS`."""
    public = urlsplit(settings.public_url)
    own = {f"{public.scheme}://{public.netloc}".lower()} if public.netloc else set()
    return frozenset(own | set(settings.allowed_origins))


def policy(settings: Settings, **options: Any) -> Policy:
    """Create the policy of a service; `options` are further fields of `Policy`."""
    return Policy(hosts=known_hosts(settings), origins=known_origins(settings), **options)


def guarded(application: Application, rules: Policy) -> Application:
    """Wrap `application` in the middleware. Lifespan events pass; a WebSocket is checked like a GET request."""
    hosts = _Hosts(rules.hosts)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await application(scope, receive, send)
        refusal = check_request(scope, rules, hosts)
        if refusal is None:
            return await application(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": refusal.problem[:100]})
        return await _respond(send, refusal, rules.body(refusal))

    return app


def check_request(scope: Scope, rules: Policy, hosts: Callable[[str], bool]) -> Refusal | None:
    """The refusal of a request, or None if it is allowed."""
    host, origin, site, authorization, media, has_body = _headers(scope["headers"])
    if host is None or not hosts(host):
        return Refusal(
            403,
            f"The host {_quoted(host)} is not known",
            "Use the address that `phaseflow status` shows, or add the name to PHASEFLOW_ALLOWED_HOSTS.",
        )
    if origin is not None and not _same_origin(origin, host) and origin.lower() not in rules.origins:
        return Refusal(
            403, f"The origin {_quoted(origin)} is not allowed", "Add it to PHASEFLOW_ALLOWED_ORIGINS if you trust it."
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
    if method not in SAFE_METHODS and has_body:
        allowed = rules.content_types(path)
        if media not in allowed:
            return Refusal(
                415,
                f"The content type {_quoted(media)} is not taken here",
                rules.content_type_fix(path)
                or f"Send one of: {', '.join(sorted(allowed))}. With curl: `-H 'content-type: {min(allowed)}'`.",
            )
    return None


def holder_of(scope: Scope, tokens: Mapping[str, str]) -> str | None:
    """The name of the bearer token of a request. None if the token is missing or wrong."""
    return _holder(_headers(scope["headers"])[3], tokens)


def named_tokens(text: str) -> dict[str, str]:
    """Parse a file with one line `name token` per token into tokens by name. Empty lines and `#` comments are ignored.

    Raises ValueError if a line is malformed, a name is duplicated, or a token is shorter than 16 characters.
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
    """Checks whether a `Host` header is allowed. It caches results, because every request needs one."""

    def __init__(self, names: frozenset[str]) -> None:
        self._exact = frozenset(name for name in names if not name.startswith("."))
        self._suffixes = tuple(name for name in names if name.startswith("."))
        self._cache: dict[str, bool] = {}

    def __call__(self, host: str) -> bool:
        allowed = self._cache.get(host)
        if allowed is None:
            name = host_name(host)
            allowed = name is not None and (name in self._exact or name.endswith(self._suffixes) or _is_address(name))
            if len(self._cache) < MAX_CACHED_HOSTS:  # a client may send any number of hosts
                self._cache[host] = allowed
        return allowed


def host_name(host: str) -> str | None:
    """The host name of a `Host` header in lower case, without the port and a trailing dot. None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises ValueError if it is not a number
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
    """Whether `origin` is the service's own. The scheme is not compared, because a proxy may terminate TLS."""
    scheme, separator, rest = origin.partition("://")
    return bool(separator) and scheme in {"http", "https"} and rest.lower() == host.lower()


def _headers(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[str | None, str | None, str, str, str, bool]:
    """Return Host, Origin, Sec-Fetch-Site, Authorization, the media type, and whether there is a body.

    Programs disagree about which of two duplicate headers counts, so a duplicate becomes a value that no rule allows.
    """
    host: str | None = None
    origin: str | None = None
    site = authorization = media = ""
    has_body = False
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
            has_body = has_body or raw.strip() != b"0"
        elif name == b"transfer-encoding":
            has_body = True
    return host, origin, site, authorization, media, has_body


def _holder(authorization: str, tokens: Mapping[str, str]) -> str | None:
    """Compare with all tokens, each in constant time, so that the duration reveals nothing about them."""
    scheme, _, token = authorization.partition(" ")
    credentials = token.strip().encode("latin-1", "replace")
    holder = None
    for name, expected in tokens.items():
        if expected and hmac.compare_digest(credentials, expected.encode()):
            holder = name
    return holder if scheme.lower() == "bearer" else None


def _quoted(value: str | None) -> str:
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
