"""Decompression with a limit: a small file may unpack to any size."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Final

from phaseflow.errors import DataError

GZIP: Final = b"\x1f\x8b"
"""How a gzip file begins."""
MAX_BYTES: Final = 4 << 30
"""That a file may unpack to: it is held in memory as a whole, and twice the largest file that is downloaded leaves room for real data."""
CHUNK: Final = 1 << 20


def decompressed(content: bytes, limit: int = MAX_BYTES) -> bytes:
    """`content` as it was before gzip, where it is gzip's; other content as it is.

    Raises DataError when it unpacks to more than `limit` bytes, or is damaged. No more than the limit is ever unpacked.
    """
    if not content.startswith(GZIP):
        return content
    parts, size = [], 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while part := file.read(CHUNK):
                size += len(part)
                if size > limit:
                    raise DataError(
                        f"The gzip file of {len(content):,} bytes unpacks to more than {limit:,}",
                        fix="Check where it comes from, and split it if it is right",
                    )
                parts.append(part)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"The gzip file is damaged: {error}", fix="Get it again: it looks cut off") from error
    return b"".join(parts)
