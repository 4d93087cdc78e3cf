"""Erasure of rows: the erased ids of a project, and the filter that every reader of a log applies.

A row may arrive after it was erased, from the spool of a service, a running compaction or a restored backup. Therefore
each erasure leaves a marker `erased/<project>/<sha256 of the id>-<first characters of the id>`, and everything that
reads or merges logs omits the rows of the markers. A marker does not contain the id. The first characters, which are
the time of the request in ids of the platform, prefilter a whole column before any digest is computed. `phaseflow
clean` removes rows that arrived later from the files.
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
"""Stays permanently in the folder of a rewritten snapshot and contains the name of the new snapshot."""
CHARACTERS: Final = 12
"""Number of characters of an id in its marker."""
MAX_FORWARDS: Final = 1000


@dataclass(frozen=True, slots=True)
class Erasures:
    """The erased rows of a project."""

    digests: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()
    since: float = 0.0
    """Time of the first erasure in Unix seconds."""

    def __bool__(self) -> bool:
        return bool(self.digests)

    def __contains__(self, identity: str) -> bool:
        return identity[:CHARACTERS] in self.prefixes and digest(identity) in self.digests

    def mask(self, identities: pl.Series) -> pl.Series:
        """Whether each id [N] was erased, as a Boolean series. Missing ids are false."""
        import polars as pl  # noqa: PLC0415  # not installed in environments that only call `current`

        suspects = identities.str.slice(0, CHARACTERS).is_in(list(self.prefixes)).fill_null(value=False)
        if not suspects.any():
            return suspects
        pairs = zip(suspects, identities, strict=True)
        return pl.Series([suspect and identity in self for suspect, identity in pairs], dtype=pl.Boolean)

    def without(self, rows: pl.DataFrame, column: str = "id") -> pl.DataFrame:
        """Remove the erased rows from rows [N], by the ids in `column`."""
        if not self or rows.is_empty() or column not in rows.columns:
            return rows
        mask = self.mask(rows[column])
        return rows.filter(~mask) if mask.any() else rows


def digest(identity: str) -> str:
    """The SHA-256 of an id, 64 hexadecimal digits."""
    return hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()


def of(identities: Iterable[str], since: float = 0.0) -> Erasures:
    """Create the erasures of ids."""
    ids = list(identities)
    return Erasures(frozenset(map(digest, ids)), frozenset(identity[:CHARACTERS] for identity in ids), since)


def record(store: Store, project: str, identity: str, now: datetime) -> str:
    """Write the marker of an erased row and return its key. An existing marker keeps its time."""
    prefix = quote(identity[:CHARACTERS].encode(errors="surrogatepass"), safe="")
    key = f"{FOLDER}/{project}/{digest(identity)}-{prefix}"
    if not store.exists(key):
        store.write(key, json.dumps({"format": 1, "time": now.isoformat()}).encode())
    return key


def erasures(store: Store, project: str) -> Erasures:
    """Read all erasures of a project, with a single listing."""
    digests, prefixes, times = set(), set(), []
    for entry in store.entries(f"{FOLDER}/{project}"):
        name, _, prefix = entry.key.rsplit("/", 1)[-1].partition("-")
        digests.add(name)
        prefixes.add(unquote(prefix, errors="surrogatepass"))
        times.append(entry.modified)
    return Erasures(frozenset(digests), frozenset(prefixes), min(times, default=0.0))


def current(store: Store, project: str, snapshot: str) -> str:
    """The current name of a snapshot, which changes if rows of it are erased.

    Raises PermanentError if the forwards form a cycle, which erasures never create.
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
        f"The forwards of the snapshot {snapshot} of {project} form a cycle (more than {MAX_FORWARDS} erasures)",
        fix=f"Correct datasets/{project}/*/{FORWARD} in the store {store.root}",
    )
