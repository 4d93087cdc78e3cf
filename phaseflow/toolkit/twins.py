"""Twins: rows that differ only in how they were written or photographed. A model must not be judged on the twin of a row that it learned."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from phaseflow.contract import Column, Project
from phaseflow.toolkit.holdout import hashed, identity, lines, normalised

DIGITS: Final = 6
"""Significant digits by which two numbers are told apart; a 32-bit float carries seven."""
SIDE: Final = 8
"""An image's hash compares the neighbours of a grid of `SIDE` rows and columns."""
DISTANCE: Final = 4
"""Bits of `2 * SIDE * SIDE` by which two images' hashes may differ."""
ALIKE: Final = 0.998
"""Correlation of two images' pixels from which they are one picture in another light; two digits by one hand reach 0.997."""
FLAT: Final = 4.0
"""Levels of grey, of 256, by which two neighbours are no different: noise of a sensor, blocks of JPEG."""


def twin_keys(rows: pl.DataFrame, project: Project) -> pl.Series:
    """`_twin` of rows [N]: SHA-256 of the columns by which rows are told apart, each normalised.

    Numbers are rounded to `DIGITS` significant digits; of texts case, blanks and punctuation are made one, of words case and blanks.
    Images are compared by every pixel here; `similar_images` finds those that resemble each other.
    """
    return hashed(lines(rows.select([_plain(column) for column in identity(project)]))).rename("_twin")


def _plain(column: Column) -> pl.Expr:
    cell = pl.col(column.name)
    if column.kind == "number":
        return cell.cast(pl.Float64).round_sig_figs(DIGITS)
    return normalised(cell, column.kind).alias(column.name) if column.kind in {"text", "category"} else cell


def twins(train: pl.DataFrame, holdout: pl.DataFrame, project: Project) -> int:
    """How many rows of the holdout [M] have a twin among the train rows [N].

    Twins have equal `twin_keys`; of a project whose rows are told apart by an image alone also those that look alike. Time: that of
    sorting N + M hashes; of images see `similar_images`.
    """
    found = np.asarray(twin_keys(holdout, project).is_in(twin_keys(train, project).to_list()))
    columns = identity(project)
    if len(columns) == 1 and columns[0].kind == "image":
        name, shape = columns[0].name, columns[0].shape
        found |= similar_images(grey(train[name], shape), grey(holdout[name], shape))
    return int(found.sum())


def grey(images: pl.Series, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Images of `shape` (height, width, channels) as levels of grey [N, H, W]."""
    pixels = np.frombuffer(b"".join(images.to_list()), np.uint8).reshape(-1, *shape)
    return pixels[..., 0] if shape[-1] == 1 else pixels.mean(axis=-1, dtype=np.float32).round().astype(np.uint8)


def fingerprints(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Perceptual hashes of grey images [N, H, W], as bits [N, 2 * SIDE * SIDE].

    The difference hash (dHash, Krawetz 2013, https://www.hackerfactor.com/blog/?/archives/529-Kind-of-Like-That.html): whether each
    cell of a small image is brighter than its left neighbour. A second half says whether it is darker, so that an even background
    is neither, and of the two halves the smaller stands first, so that a negative has the hash of its image.
    """
    slope = np.diff(_shrunk(images.astype(np.float32)), axis=2).reshape(len(images), -1)
    up, down = slope > FLAT, slope < -FLAT
    packed = zip(np.packbits(up, axis=1), np.packbits(down, axis=1), strict=True)
    ordered = np.array([one.tobytes() <= other.tobytes() for one, other in packed], bool).reshape(-1, 1)
    return np.concatenate([np.where(ordered, up, down), np.where(ordered, down, up)], axis=1).astype(np.uint8)


def _shrunk(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Images [N, H, W] as [N, SIDE, SIDE + 1]: means of equal areas, from the integral along each axis."""
    for axis, size in ((1, SIDE), (2, SIDE + 1)):
        length = images.shape[axis]
        integral = np.concatenate([np.zeros_like(images.take([0], axis)), np.cumsum(images, axis)], axis)
        edges = np.linspace(0, length, size + 1)
        low = np.minimum(edges.astype(int), length - 1)
        share = (edges - low).astype(np.float32).reshape([-1 if place == axis else 1 for place in range(3)])
        at = integral.take(low, axis) * (1 - share) + integral.take(low + 1, axis) * share
        images = np.diff(at, axis=axis) * np.float32(size / length)
    return images


def similar_images(
    train: npt.NDArray[np.uint8], holdout: npt.NDArray[np.uint8], distance: int = DISTANCE
) -> npt.NDArray[np.bool_]:
    """Of each grey image of the holdout [M, H, W] whether a train image [N, H, W] is the same picture, perhaps in another light.

    Candidates are images whose hashes differ in at most `distance` bits. Two such hashes agree in one of `distance + 1` parts at
    least (Manku, Jain and Das Sarma, WWW 2007), so that only those that share a part are compared: time is that of bucketing N + M
    hashes and of the pairs within a bucket, instead of N * M. Of candidates the pixels decide, by their correlation.
    """
    same = np.zeros(len(holdout), bool)
    if not len(train) or not len(holdout):
        return same
    known, asked = fingerprints(train), fingerprints(holdout)
    packed, packed_asked = np.packbits(known, axis=1), np.packbits(asked, axis=1)
    # Bits in any order but the image's: a part of neighbours would be empty of most digits.
    order = np.random.default_rng(0).permutation(known.shape[1])
    for part in np.array_split(order, distance + 1):
        buckets: dict[bytes, list[int]] = {}
        for number, bits in enumerate(np.packbits(known[:, part], axis=1)):
            buckets.setdefault(bits.tobytes(), []).append(number)
        for place in np.flatnonzero(~same):
            bucket = buckets.get(np.packbits(asked[place, part]).tobytes(), [])
            differing = np.bitwise_count(packed[bucket] ^ packed_asked[place]).sum(axis=1)
            near = np.array(bucket, int)[differing <= distance]
            same[place] = near.size > 0 and bool((np.abs(_correlations(holdout[place], train[near])) >= ALIKE).any())
    return same


def _correlations(one: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Pearson's correlation of an image [H, W] with each of others [K, H, W]; two even images agree, an even one with no other."""
    left = one.reshape(-1) - one.mean()
    right = others.reshape(len(others), -1) - others.mean(axis=(1, 2)).reshape(-1, 1)
    norms = np.linalg.norm(left) * np.linalg.norm(right, axis=1)
    even = (np.linalg.norm(left) == 0) & (np.linalg.norm(right, axis=1) == 0)
    return np.where(even, 1.0, right @ left / np.maximum(norms, 1e-12))
