"""Near-duplicates (twins): rows that differ only in spelling or lighting.

A model must not be evaluated on the twin of a row that it was trained on.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from phaseflow import kinds
from phaseflow.contract import Project
from phaseflow.toolkit.holdout import hash_texts, identity, row_texts

SIDE: Final = 8
"""An image's hash compares neighbouring cells of a grid with `SIDE` rows and columns."""
DISTANCE: Final = 4
"""Maximum number of different bits, of `2 * SIDE * SIDE`, between the hashes of similar images."""
ALIKE: Final = 0.998
"""Minimum correlation of the pixels of the same image in different light; two digits by the same writer reach 0.997."""
FLAT: Final = 4.0
"""Difference of two neighbouring cells, of 256 grey levels, that counts as none: sensor noise or JPEG blocks."""


def twin_keys(rows: pl.DataFrame, project: Project) -> pl.Series:
    """`_twin` of rows [N]: SHA-256 of the normalised columns that identify a row.

    `simplify` of each kind rounds numbers and normalises the spelling of texts and categories. Images must be equal in every pixel; `similar_images` finds similar ones.
    """
    cells = [kinds.of(column).simplify(pl.col(column.name)).alias(column.name) for column in identity(project)]
    return hash_texts(row_texts(rows.select(cells))).rename("_twin")


def twins(train: pl.DataFrame, holdout: pl.DataFrame, project: Project) -> int:
    """The number of holdout rows [M] that have a twin among the train rows [N].

    Twins have equal `twin_keys`; if a single image identifies a row, similar images are twins too. The time is that of
    sorting N + M hashes; for images see `similar_images`.
    """
    has_twin = np.asarray(twin_keys(holdout, project).is_in(twin_keys(train, project).to_list()))
    columns = identity(project)
    if len(columns) == 1 and columns[0].kind == "image":
        name, shape = columns[0].name, columns[0].shape
        has_twin |= similar_images(grey(train[name], shape), grey(holdout[name], shape))
    return int(has_twin.sum())


def grey(images: pl.Series, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Images of `shape` (height, width, channels) as grey levels [N, H, W]."""
    pixels = np.frombuffer(b"".join(images.to_list()), np.uint8).reshape(-1, *shape)
    return pixels[..., 0] if shape[-1] == 1 else pixels.mean(axis=-1, dtype=np.float32).round().astype(np.uint8)


def fingerprints(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Perceptual hashes of grey images [N, H, W], as bits [N, 2 * SIDE * SIDE].

    The first half is the difference hash (dHash, Krawetz 2013,
    https://www.hackerfactor.com/blog/?/archives/529-Kind-of-Like-That.html): whether each cell of a small image is
    brighter than its left neighbour. The second half is whether it is darker, so that a uniform background is neither.
    The smaller half comes first, so that a negative has the same hash as its image.
    """
    slope = np.diff(_shrunk(images.astype(np.float32)), axis=2).reshape(len(images), -1)
    up, down = slope > FLAT, slope < -FLAT
    packed = zip(np.packbits(up, axis=1), np.packbits(down, axis=1), strict=True)
    ordered = np.array([brighter.tobytes() <= darker.tobytes() for brighter, darker in packed], bool).reshape(-1, 1)
    return np.concatenate([np.where(ordered, up, down), np.where(ordered, down, up)], axis=1).astype(np.uint8)


def _shrunk(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Images [N, H, W] shrunk to [N, SIDE, SIDE + 1]: means of equal areas, from the integral along each axis."""
    for axis, size in ((1, SIDE), (2, SIDE + 1)):
        length = images.shape[axis]
        integral = np.concatenate([np.zeros_like(images.take([0], axis)), np.cumsum(images, axis)], axis)
        edges = np.linspace(0, length, size + 1)
        low = np.minimum(edges.astype(int), length - 1)
        share = (edges - low).astype(np.float32).reshape([-1 if dimension == axis else 1 for dimension in range(3)])
        interpolated = integral.take(low, axis) * (1 - share) + integral.take(low + 1, axis) * share
        images = np.diff(interpolated, axis=axis) * np.float32(size / length)
    return images


def similar_images(
    train: npt.NDArray[np.uint8], holdout: npt.NDArray[np.uint8], distance: int = DISTANCE
) -> npt.NDArray[np.bool_]:
    """For each grey holdout image [M, H, W], whether a train image [N, H, W] is the same, perhaps in another light.

    Candidates are images whose hashes differ in at most `distance` bits. Two such hashes agree in at least one of
    `distance + 1` parts (Manku, Jain and Das Sarma, WWW 2007), so only hashes that share a part are compared: the time
    is that of bucketing N + M hashes and of the pairs within a bucket, instead of N * M. The correlation of their
    pixels decides on candidates.
    """
    same = np.zeros(len(holdout), bool)
    if not len(train) or not len(holdout):
        return same
    train_hashes, holdout_hashes = fingerprints(train), fingerprints(holdout)
    packed_train, packed_holdout = np.packbits(train_hashes, axis=1), np.packbits(holdout_hashes, axis=1)
    # Shuffle the bits: a part of neighbouring bits would be empty for most digits.
    order = np.random.default_rng(0).permutation(train_hashes.shape[1])
    for part in np.array_split(order, distance + 1):
        buckets: dict[bytes, list[int]] = {}
        for number, bits in enumerate(np.packbits(train_hashes[:, part], axis=1)):
            buckets.setdefault(bits.tobytes(), []).append(number)
        for index in np.flatnonzero(~same):
            bucket = buckets.get(np.packbits(holdout_hashes[index, part]).tobytes(), [])
            differing = np.bitwise_count(packed_train[bucket] ^ packed_holdout[index]).sum(axis=1)
            near = np.array(bucket, int)[differing <= distance]
            same[index] = near.size > 0 and bool((np.abs(_correlations(holdout[index], train[near])) >= ALIKE).any())
    return same


def _correlations(image: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Pearson correlation of an image [H, W] with each of `others` [K, H, W].

    1 for two uniform images, 0 if only one is uniform.
    """
    left = image.reshape(-1) - image.mean()
    right = others.reshape(len(others), -1) - others.mean(axis=(1, 2)).reshape(-1, 1)
    norms = np.linalg.norm(left) * np.linalg.norm(right, axis=1)
    even = (np.linalg.norm(left) == 0) & (np.linalg.norm(right, axis=1) == 0)
    return np.where(even, 1.0, right @ left / np.maximum(norms, 1e-12))
