"""Who gets in where, as data: for each service its routes, and for each route the hosts, origins, tokens and content types.

A call is a route with the values of those four; it is refused where at least one of them is wrong, by a status of one of its reasons.
Nothing here knows which tier it asks: the addresses and the right credentials are arguments.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tests import wire

BEARER_TOKEN: Final = "0123456789abcdef0123456789abcdef"
"""No service's."""
JSON: Final = "application/json"

NO_BROWSERS_HOSTS: Final = frozenset({"the address before an @", "two hosts", "a path"})
NO_BROWSERS_ORIGINS: Final = frozenset({"an origin that begins with the own one", "an empty origin"})
"""MLflow compares by patterns such as `127.0.0.1:*`, which these match; no browser sends them. It trusts every page of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One route: what a right call sends, which statuses mean that it got in, and what is checked of it."""

    service: str
    method: str = "GET"
    path: str
    body: bytes = b""
    media: str = JSON
    accepted: frozenset[int] = frozenset({200})
    """Of a call that gets in; bodies are chosen so that it changes nothing."""
    credential: str = ""
    """Name of the right `Authorization` among the credentials; none where anybody may call."""
    hosts: bool = True
    """Whether a `Host` that is no known name is refused."""
    literals: bool = True
    """Whether any IP literal is a known host."""
    origins: bool = True
    medias: bool = True
    refusals: frozenset[int] = frozenset()
    """Further statuses by which it refuses whatever is wrong."""
    passes: frozenset[str] = frozenset()
    """Names of foreign values that it lets in."""
    optional: bool = False
    """Whether it asks for no token, but refuses a wrong one: a client that has a name must not lose it by a slip."""
    pairs: bool = False
    """Whether calls with two other values are made too: for one door of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of a header, and the status that refuses it; 0 where it is right."""

    name: str
    text: str | None
    """None leaves the header out; `{own}` is the service's own host and port."""
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A door with a value of each header."""

    door: Door
    host: Value
    origin: Value
    token: Value
    media: Value
    site: Value = field(default=Value(name="no site", text=None))

    @property
    def refusals(self) -> frozenset[int]:
        """Statuses of its wrong values; empty where it gets in."""
        values = (self.host, self.origin, self.token, self.media, self.site)
        statuses = frozenset(value.refused for value in values) - {0}
        return statuses | self.door.refusals if statuses else statuses

    def __str__(self) -> str:
        values = (self.host, self.origin, self.token, self.media, self.site)
        return (
            f"{self.door.service} {self.door.method} {self.door.path} with {', '.join(value.name for value in values)}"
        )


DOORS: Final = (
    Door(service="pipelines", path="/apis/v2beta1/runs"),
    Door(service="pipelines", path="/apis/v2beta1/healthz"),
    Door(
        service="pipelines",
        method="POST",
        path="/apis/v2beta1/runs",
        body=b"{}",
        accepted=frozenset({400, 422}),
        credential="engine_token",
        pairs=True,
    ),
    Door(
        service="pipelines",
        method="POST",
        path="/apis/v2beta1/experiments",
        body=b"[]",
        accepted=frozenset({400, 422}),
        credential="engine_token",
    ),
    Door(
        service="pipelines",
        method="POST",
        path="/apis/v2beta1/runs/no-such-run:terminate",
        accepted=frozenset({404}),
        credential="engine_token",
        medias=False,  # it has no body
    ),
    Door(
        service="pipelines",
        method="DELETE",
        path="/apis/v2beta1/runs/no-such-run",
        accepted=frozenset({404}),
        credential="engine_token",
        medias=False,
    ),
    Door(service="monitor", path="/metrics"),
    Door(service="monitor", path="/reports"),
    Door(
        service="monitor",
        method="POST",
        path="/hooks/alertmanager",
        body=b'{"alerts": []}',
        credential="hook_token",
        pairs=True,
    ),
    Door(
        service="monitor",
        method="POST",
        path="/projects/no_such_project/report",
        accepted=frozenset({404}),
        credential="hook_token",
        medias=False,
    ),
    Door(service="portal", path="/"),
    Door(service="portal", path="/healthz", pairs=True),
    Door(service="serving", path="/projects"),
    Door(service="serving", path="/metrics"),
    Door(service="serving", path="/titanic/model"),
    Door(service="serving", method="POST", path="/titanic/predict", body=b"{}", accepted=frozenset({422}), pairs=True),
    Door(
        service="serving",
        method="POST",
        path="/titanic/feedback",
        body=b"{}",
        accepted=frozenset({422}),
        optional=True,
    ),
    Door(service="serving", method="POST", path="/v2/models/titanic/infer", body=b"{}", accepted=frozenset({422})),
    # Prometheus, Alertmanager and Airflow look at neither: a page of another name has no login of theirs, and none can be sent for it.
    Door(service="prometheus", path="/api/v1/alerts", credential="prometheus", hosts=False, origins=False),
    Door(service="prometheus", path="/metrics", credential="prometheus", hosts=False, origins=False),
    Door(
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
    Door(service="alertmanager", path="/api/v2/alerts", credential="alertmanager", hosts=False, origins=False),
    Door(
        service="alertmanager",
        method="POST",
        path="/api/v2/alerts",
        body=b"[]",
        credential="alertmanager",
        pairs=True,
        hosts=False,
        origins=False,
    ),
    Door(
        service="alertmanager",
        method="POST",
        path="/api/v2/silences",
        body=b"{}",
        accepted=frozenset({422}),
        credential="alertmanager",
        hosts=False,
        origins=False,
    ),
    Door(
        service="airflow",
        path="/api/v2/dags?limit=1",
        credential="airflow",
        hosts=False,
        origins=False,
        refusals=frozenset({403}),
    ),
    Door(
        service="airflow",
        method="POST",
        path="/api/v2/dags/titanic/dagRuns",
        body=b'{"no_such_field": 1}',
        accepted=frozenset({422}),
        credential="airflow",
        hosts=False,
        origins=False,
        medias=False,  # any other is 422 like the body, and a page can't send the token anyway
        refusals=frozenset({403}),
    ),
    Door(
        service="mlflow",
        method="POST",
        path="/api/2.0/mlflow/runs/search",
        body=b'{"experiment_ids": ["0"]}',
        literals=False,
        medias=False,  # a page of another origin is refused by its origin
        passes=NO_BROWSERS_HOSTS | NO_BROWSERS_ORIGINS | {"origin of another port"},
    ),
    Door(
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
    Value(name="evil.example", text="evil.example", refused=403),
    Value(name="evil.example and the port", text="evil.example:{port}", refused=403),
    Value(name="a name that begins with localhost", text="localhost.evil.example:{port}", refused=403),
    Value(name="a name that begins with the address", text="127.0.0.1.evil.example:{port}", refused=403),
    Value(name="the address before an @", text="127.0.0.1:{port}@evil.example", refused=403),
    Value(name="the address after an @", text="evil.example@127.0.0.1:{port}", refused=403),
    Value(name="the address as one number", text="2130706433:{port}", refused=403),
    Value(name="the address in hexadecimal", text="0x7f.1:{port}", refused=403),
    Value(name="the address in octal", text="0177.0.0.1:{port}", refused=403),
    Value(name="two hosts", text="127.0.0.1:{port}, evil.example", refused=403),
    Value(name="a path", text="127.0.0.1:{port}/evil.example", refused=403),
    Value(name="no port after a colon", text="evil.example:", refused=403),
)
NO_ORIGIN: Final = Value(name="no origin", text=None)
OWN_ORIGIN: Final = Value(name="own origin", text="http://{host}")
FOREIGN_ORIGINS: Final = (
    Value(name="origin evil.example", text="https://evil.example", refused=403),
    Value(name="origin null", text="null", refused=403),
    Value(name="origin of another port", text="http://127.0.0.1:1", refused=403),
    Value(name="an origin that begins with the own one", text="http://{host}.evil.example", refused=403),
    Value(name="an empty origin", text="", refused=403),
)
NO_SITE: Final = Value(name="no site", text=None)
SAME_SITE: Final = Value(name="same origin by Sec-Fetch-Site", text="same-origin")
CROSS_SITE: Final = Value(name="cross-site by Sec-Fetch-Site", text="cross-site", refused=403)
NO_TOKEN: Final = Value(name="no token", text=None, refused=401)
WRONG_MEDIA: Final = (
    Value(name="text/plain", text="text/plain", refused=415),
    Value(name="a form", text="application/x-www-form-urlencoded", refused=415),
    Value(name="no content type", text=None, refused=415),
)


def calls(door: Door, credentials: Mapping[str, str]) -> Iterator[Call]:
    """The right call, and all calls that differ from it in one or two values."""
    literals = LITERALS if door.literals else tuple(replace(value, refused=403) for value in LITERALS)
    foreign = (*literals, *_passed(FOREIGN_HOSTS, door)) if door.hosts else _right(FOREIGN_HOSTS[:2])
    origins = (
        NO_ORIGIN,
        OWN_ORIGIN,
        *(_passed(FOREIGN_ORIGINS, door) if door.origins else _right(FOREIGN_ORIGINS[:2])),
    )
    media = Value(name=door.media, text=door.media if door.body else None)
    medias = (media, *WRONG_MEDIA) if door.medias and door.body else (media,)
    known = KNOWN_HOSTS[:1] if door.service == "mlflow" else KNOWN_HOSTS  # it compares letters as they are
    changing = door.method not in {"GET", "HEAD", "OPTIONS"}
    cross = CROSS_SITE if changing and door.origins else replace(CROSS_SITE, refused=0)
    sites = (NO_SITE, SAME_SITE) if door.service == "mlflow" else (NO_SITE, SAME_SITE, cross)
    tokens = _tokens(door, credentials)
    first = (OWN, origins[0], tokens[0], medias[0], sites[0])
    for values in itertools.product((OWN, *known, *foreign), origins, tokens, medias, sites):
        if sum(value is not right for value, right in zip(values, first, strict=True)) <= 1 + door.pairs:
            host, origin, token, media, site = values
            yield Call(door=door, host=host, origin=origin, token=token, media=media, site=site)


def _right(values: tuple[Value, ...]) -> tuple[Value, ...]:
    return tuple(replace(value, refused=0) for value in values)


def _passed(values: tuple[Value, ...], door: Door) -> tuple[Value, ...]:
    return tuple(replace(value, refused=0) if value.name in door.passes else value for value in values)


def _tokens(door: Door, credentials: Mapping[str, str]) -> tuple[Value, ...]:
    if not door.credential:
        return (
            Value(name="no token", text=None),
            Value(
                name="a token that nobody asked for", text=f"Bearer {BEARER_TOKEN}", refused=401 if door.optional else 0
            ),
        )
    right = credentials[door.credential]
    scheme, _, secret = right.partition(" ")
    others = [value for name, value in credentials.items() if name != door.credential]
    return (
        Value(name="right token", text=right),
        NO_TOKEN,
        Value(name="wrong token", text=f"{scheme} {BEARER_TOKEN}", refused=401),
        Value(name="empty token", text=f"{scheme} ", refused=401),
        Value(name="the token without its scheme", text=secret, refused=401),
        Value(name="the token's beginning", text=right[:-1], refused=401),
        Value(name="the token twice", text=f"{right}, {right}", refused=401),
        *(Value(name="another service's token", text=other, refused=401) for other in others[:2]),
    )


def sent(call: Call, address: tuple[str, int]) -> bytes:
    """The request's bytes."""
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
    return wire.request(call.door.method, call.door.path, headers, call.door.body)


