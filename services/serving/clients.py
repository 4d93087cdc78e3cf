"""Identifies the client that sends a label by the named tokens of the secret `feedback_tokens`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from phaseflow import access
from phaseflow.errors import PlatformError
from phaseflow.settings import Settings
from services.serving.requests import RefusedError

ANONYMOUS: Final = ""
SECRET: Final = "feedback_tokens"  # noqa: S105  # the name of the secret


def client_of(scope: Any, settings: Settings) -> str:
    """The name of the request's client; `ANONYMOUS` if the request has no token and needs none.

    Raises RefusedError with 401 if the token is missing or wrong, and with 503 if the tokens can't be read.
    """
    has_token = any(name == b"authorization" and value[:7].lower() == b"bearer " for name, value in scope["headers"])
    if not has_token and not settings.feedback_tokens:
        return ANONYMOUS
    name = access.holder_of(scope, _tokens(settings))
    if name is None:
        raise RefusedError(
            "The token is missing or wrong",
            f"Send `Authorization: Bearer` with a token of the secret {SECRET}.",
            status=401,
        )
    return name


def _tokens(settings: Settings) -> Mapping[str, str]:
    """Read the tokens on each request, so that they can be replaced while the service runs."""
    try:
        return access.named_tokens(settings.secret(SECRET))
    except PlatformError:  # without the secret nobody has a token
        return {}
    except (ValueError, OSError) as error:
        raise RefusedError(
            f"The secret {SECRET} can't be read: {error}", "Correct the file on the service.", status=503
        ) from error
