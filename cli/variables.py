"""Names of the `PHASEFLOW_*` variables, to warn about one that nothing reads."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Final

from phaseflow.errors import suggestion
from phaseflow.settings import Settings

PREFIX: Final = "PHASEFLOW_"
SELECTION: Final = ("PHASEFLOW_CONTEXT", "PHASEFLOW_NAMESPACE", "PHASEFLOW_RELEASE")
"""Defaults of the options before the command."""
SECRET_FILE: Final = re.compile(r"PHASEFLOW_SECRET_[A-Z0-9_]+_FILE")
INTERNAL: Final = frozenset(
    {
        "PHASEFLOW_CODE_VERSION",  # of an image
        "PHASEFLOW_EVIDENTLY_MIRROR_SECONDS",
        "PHASEFLOW_IMAGE",
        "PHASEFLOW_ISOLATED",  # of the tests
        "PHASEFLOW_KFP_NAMESPACE",
        "PHASEFLOW_MONITOR_LOOK_SECONDS",
        "PHASEFLOW_PROGRAM",  # of the supervisor
        "PHASEFLOW_PROGRAM_STARTED",  # of the launcher
        "PHASEFLOW_S3_SECRET",
        "PHASEFLOW_TEST_HOME",
        "PHASEFLOW_TEST_PORT_OFFSET",
        "PHASEFLOW_TEST_PROJECTS",
    }
)
"""Variables that are no settings: parts of the platform set them for each other."""


def names() -> frozenset[str]:
    """Every variable that something reads, except those of secrets."""
    settings = {f"PHASEFLOW_{field.name.upper()}" for field in dataclasses.fields(Settings)}
    return frozenset(settings | {*SELECTION} | INTERNAL)


def warnings(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence per variable that nothing reads, with the closest name."""
    allowed = names()
    words = sorted(name.removeprefix(PREFIX) for name in allowed - INTERNAL)
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in allowed and not SECRET_FILE.fullmatch(name):
            hint = suggestion(name.removeprefix(PREFIX), words).replace('"', f'"{PREFIX}', 1)
            hint = hint or "docs/reference/settings.md lists the settings."
            yield f"{name} is not a setting, and nothing reads it. {hint}"
