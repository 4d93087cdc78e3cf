"""Conversion of image files to pixels and back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from phaseflow import DataError
from phaseflow.toolkit import images


@settings(deadline=None)  # a busy machine may pause for long
@given(st.binary(min_size=60, max_size=60), st.sampled_from([(4, 5, 3), (10, 6, 1), (20, 1, 3)]))
def test_encoding_and_decoding_returns_the_same_pixels(pixels: bytes, shape: tuple[int, int, int]) -> None:
    assert images.decode(images.encode(pixels, shape), shape) == pixels


def saved(picture: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **how)
    return content.getvalue()


def test_colours_become_grey_and_sizes_are_stretched() -> None:
    red = Image.new("RGB", (40, 20), (255, 0, 0))
    grey = np.frombuffer(images.decode(saved(red), (2, 2, 1)), np.uint8)
    assert grey.tolist() == [76] * 4  # ITU-R 601: 0.299 of red
    assert np.frombuffer(images.decode(saved(red), (2, 2, 3)), np.uint8).tolist() == [255, 0, 0] * 4


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_are_black(mode: str) -> None:
    assert images.decode(saved(Image.new(mode, (3, 3), tuple([255] * (len(mode) - 1) + [0]))), (1, 1, 1)) == b"\x00"


def test_the_exif_orientation_is_applied() -> None:
    picture = Image.new("L", (2, 1))
    picture.putpixel((0, 0), 255)
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    assert images.decode(saved(picture, exif=turned), (1, 2, 1)) == b"\x00\xff"


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", saved(Image.new("L", (9, 9)), "GIF"), saved(Image.new("L", (90, 90)))[:-40]]
)
def test_other_formats_and_truncated_files_are_rejected(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^The image can't be read: .*\. Send a whole PNG or JPEG file\.$"):
        images.decode(content, (2, 2, 1))


def test_an_image_with_too_many_pixels_is_rejected_before_decoding() -> None:
    with pytest.raises(DataError, match=r"^The image has more than 16 million pixels\. Send a smaller one\.$"):
        images.decode(saved(Image.new("1", (8000, 8000))), (2, 2, 1))


@pytest.mark.parametrize("size", [(8193, 1), (1, 8193), (16_000_000, 1)])
def test_an_image_with_a_long_side_is_rejected_before_decoding(size: tuple[int, int]) -> None:
    content = saved(Image.new("1", size))
    fix = rf"^The image is {size[0]} x {size[1]} pixels; allowed: 8192 a side\. Send a smaller one\.$"
    for read in (images.size, lambda content: images.decode(content, (8, 8, 1))):
        with pytest.raises(DataError, match=fix):
            read(content)


def test_an_image_with_the_maximum_side_is_scaled() -> None:
    assert images.decode(saved(Image.new("L", (8192, 1), 255)), (2, 2, 1)) == b"\xff" * 4


def test_a_jpeg_with_a_thousand_scans_is_rejected_before_decoding() -> None:
    """Each scan takes a few bytes and decodes every pixel again."""
    content = saved(Image.new("L", (64, 64), 200), "JPEG", progressive=True)
    assert images.size(content) == (64, 64)
    assert len(images.decode(content, (8, 8, 1))) == 64
    last = content.rindex(images.SCAN)
    bomb = content[:last] + content[last:-2] * 1000 + content[-2:]
    with pytest.raises(DataError, match=r"more than 100 scans\. Save it as a baseline JPEG, or as a PNG\.$"):
        images.decode(bomb, (8, 8, 1))


def test_size_reads_the_header() -> None:
    assert images.size(saved(Image.new("L", (9, 5)))) == (9, 5)
    with pytest.raises(DataError, match=r"^The image can't be read: no PNG or JPEG\. "):
        images.size(b"plain text")
