"""Access rules as data: each service's routes, and the hosts, origins, tokens and content types that a route accepts.

A call is a route with one value of each of these. It must be refused if at least one value is wrong, with a status of
one of the wrong values. The module is independent of the platform's tier: addresses and credentials are arguments.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tests import wire

BEARER_TOKEN: Final = "0123456789abcdef0123456789abcdef"
"""A token that no service accepts."""
JSON: Final = "application/json"

NO_BROWSERS_HOSTS: Final = frozenset({"the address before an @", "two hosts", "a path"})
NO_BROWSERS_ORIGINS: Final = frozenset({"an origin that begins with the own one", "an empty origin"})
"""Values that match MLflow's patterns, such as `127.0.0.1:*`, but that no browser sends.

MLflow trusts every page of this machine.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route: the content of a valid call, the statuses of a successful call, and the checks."""

    service: str
    method: str = "GET"
    path: str
    body: bytes = b""
    media: str = JSON
    accepted: frozenset[int] = frozenset({200})
    """Statuses of a call that is let in; the bodies are chosen so that it changes nothing."""
    credential: str = ""
    """Name of the valid `Authorization` header among the credentials; empty for public routes."""
    hosts: bool = True
    """Whether an unknown `Host` is refused."""
    literals: bool = True
    """Whether any IP literal is accepted as a host."""
    origins: bool = True
    medias: bool = True
    refusals: frozenset[int] = frozenset()
    """Further statuses of a refusal for any reason."""
    passes: frozenset[str] = frozenset()
    """Names of foreign values that the service accepts."""
    optional: bool = False
    """Whether a missing token is accepted but a wrong one is refused, so that a typo never makes a client anonymous."""
    pairs: bool = False
    """Whether to test calls with two deviating values too; set for one route of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of a header, and the status of its refusal; 0 if the value is valid."""

    name: str
    text: str | None
    """None leaves the header out; `{own}` is the service's own host and port."""
    refusal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A route with one value of each header."""

    route: Route
    host: Value
    origin: Value
    token: Value
    media: Value
    site: Value = field(default=Value(name="no site", text=None))

    @property
    def refusals(self) -> frozenset[int]:
        """Statuses of the wrong values' refusals; empty if the call is valid."""
        values = (self.host, self.origin, self.token, self.media, self.site)
        statuses = frozenset(value.refusal for value in values) - {0}
        return statuses | self.route.refusals if statuses else statuses

    def __str__(self) -> str:
        names = ", ".join(value.name for value in (self.host, self.origin, self.token, self.media, self.site))
        return f"{self.route.service} {self.route.method} {self.route.path} with {names}"


