"""Rows that must be forgotten: the list of them, and the filter that every reader of a log passes its rows through.

A row may arrive after it was erased: it waited in a service's spool, a compaction was under way, a backup was restored. So each erasure
leaves a marker, `erased/<project>/<sha256 of the id>-<first characters of the id>`, and what reads or merges logs leaves out the rows that
a marker names. The marker does not hold the id; its first characters, of ids of the platform's own the time of the request, are what a
whole column is compared with before a digest is computed. `phaseflow clean` removes from the files what has arrived since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from phaseflow.errors import PermanentError
from phaseflow.store import Store

if TYPE_CHECKING:
    import polars as pl

FOLDER: Final = "erased"
FORWARD: Final = "erased.json"
"""Stays for ever in the folder of a snapshot that was rewritten: it names the new one."""
CHARACTERS: Final = 12
"""Of an id, in its marker."""
MAX_FORWARDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Erasures:
    """Erased rows of a project."""

    digests: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()
    since: float = 0.0
    """When the first of them was erased, in unix seconds."""

    def __bool__(self) -> bool:
        return bool(self.digests)

    def __contains__(self, identity: str) -> bool:
        return identity[:CHARACTERS] in self.prefixes and digest(identity) in self.digests

    def mask(self, identities: pl.Series) -> pl.Series:
        """Whether each of the ids [N] was erased (Boolean; false of a missing one)."""
        import polars as pl  # noqa: PLC0415  # who only asks under which name a snapshot is has none

        suspects = identities.str.slice(0, CHARACTERS).is_in(list(self.prefixes)).fill_null(value=False)
        if not suspects.any():
            return suspects
        pairs = zip(suspects, identities, strict=True)
        return pl.Series([suspect and identity in self for suspect, identity in pairs], dtype=pl.Boolean)

    def without(self, rows: pl.DataFrame, column: str = "id") -> pl.DataFrame:
        """Rows [N] less those that were erased, by the ids in `column`."""
        if not self or rows.is_empty() or column not in rows.columns:
            return rows
        mask = self.mask(rows[column])
        return rows.filter(~mask) if mask.any() else rows


def digest(identity: str) -> str:
    """The SHA-256 of an id, 64 hexadecimal digits."""
    return hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()


def of(identities: Iterable[str], since: float = 0.0) -> Erasures:
    """The erasures of ids."""
    chosen = list(identities)
    return Erasures(frozenset(map(digest, chosen)), frozenset(identity[:CHARACTERS] for identity in chosen), since)


def record(store: Store, project: str, identity: str, now: datetime) -> str:
    """Write the marker of an erased row and return its key; the first one stays, with its time."""
    prefix = quote(identity[:CHARACTERS].encode(errors="surrogatepass"), safe="")
    key = f"{FOLDER}/{project}/{digest(identity)}-{prefix}"
    if not store.exists(key):
        store.write(key, json.dumps({"format": 1, "time": now.isoformat()}).encode())
    return key


def erasures(store: Store, project: str) -> Erasures:
    """All erasures of a project, by one listing."""
    digests, prefixes, since = set(), set(), []
    for entry in store.entries(f"{FOLDER}/{project}"):
        name, _, prefix = entry.key.rsplit("/", 1)[-1].partition("-")
        digests.add(name)
        prefixes.add(unquote(prefix, errors="surrogatepass"))
        since.append(entry.modified)
    return Erasures(frozenset(digests), frozenset(prefixes), min(since, default=0.0))


def current(store: Store, project: str, snapshot: str) -> str:
    """The name under which the rows of `snapshot` are now: another where rows of it were erased.

    Raises PermanentError where the names lead in a circle, which no erasure makes.
    """
    name = snapshot
    for _ in range(MAX_FORWARDS):
        if store.exists(f"datasets/{project}/{name}/manifest.json"):
            return name
        try:
            forward = json.loads(store.read(f"datasets/{project}/{name}/{FORWARD}"))
        except FileNotFoundError:
            return name
        name = str(forward["erased_into"])
    raise PermanentError(
        f"The snapshot {snapshot} of {project} leads through {MAX_FORWARDS} erasures in a circle",
        fix=f"Correct datasets/{project}/*/{FORWARD} in the store {store.root}",
    )
