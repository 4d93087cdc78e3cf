"""Logging of every process: one configuration, with lines for people or JSON lines for a log collector.

Modules log by `logger`. A program calls `configure` once. Unlike `print`, `logging` does not raise an exception if stderr
is a broken pipe.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

logger: Final = logging.getLogger("phaseflow")

FORMATS: Final = ("text", "json")
"""Values of the setting `log_format`."""
LIBRARIES: Final = ("bentoml", "circus", "kfp", "mlflow", "uvicorn", "uvicorn.access", "uvicorn.error")
"""Loggers of libraries that come with their own handlers."""


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        """The stream of the next record."""
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """Ignore other streams."""


class TextFormatter(logging.Formatter):
    """Formats a record as `2026-11-27T17:39:11.123Z WARNING serving: message`, with a traceback below it."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return f"{_time(record)} {record.levelname} {self._component}: {super().format(record)}"


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object on one line: `time`, `level`, `component`, `logger`, `message`, `exception`."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        content: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "component": self._component,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content)


def configure(component: str, log_format: str = "text") -> None:
    """Log to stderr: our records from the level `info`, those of libraries and Python's warnings from `warning`.

    A later call replaces the component and the format.
    """
    handler = _Handler()
    handler.setFormatter(JsonFormatter(component) if log_format == "json" else TextFormatter(component))
    root = logging.getLogger()
    # Libraries add handlers of exactly this class to the root; those of pytest are subclasses.
    others = (other for other in root.handlers if type(other) is not logging.StreamHandler)
    root.handlers = [*(other for other in others if not isinstance(other, _Handler)), handler]
    logger.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


def _time(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