ROUTES: Final = (
    Route(service="pipelines", path="/apis/v2beta1/runs"),
    Route(service="pipelines", path="/apis/v2beta1/healthz"),
    Route(
        service="pipelines",
        method="POST",
        path="/apis/v2beta1/runs",
        body=b"{}",
        accepted=frozenset({400, 422}),
        credential="engine_token",
        pairs=True,
    ),
    Route(
        service="pipelines",
        method="POST",
        path="/apis/v2beta1/experiments",
        body=b"[]",
        accepted=frozenset({400, 422}),
        credential="engine_token",
    ),
    Route(
        service="pipelines",
        method="POST",
        path="/apis/v2beta1/runs/no-such-run:terminate",
        accepted=frozenset({404}),
        credential="engine_token",
        medias=False,  # it has no body
    ),
    Route(
        service="pipelines",
        method="DELETE",
        path="/apis/v2beta1/runs/no-such-run",
        accepted=frozenset({404}),
        credential="engine_token",
        medias=False,
    ),
    Route(service="monitor", path="/metrics"),
    Route(service="monitor", path="/reports"),
    Route(
        service="monitor",
        method="POST",
        path="/hooks/alertmanager",
        body=b'{"alerts": []}',
        credential="hook_token",
        pairs=True,
    ),
    Route(
        service="monitor",
        method="POST",
        path="/projects/no_such_project/report",
        accepted=frozenset({404}),
        credential="hook_token",
        medias=False,
    ),
    Route(service="evidently", path="/api/version"),
    Route(service="evidently", path="/api/v2/projects"),
    Route(service="portal", path="/"),
    Route(service="portal", path="/healthz", pairs=True),
    Route(service="serving", path="/projects"),
    Route(service="serving", path="/metrics"),
    Route(service="serving", path="/titanic/model"),
    Route(service="serving", method="POST", path="/titanic/predict", body=b"{}", accepted=frozenset({422}), pairs=True),
    Route(
        service="serving",
        method="POST",
        path="/titanic/feedback",
        body=b"{}",
        accepted=frozenset({422}),
        optional=True,
    ),
    Route(service="serving", method="POST", path="/v2/models/titanic/infer", body=b"{}", accepted=frozenset({422})),
    # Prometheus, Alertmanager and Airflow check neither host nor origin: a foreign page has no login, and browsers send
    # none for it.
    Route(service="prometheus", path="/api/v1/alerts", credential="prometheus", hosts=False, origins=False),
    Route(service="prometheus", path="/metrics", credential="prometheus", hosts=False, origins=False),
    Route(
        service="prometheus",
        method="POST",
        path="/api/v1/query",
        body=b"query=up",
        media="application/x-www-form-urlencoded",
        credential="prometheus",
        hosts=False,
        origins=False,
        medias=False,
    ),
    Route(service="alertmanager", path="/api/v2/alerts", credential="alertmanager", hosts=False, origins=False),
    Route(
        service="alertmanager",
        method="POST",
        path="/api/v2/alerts",
        body=b"[]",
        credential="alertmanager",
        pairs=True,
        hosts=False,
        origins=False,
    ),
    Route(
        service="alertmanager",
        method="POST",
        path="/api/v2/silences",
        body=b"{}",
        accepted=frozenset({422}),
        credential="alertmanager",
        hosts=False,
        origins=False,
    ),
    Route(
        service="airflow",
        path="/api/v2/dags?limit=1",
        credential="airflow",
        hosts=False,
        origins=False,
        refusals=frozenset({403}),
    ),
    Route(
        service="airflow",
        method="POST",
        path="/api/v2/dags/titanic/dagRuns",
        body=b'{"no_such_field": 1}',
        accepted=frozenset({422}),
        credential="airflow",
        hosts=False,
        origins=False,
        medias=False,  # other content types are 422 like the body, and a page can't send the token anyway
        refusals=frozenset({403}),
    ),
    Route(
        service="mlflow",
        method="POST",
        path="/api/2.0/mlflow/runs/search",
        body=b'{"experiment_ids": ["0"]}',
        literals=False,
        medias=False,  # a page of another origin is refused by its origin
        passes=NO_BROWSERS_HOSTS | NO_BROWSERS_ORIGINS | {"origin of another port"},
    ),
    Route(
        service="mlflow",
        path="/api/2.0/mlflow/experiments/search?max_results=1",
        literals=False,
        origins=False,
        passes=NO_BROWSERS_HOSTS,
    ),
)

