"""Personal columns: the keyed hash that replaces an id or an open category in everything that the platform stores.

The hash is HMAC-SHA-256 (RFC 2104) of project, column and value with the secret `personal_key`. Equal values have equal
hashes, so that a model can learn from them. Nobody can test values without the key, and the hashes of a person differ
between projects. This is pseudonymisation, not anonymisation (GDPR, article 4 (5)): with the key and a value, its rows
can be found.
"""

from __future__ import annotations

import hmac
from typing import Final

from phaseflow.contract import Column, Project
from phaseflow.settings import Settings

SECRET: Final = "personal_key"  # noqa: S105  # the name of the secret
DIGITS: Final = 32
"""Hexadecimal digits of a hash. With 128 bits, a collision among 10^15 values is unlikely."""


class Pseudonyms:
    """Computes the keyed hashes of the columns of a project."""

    def __init__(self, project: Project, key: str) -> None:
        self._key = key.encode()
        self._prefixes = {column.name: f"{project.name}\x1f{column.name}\x1f".encode() for column in hashed(project)}

    def __call__(self, column: str, value: str | None) -> str | None:
        """Hash a value. None and the empty string stay unchanged. Raises KeyError if the column is not hashed."""
        if not value:
            return value
        message = self._prefixes[column] + value.encode(errors="surrogatepass")
        return hmac.digest(self._key, message, "sha256").hex()[:DIGITS]


def hashed(project: Project) -> tuple[Column, ...]:
    """Features whose values are replaced by their hash."""
    return tuple(column for column in project.schema.features if column.hashed)


def omitted(project: Project) -> tuple[str, ...]:
    """Names of the features that the log, the report and the example omit."""
    return tuple(column.name for column in project.schema.features if column.omitted)


def pseudonyms(project: Project, settings: Settings) -> Pseudonyms | None:
    """Create the `Pseudonyms` of a project. Without hashed columns, returns None and does not read the secret.

    Raises PlatformError if the secret is missing.
    """
    return Pseudonyms(project, settings.secret(SECRET)) if hashed(project) else None
