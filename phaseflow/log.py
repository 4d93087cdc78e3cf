"""Messages of a service, on stderr: `logging` never raises, whereas `print` does when stderr is a broken pipe."""

from __future__ import annotations

import logging
import sys
from typing import Final

logger: Final = logging.getLogger("phaseflow")


class _Lower(logging.Formatter):
    """`warning: message`; information has no prefix."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def configure() -> None:
    """Send messages of the level `info` and above to stderr; again changes nothing."""
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Lower())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
