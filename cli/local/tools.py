"""Settings of the tools that the user overrides, by each tool's own variables, in the file `PHASEFLOW_ENV_FILE`.

A file, and not the shell's variables: the platform is started from many shells, and another Airflow's variables in one
of them must not change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from phaseflow.errors import PlatformError, suggestion

PREFIXES: Final = ("AIRFLOW__", "BENTOML_", "EVIDENTLY_", "GF_", "KFP_", "MLFLOW_")
"""Prefixes of the variables of Airflow, BentoML, Evidently, Grafana, KFP and MLflow."""
RESERVED: Final = frozenset(
    {
        "AIRFLOW__API__BASE_URL",
        "AIRFLOW__API__HOST",
        "AIRFLOW__API__PORT",
        "AIRFLOW__CORE__DAGS_FOLDER",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        "AIRFLOW__CORE__PLUGINS_FOLDER",
        "GF_PATHS_PROVISIONING",
        "GF_SERVER_HTTP_ADDR",
        "GF_SERVER_HTTP_PORT",
        "MLFLOW_TRACKING_URI",
    }
)
"""Addresses and folders by which the parts of the platform find each other."""
NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")
SECRET: Final = re.compile(r"(PASSWORD|SECRET|TOKEN)|KEY$")
BY_FILE: Final = ("__FILE", "_FILE", "_CMD", "_PATH")
"""Ends of the names of variables that name a file or a command instead of a secret."""
CREDENTIALS: Final = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def read(path: Path | None) -> dict[str, str]:
    """The variables of a file of lines `NAME=value`. Empty lines and lines that begin with `#` are ignored.

    Raises PlatformError if the file can't be read, or a line is no variable that may be set here.
    """
    if path is None:
        return {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PlatformError(
            f"PHASEFLOW_ENV_FILE {path} can't be read: {error}", fix="Correct or unset PHASEFLOW_ENV_FILE"
        ) from error
    return dict(_variables(path, lines))


def _variables(path: Path, lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, value = line.partition("=")
        name = name.strip()
        where = f"line {number} of {path}"
        if not separator or not NAME.fullmatch(name):
            raise PlatformError(f"{where} is not NAME=value", fix="Write one variable per line, without quotes")
        if not name.startswith(PREFIXES):
            raise PlatformError(
                f"{where} sets {name}, which is of no tool; allowed prefixes: {', '.join(PREFIXES)}",
                fix=suggestion(name, PREFIXES) or "Set variables of phaseflow (PHASEFLOW_...) in the shell",
            )
        if name in RESERVED:
            raise PlatformError(
                f"{where} sets {name}, by which the parts of the platform find each other",
                fix="Remove it. PHASEFLOW_PORT_OFFSET moves the ports, and PHASEFLOW_HOME the folders",
            )
        if (SECRET.search(name) and not name.endswith(BY_FILE)) or CREDENTIALS.search(value):
            raise PlatformError(
                f"{where} would put a secret into the environment of every process: {name}",
                fix="Use the variable of the tool that names a file or a command, such as GF_..__FILE or AIRFLOW__.._CMD",
            )
        yield name, value.strip()
