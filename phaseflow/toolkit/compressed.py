"""Decompression with a size limit, because a small file may unpack to any size."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Final

from phaseflow.errors import DataError

GZIP: Final = b"\x1f\x8b"
"""The first bytes of a gzip file."""
MAX_BYTES: Final = 4 << 30
"""Maximum unpacked size of a file, which is held in memory: twice the maximum size of a download."""
CHUNK: Final = 1 << 20


def decompressed(content: bytes, limit: int = MAX_BYTES) -> bytes:
    """`content` unpacked if it is a gzip file, else unchanged.

    Raises DataError if the file is damaged or unpacks to more than `limit` bytes. Unpacking stops at the limit.
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
                        fix="Check where the file comes from; split it if its content is right",
                    )
                parts.append(part)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"The gzip file is damaged: {error}", fix="Download the file again: it looks truncated"
        ) from error
    return b"".join(parts)