OWN: Final = Value(name="own host", text="{own}")
KNOWN_HOSTS: Final = (
    Value(name="localhost", text="localhost:{port}"),
    Value(name="LOCALHOST", text="LocalHost:{port}"),
)
LITERALS: Final = (
    Value(name="a pod's address", text="10.1.2.3:{port}"),
    Value(name="an IPv6 address", text="[::1]:{port}"),
)
FOREIGN_HOSTS: Final = (
    Value(name="evil.example", text="evil.example", refusal=403),
    Value(name="evil.example and the port", text="evil.example:{port}", refusal=403),
    Value(name="a name that begins with localhost", text="localhost.evil.example:{port}", refusal=403),
    Value(name="a name that begins with the address", text="127.0.0.1.evil.example:{port}", refusal=403),
    Value(name="the address before an @", text="127.0.0.1:{port}@evil.example", refusal=403),
    Value(name="the address after an @", text="evil.example@127.0.0.1:{port}", refusal=403),
    Value(name="the address as one number", text="2130706433:{port}", refusal=403),
    Value(name="the address in hexadecimal", text="0x7f.1:{port}", refusal=403),
    Value(name="the address in octal", text="0177.0.0.1:{port}", refusal=403),
    Value(name="two hosts", text="127.0.0.1:{port}, evil.example", refusal=403),
    Value(name="a path", text="127.0.0.1:{port}/evil.example", refusal=403),
    Value(name="no port after a colon", text="evil.example:", refusal=403),
)
NO_ORIGIN: Final = Value(name="no origin", text=None)
OWN_ORIGIN: Final = Value(name="own origin", text="http://{host}")
FOREIGN_ORIGINS: Final = (
    Value(name="origin evil.example", text="https://evil.example", refusal=403),
    Value(name="origin null", text="null", refusal=403),
    Value(name="origin of another port", text="http://127.0.0.1:1", refusal=403),
    Value(name="an origin that begins with the own one", text="http://{host}.evil.example", refusal=403),
    Value(name="an empty origin", text="", refusal=403),
)
NO_SITE: Final = Value(name="no site", text=None)
SAME_SITE: Final = Value(name="same origin by Sec-Fetch-Site", text="same-origin")
CROSS_SITE: Final = Value(name="cross-site by Sec-Fetch-Site", text="cross-site", refusal=403)
NO_TOKEN: Final = Value(name="no token", text=None, refusal=401)
WRONG_MEDIA: Final = (
    Value(name="text/plain", text="text/plain", refusal=415),
    Value(name="a form", text="application/x-www-form-urlencoded", refusal=415),
    Value(name="no content type", text=None, refusal=415),
)


def calls(route: Route, credentials: Mapping[str, str]) -> Iterator[Call]:
    """Yield the valid call, and all calls that differ from it in one value, or in two if `route.pairs`."""
    literals = LITERALS if route.literals else tuple(replace(value, refusal=403) for value in LITERALS)
    foreign = (*literals, *_passed(FOREIGN_HOSTS, route)) if route.hosts else _right(FOREIGN_HOSTS[:2])
    origins = (
        NO_ORIGIN,
        OWN_ORIGIN,
        *(_passed(FOREIGN_ORIGINS, route) if route.origins else _right(FOREIGN_ORIGINS[:2])),
    )
    media = Value(name=route.media, text=route.media if route.body else None)
    medias = (media, *WRONG_MEDIA) if route.medias and route.body else (media,)
    known_hosts = KNOWN_HOSTS[:1] if route.service == "mlflow" else KNOWN_HOSTS  # its comparison is case-sensitive
    changing = route.method not in {"GET", "HEAD", "OPTIONS"}
    cross_site = CROSS_SITE if changing and route.origins else replace(CROSS_SITE, refusal=0)
    sites = (NO_SITE, SAME_SITE) if route.service == "mlflow" else (NO_SITE, SAME_SITE, cross_site)
    tokens = _tokens(route, credentials)
    right_call = (OWN, origins[0], tokens[0], medias[0], sites[0])
    for values in itertools.product((OWN, *known_hosts, *foreign), origins, tokens, medias, sites):
        if (
            sum(value is not right_value for value, right_value in zip(values, right_call, strict=True))
            <= 1 + route.pairs
        ):
            host, origin, token, media, site = values
            yield Call(route=route, host=host, origin=origin, token=token, media=media, site=site)


