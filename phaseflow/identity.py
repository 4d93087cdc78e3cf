"""Who sends a request, as the reverse proxy says where the platform has one login.

The reverse proxy asks for the login, removes these headers from what a client sends, and adds its own. The secret `identity_secret` shows that they
are the proxy's: another pod that reaches a component does not know it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

SECRET: Final = "identity_secret"  # noqa: S105  # the secret's name
PROOF: Final = b"x-phaseflow-identity"
USER: Final = b"x-phaseflow-user"
ROLE: Final = b"x-phaseflow-role"
HEADERS: Final = frozenset({PROOF, USER, ROLE})


class Role(IntEnum):
    """What a person may do. Each role may do everything that those before it may."""

    VIEWER = 1
    """Read every page."""
    OPERATOR = 2
    """Start and end runs, promote models, silence alerts."""
    ADMIN = 3
    """Delete and configure."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A person, or a program with the reverse proxy's password."""

    user: str
    role: Role


def of(headers: Iterable[tuple[bytes, bytes]], secret: str) -> Identity | None:
    """The sender of a request by its headers, whose names are in lower case. None if the reverse proxy does not vouch for it."""
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in HEADERS:
            if name in values:  # the proxy sends each once
                return None
            values[name] = value
    if not secret or not hmac.compare_digest(values.get(PROOF, b""), secret.encode()):
        return None
    user = values.get(USER, b"").decode("utf-8", "replace")
    role = {role.name.lower().encode(): role for role in Role}.get(values.get(ROLE, b""))
    return Identity(user, role) if user and role else None
