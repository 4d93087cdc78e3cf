"""Logins of parts that have a single user."""

from __future__ import annotations

from collections.abc import Generator

import httpx

from phaseflow.settings import Settings

PROXY_USER = "admin"


class Login(httpx.Auth):
    """Sends the user and password of a part with each request. They are read each time, because they may change."""

    def __init__(self, settings: Settings, part: str) -> None:
        self._settings, self._part = settings, part

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header, if there is a login."""
        login = of(self._settings, self._part)
        yield from (httpx.BasicAuth(*login) if login else httpx.Auth()).auth_flow(request)


def of(settings: Settings, part: str) -> tuple[str, str] | None:
    """User and password for `part` ("prometheus", "alertmanager"). None if there are none.

    An address at the reverse proxy needs the proxy's login, because the proxy adds that of the part.
    """
    address: str = getattr(settings, f"{part}_url")
    at_proxy = settings.public_url and address.startswith(settings.public_url)
    return of_proxy(settings) if at_proxy else settings.login(part)


def of_proxy(settings: Settings) -> tuple[str, str] | None:
    """User and password of the reverse proxy. None if there is no proxy."""
    return (PROXY_USER, settings.secret("proxy_password")) if settings.public_url else None
