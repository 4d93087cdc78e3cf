"""JSON over HTTP from a part of the platform that may be away, slow or wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from phaseflow.errors import PlatformError

HASTY: Final = httpx.Timeout(0.8)
"""Seconds. A page that has nothing else to show waits no longer for a part that hangs."""
PATIENT: Final = httpx.Timeout(4.0, connect=0.8)
"""Seconds. On a busy machine a part may be slow and well; a page shows what was known before, meanwhile."""


class AwayError(PlatformError):
    """A part of the platform does not answer."""


def client(timeout: httpx.Timeout) -> httpx.AsyncClient:
    """An HTTP client; proxies of the environment are not for parts of the platform."""
    return httpx.AsyncClient(timeout=timeout, trust_env=False, limits=httpx.Limits(max_connections=64))


async def get(http: httpx.AsyncClient, part: str, url: str, **options: Any) -> httpx.Response:
    """The answer to GET `url`; raises AwayError when `part` refuses the connection, hangs or breaks off."""
    try:
        return await http.get(url, **options)
    except httpx.TimeoutException as error:
        raise AwayError(f"{part} at {url} gave no answer in time", fix="See `bin/phaseflow status`") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise AwayError(f"{part} at {url} is away", fix="Start it with `bin/phaseflow up`") from error


async def get_json(
    http: httpx.AsyncClient, part: str, url: str, params: Mapping[str, str] | None = None, **options: Any
) -> Any:
    """The JSON of a GET; raises AwayError when there is none, also for a status of 500 and above."""
    response = await get(http, part, url, params=params, **options)
    try:
        if response.status_code == 401:
            raise locked(part, url)
        return response.json() if response.status_code < 500 else _refuse(part, response)
    except ValueError as error:
        raise AwayError(f"{part} at {url} answered no JSON", fix="See `bin/phaseflow logs`") from error


def locked(part: str, url: str) -> AwayError:
    """A part that does not take the portal's login."""
    return AwayError(
        f"{part} at {url} does not take the portal's password",
        fix=f"Give the portal the secret {part.lower()}_password that {part} was started with",
    )


def _refuse(part: str, response: httpx.Response) -> Any:
    raise AwayError(f"{part} at {response.url.path} answered {response.status_code}", fix="See `bin/phaseflow logs`")
