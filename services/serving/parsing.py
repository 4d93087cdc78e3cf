"""Parses the rows of a request's body: JSON, an image file, or a form with an image file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from phaseflow.predictor import Row
from services.serving import requests
from services.serving.requests import MAX_BYTES, Reader, RefusedError

IMAGES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""First bytes of a PNG and of a JPEG; the body is recognized by these, with any accepted content type."""
MAX_PARTS: Final = 16
"""Of a form: the file, and the fields that an HTML form sends with it."""
FORM: Final = "Send the image file alone, or as the only file of a form: `curl -F image=@picture.png`."


def rows_of(
    reader: Reader, body: bytes, content_type: bytes, check: Callable[[], None] = requests.no_check
) -> list[Row]:
    """Parse the rows; raises RefusedError. `check` is called before each image and may raise."""
    if body.startswith(IMAGES):
        return requests.row_of_image(reader, body)
    if content_type.startswith(b"multipart/form-data"):
        return requests.row_of_image(reader, _file(body, content_type))
    return requests.rows_of(reader, body, check)


def _file(body: bytes, content_type: bytes) -> bytes:
    """The only file of a form; raises RefusedError."""
    files: list[bytes] = []
    parts = 0

    def count(_part: Any) -> None:
        # Checked here and not at the end, as parsing thousands of small parts takes seconds.
        nonlocal parts
        parts += 1
        if parts > MAX_PARTS:
            raise RefusedError(f"The form holds more than {MAX_PARTS} parts", FORM)

    def keep(file: Any) -> None:
        count(file)
        file.file_object.seek(0)
        files.append(file.file_object.read())

    _, options = parse_options_header(content_type)
    try:
        form = FormParser(
            "multipart/form-data",
            count,
            keep,
            boundary=options.get(b"boundary", b""),
            config={"MAX_MEMORY_FILE_SIZE": MAX_BYTES},  # keeps every file in memory
        )
        form.write(body)
        form.finalize()
    except FormParserError as error:
        raise RefusedError(f"The form can't be read: {error!s:.200}", FORM) from error
    if len(files) != 1:
        raise RefusedError(f"The form holds {len(files)} files; allowed: 1", FORM)
    return files[0]
