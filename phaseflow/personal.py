"""Personal columns: the keyed hash that takes the place of an id or an open category, wherever the platform keeps it.

HMAC-SHA-256 (RFC 2104) under the secret `personal_key`, of project, column and value: equal values have equal hashes, so that a model can
learn from them; nobody without the key can try values out; and two projects' hashes of a person are not alike. It is pseudonymisation, not
anonymisation (GDPR, article 4 (5)): whoever has the key and a value finds its rows.
"""

from __future__ import annotations

import hmac
from typing import Final

from phaseflow.contract import Column, Project
from phaseflow.settings import Settings

SECRET: Final = "personal_key"  # noqa: S105  # the secret's name
DIGITS: Final = 32
"""Hexadecimal digits of a hash: 128 bits, so that no two of 10^15 values are likely to meet."""


class Pseudonyms:
    """The keyed hashes of one project's columns."""

    def __init__(self, project: Project, key: str) -> None:
        self._key = key.encode()
        self._prefixes = {column.name: f"{project.name}\x1f{column.name}\x1f".encode() for column in hashed(project)}

    def __call__(self, column: str, value: str | None) -> str | None:
        """The hash of a value; a missing one, None or the empty text, as it is. Raises KeyError for a column that is not hashed."""
        if not value:
            return value
        message = self._prefixes[column] + value.encode(errors="surrogatepass")
        return hmac.digest(self._key, message, "sha256").hex()[:DIGITS]


def hashed(project: Project) -> tuple[Column, ...]:
    """Features that are replaced by their hash."""
    return tuple(column for column in project.schema.features if column.hashed)


def omitted(project: Project) -> tuple[str, ...]:
    """Names of the features that the log, the report and the example leave out."""
    return tuple(column.name for column in project.schema.features if column.omitted)


def pseudonyms(project: Project, settings: Settings) -> Pseudonyms | None:
    """What hashes the project's personal columns; None where it has none, and then no secret is read.

    Raises PlatformError when the secret is missing.
    """
    return Pseudonyms(project, settings.secret(SECRET)) if hashed(project) else None
