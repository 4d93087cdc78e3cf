"""Decompression: whole, damaged, and larger than allowed."""

from __future__ import annotations

import gzip
import re
import tracemalloc

import pytest

from phaseflow.errors import DataError
from phaseflow.toolkit.compressed import CHUNK, decompressed
from phaseflow.toolkit.delimited import Dialect, table


def test_gzip_is_unpacked_and_other_content_is_unchanged() -> None:
    assert decompressed(b"a,b\n") == b"a,b\n"
    assert decompressed(gzip.compress(b"a,b\n")) == b"a,b\n"
    assert decompressed(gzip.compress(b"a,") + gzip.compress(b"b\n")) == b"a,b\n"
    assert decompressed(gzip.compress(b"12345"), limit=5) == b"12345"


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(bytes(256 << 20), compresslevel=1)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            decompressed(bomb, limit=8 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(caught.value) == (
        f"The gzip file of {len(bomb):,} bytes unpacks to more than 8,388,608. Check where the file comes from; split it if its content is right."
    )
    assert peak < (8 << 20) + 8 * CHUNK


@pytest.mark.parametrize("damage", ["cut", "bits", "header"])
def test_a_damaged_file_is_an_error(damage: str) -> None:
    whole = bytearray(gzip.compress(b"a,b\n1,2\n" * 1000))
    if damage == "cut":
        del whole[-12:]
    elif damage == "bits":
        whole[15] ^= 0xFF
    else:
        whole[2] = 0
    with pytest.raises(
        DataError, match=re.escape("The gzip file is damaged: ") + r".*\. Download the file again: it looks truncated\."
    ):
        table(bytes(whole), Dialect())