def _right(values: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(replace(value, refusal=0) for value in values)


def _passed(values: tuple[Value, ...], route: Route) -> tuple[Value, ...]:
    return tuple(replace(value, refusal=0) if value.name in route.passes else value for value in values)


def _tokens(route: Route, credentials: Mapping[str, str]) -> tuple[Value, ...]:
    if not route.credential:
        return (
            Value(name="no token", text=None),
            Value(
                name="an unnecessary token",
                text=f"Bearer {BEARER_TOKEN}",
                refusal=401 if route.optional else 0,
            ),
        )
    right = credentials[route.credential]
    scheme, _, secret = right.partition(" ")
    others = [value for name, value in credentials.items() if name != route.credential]
    return (
        Value(name="right token", text=right),
        NO_TOKEN,
        Value(name="wrong token", text=f"{scheme} {BEARER_TOKEN}", refusal=401),
        Value(name="empty token", text=f"{scheme} ", refusal=401),
        Value(name="the token without its scheme", text=secret, refusal=401),
        Value(name="the token's beginning", text=right[:-1], refusal=401),
        Value(name="the token twice", text=f"{right}, {right}", refusal=401),
        *(Value(name="another service's token", text=other, refusal=401) for other in others[:2]),
    )


def encode_request(call: Call, address: tuple[str, int]) -> bytes:
    """Return the bytes of the request."""
    host, port = address
    own = f"{host}:{port}"
    values = {"own": own, "port": str(port)}
    name = (call.host.text or "").format(**values)
    headers = [("Host", name)]
    for key, value in (
        ("Origin", call.origin),
        ("Authorization", call.token),
        ("Content-Type", call.media),
        ("Sec-Fetch-Site", call.site),
    ):
        if value.text is not None:
            headers.append((key, value.text.replace("{host}", name)))
    headers.append(("Connection", "close"))
    return wire.request(call.route.method, call.route.path, headers, call.route.body)


def problem_of(call: Call, response: wire.Response) -> str:
    """Describe what is wrong with the response; return "" if the call was refused or let in as expected."""
    if response.status >= 500 or response.late:
        return f"{call}: {response.status}, {response.seconds:.1f} s: {response.body[:200]!r}"
    if call.refusals:
        # The HTTP server may refuse a malformed Host before the host check.
        allowed = call.refusals | ({0, 400} if call.host.refusal else set())
        if response.status not in allowed:
            return f"{call}: {response.status} instead of {sorted(call.refusals)}: {response.body[:100]!r}"
        readable = response.header("access-control-allow-origin")
        return f"{call}: refused, but readable by {readable}" if readable and response.status < 400 else ""
    if response.status not in call.route.accepted:
        return f"{call}: {response.status} instead of {sorted(call.route.accepted)}: {response.body[:100]!r}"
    return ""


def check_route(
    route: Route,
    address: tuple[str, int],
    credentials: Mapping[str, str],
    exchange: Callable[..., wire.Response] = wire.exchange,
) -> tuple[int, list[str]]:
    """Make all calls of the route; return their number and the problems."""
    responses = [
        (call, exchange(address, encode_request(call, address), method=route.method))
        for call in calls(route, credentials)
    ]
    return len(responses), [problem for call, response in responses if (problem := problem_of(call, response))]


def bearer(token: str) -> str:
    """Return the `Authorization` header of a token."""
    return f"Bearer {token}"


def credentials_of(
    secret: Callable[[str], str], login: Callable[[str], tuple[str, str] | None], airflow_url: str
) -> dict[str, str]:
    """Return the valid `Authorization` headers by name: two tokens, two logins, and a session of Airflow's admin."""
    body = json.dumps({"username": "admin", "password": secret("airflow_admin_password")}).encode()
    address = wire.address_of(airflow_url)
    headers = [("Host", f"{address[0]}:{address[1]}"), ("Content-Type", JSON), ("Connection", "close")]
    session = wire.exchange(address, wire.request("POST", "/auth/token", headers, body), seconds=120)
    assert session.status == 201, session
    credentials = {name: bearer(secret(name)) for name in ("engine_token", "hook_token")}
    for name in ("prometheus", "alertmanager"):
        pair = login(name)
        assert pair is not None, f"{name} has no password"
        credentials[name] = wire.basic(pair)
    return credentials | {"airflow": bearer(json.loads(session.body)["access_token"])}
