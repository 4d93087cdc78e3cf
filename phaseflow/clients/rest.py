"""JSON over HTTP. Calls are data, so that a synchronous and an asynchronous client share each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import httpx

from phaseflow.errors import PermanentError, PlatformError

TIMEOUT_SECONDS: Final = 20.0
MAX_SHOWN: Final = 500
"""Maximum characters of a response in an error message."""
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The API of one part of the platform."""

    name: str
    """Name in error messages, such as "Airflow"."""
    url: str
    """Address that the paths of the calls follow."""
    setting: str
    """Environment variable of the address."""
    auth: httpx.Auth | None = None
    secret: str = ""
    """Name of the secret that `auth` sends."""
    keep_alive: bool = True
    """Whether connections are reused. A server may close an idle one just as the next request uses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Result]):
    """A request, and how to read the response."""

    path: str
    read: Callable[[Any], Result]
    """Returns the result from the parsed JSON. It may raise any of `WRONG` if the JSON has another structure."""
    method: str = "GET"
    params: Mapping[str, Any] | None = None
    body: Any = None
    """Sent as JSON, unless it is None."""
    results: Mapping[int, Result] = field(default_factory=dict)
    """Results of error statuses that are no failure, such as 404 for a list of nothing."""

    def arguments(self) -> dict[str, Any]:
        """The arguments of `httpx.Client.request`."""
        return {"method": self.method, "url": self.path, "params": self.params, "json": self.body}


WRONG: Final = (LookupError, TypeError, ValueError, AttributeError)


class Client:
    """A synchronous client. Close it, use it in a `with` block, or leave its few connections to the garbage collector."""

    def __init__(self, server: Server, timeout: float = TIMEOUT_SECONDS) -> None:
        self.server = server
        self._http = httpx.Client(**_options(server, timeout))

    def send(self, call: Call[Result]) -> Result:
        """Send the call and return its result.

        Raises PlatformError if the server can't be reached, fails, or responds with something else, and PermanentError
        if it refuses the login.
        """
        try:
            response = self._http.request(**call.arguments())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(self.server, error) from error
        return result(self.server, call, response)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """An asynchronous client."""

    def __init__(self, server: Server, timeout: float = TIMEOUT_SECONDS) -> None:
        self.server = server
        self._http = httpx.AsyncClient(**_options(server, timeout))

    async def send(self, call: Call[Result]) -> Result:
        """Send the call and return its result. Raises the errors of `Client.send`."""
        try:
            response = await self._http.request(**call.arguments())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(self.server, error) from error
        return result(self.server, call, response)


def _options(server: Server, timeout: float) -> dict[str, Any]:
    limits = httpx.Limits() if server.keep_alive else httpx.Limits(max_keepalive_connections=0)
    # Proxies of the environment are for other hosts.
    return {"base_url": server.url, "auth": server.auth, "timeout": timeout, "limits": limits, "trust_env": False}


def _unreachable(server: Server, error: Exception) -> PlatformError:
    return PlatformError(
        f"{server.name} at {server.url} can't be reached: {type(error).__name__}",
        fix="Start it by `phaseflow up`, and check `phaseflow status`",
    )


def result(server: Server, call: Call[Result], response: httpx.Response) -> Result:
    """Return the result of a call. Raises the errors of `Client.send`."""
    if response.status_code in call.results:
        return call.results[response.status_code]
    where = f"{call.method} {call.path}"
    if response.status_code == 401:
        raise PermanentError(
            f"{server.name} at {server.url} refuses the login",
            fix=f"Give both the same secret {server.secret}" if server.secret else "Check its access rules",
        )
    if not response.is_success:
        raise PlatformError(
            f"{server.name} responded with {response.status_code} to {where}: {response.text[:MAX_SHOWN]}",
            fix="Check `phaseflow status` and `phaseflow logs`",
        )
    try:
        return call.read(response.json() if response.content else None)
    except WRONG as error:
        raise PlatformError(
            f"The response of {server.name} to {where} has another structure: {error!r}"[:MAX_SHOWN],
            fix=f"Correct {server.setting}, which is {server.url}",
        ) from error