def wrong(call: Call, response: wire.Response) -> str:
    """What is wrong with the response; empty where the call was refused, or got in, as it should."""
    if response.status >= 500 or response.late:
        return f"{call}: {response.status}, {response.seconds:.1f} s: {response.body[:200]!r}"
    if call.refusals:
        # A malformed Host may be refused as malformed by the HTTP server before anything asks whose it is.
        allowed = call.refusals | ({0, 400} if call.host.refused else set())
        if response.status not in allowed:
            return f"{call}: {response.status} instead of {sorted(call.refusals)}: {response.body[:100]!r}"
        readable = response.header("access-control-allow-origin")
        return f"{call}: refused, and yet readable by {readable}" if readable and response.status < 400 else ""
    if response.status not in call.door.accepted:
        return f"{call}: {response.status} instead of {sorted(call.door.accepted)}: {response.body[:100]!r}"
    return ""


def checked(
    door: Door,
    address: tuple[str, int],
    credentials: Mapping[str, str],
    ask: Callable[..., wire.Response] = wire.exchange,
) -> tuple[int, list[str]]:
    """How many calls of the door were made, and what was wrong."""
    answers = [(call, ask(address, sent(call, address), method=door.method)) for call in calls(door, credentials)]
    return len(answers), [problem for call, response in answers if (problem := wrong(call, response))]


def bearer(token: str) -> str:
    """The value of `Authorization`."""
    return f"Bearer {token}"


def credentials_of(
    secret: Callable[[str], str], login: Callable[[str], tuple[str, str] | None], airflow_url: str
) -> dict[str, str]:
    """The right `Authorization` by name: two tokens, two logins, and a session of Airflow's administrator."""
    body = json.dumps({"username": "admin", "password": secret("airflow_admin_password")}).encode()
    address = wire.address_of(airflow_url)
    headers = [("Host", f"{address[0]}:{address[1]}"), ("Content-Type", JSON), ("Connection", "close")]
    session = wire.exchange(address, wire.request("POST", "/auth/token", headers, body), seconds=120)
    assert session.status == 201, session
    found = {name: bearer(secret(name)) for name in ("engine_token", "hook_token")}
    for name in ("prometheus", "alertmanager"):
        pair = login(name)
        assert pair is not None, f"{name} has no password"
        found[name] = wire.basic(pair)
    return found | {"airflow": bearer(json.loads(session.body)["access_token"])}
