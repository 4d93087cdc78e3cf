"""HTTP requests to parts of the platform, which may be unavailable or slow or may respond wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from phaseflow.errors import PlatformError

HASTY: Final = httpx.Timeout(0.8)
"""Seconds. A page that has nothing else to show waits this long for a part that hangs."""
PATIENT: Final = httpx.Timeout(4.0, connect=0.8)
"""Seconds. On a busy machine a healthy part may be slow; meanwhile the page shows the last status."""


class AwayError(PlatformError):
    """A part of the platform does not respond."""


def client(timeout: httpx.Timeout) -> httpx.AsyncClient:
    """An HTTP client that ignores the proxies of the environment."""
    return httpx.AsyncClient(timeout=timeout, trust_env=False, limits=httpx.Limits(max_connections=64))


async def get(http: httpx.AsyncClient, part: str, url: str, **options: Any) -> httpx.Response:
    """The response to GET `url`; raises AwayError if `part` refuses the connection, times out or breaks the connection."""
    try:
        return await http.get(url, **options)
    except httpx.TimeoutException as error:
        raise AwayError(f"{part} at {url} did not respond in time", fix="See `bin/phaseflow status`") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise AwayError(f"{part} at {url} is unavailable", fix="Start it with `bin/phaseflow up`") from error


async def get_json(
    http: httpx.AsyncClient, part: str, url: str, params: Mapping[str, str] | None = None, **options: Any
) -> Any:
    """The JSON response to GET `url`; raises AwayError if it is not JSON or if its status is 500 or above."""
    response = await get(http, part, url, params=params, **options)
    try:
        if response.status_code == 401:
            raise locked(part, url)
        return response.json() if response.status_code < 500 else _refuse(part, response)
    except ValueError as error:
        raise AwayError(f"The response of {part} at {url} is not JSON", fix="See `bin/phaseflow logs`") from error


def locked(part: str, url: str) -> AwayError:
    """The error for a part that rejects the portal's login."""
    return AwayError(
        f"{part} at {url} rejects the portal's password",
        fix=f"Give the portal the secret {part.lower()}_password that {part} was started with",
    )


def _refuse(part: str, response: httpx.Response) -> Any:
    raise AwayError(f"{part} responded {response.status_code} to {response.url.path}", fix="See `bin/phaseflow logs`")
