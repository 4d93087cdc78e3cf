"""Images."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from phaseflow.errors import ContractError
from phaseflow.kinds.kind import ColumnSpec, Expr, JsonType, Kind, check_shape

DATA_URL: Final = re.compile(r"data:image/[a-z+]{1,10};base64,")
MAX_FILE_CHARACTERS: Final = 8 << 20
"""Maximum length of an image file in base64."""


class Image(Kind):
    """Pixels from 0 to 255 of `shape` (height, width, channels); 1 channel is grayscale, 3 are RGB."""

    name = "image"
    has_numeric_statistics = True
    dtype = "Binary"
    tensor = "UINT8"
    json_form = "a PNG or JPEG file as base64, alone or in a data: URL"

    def check(self, column: ColumnSpec) -> None:
        """Raise ContractError for a wrong shape or a nullable image."""
        check_shape(column, self.name)
        if column.nullable:
            raise ContractError(
                f"Column {column.name!r}: an image is nullable, but a model needs it for every prediction",
                fix="Remove nullable",
            )
        if len(column.shape) != 3 or column.shape[2] not in {1, 3} or min(column.shape) < 1:
            raise ContractError(
                f"Column {column.name!r}: shape is {column.shape!r}; allowed: (height, width, 1) for grayscale, "
                "(height, width, 3) for RGB",
                fix="Set the shape, for example (28, 28, 1)",
            )

    def cell_form(self, column: ColumnSpec) -> str:
        """The number of bytes of an image."""
        return f"an image of {' x '.join(map(str, column.shape))}, which has {column.size} bytes"

    def conform(self, cell: Expr, column: ColumnSpec) -> Expr:
        """Images of the right size; all others are null."""
        import polars as pl

        return pl.when(cell.bin.size() == column.size).then(cell)

    def json_type(self, column: ColumnSpec) -> JsonType:
        """A file in base64."""
        limits = {"min_length": 0 if column.nullable else 1, "max_length": MAX_FILE_CHARACTERS}
        return JsonType(base=str, limits=limits, nullable=column.nullable)

    def encode(self, value: Any, column: ColumnSpec) -> str:
        """A PNG file in base64."""
        import base64

        from phaseflow.kinds import image_files

        return base64.b64encode(image_files.encode(value, column.shape)).decode()

    def read(self, text: str) -> bytes:
        """The file in base64, alone or in a data: URL. Raises ValueError if it is no base64."""
        import base64

        return base64.b64decode(DATA_URL.sub("", text, count=1), validate=True)

    def statistics(self, column: ColumnSpec) -> tuple[str, ...]:
        """Mean, standard deviation and mean difference of neighbouring pixels."""
        return ("brightness", "contrast", "sharpness")

    def describe(self, value: bytes, column: ColumnSpec, vocabulary: Collection[str]) -> tuple[float, ...]:
        """Brightness (mean), contrast (standard deviation) and sharpness (mean difference of neighbours), from 0 to 1."""
        import numpy as np

        pixels = np.frombuffer(value, np.uint8).reshape(column.shape).astype(np.float32) / 255
        steps = [np.abs(np.diff(pixels, axis=axis)) for axis in (0, 1) if column.shape[axis] > 1]
        sharpness = float(np.mean([step.mean() for step in steps])) if steps else 0.0
        return float(pixels.mean()), float(pixels.std()), sharpness


IMAGE: Final = Image()
