"""Validation of declared values. Each error contains the field, its value, the allowed values and the fix."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from phaseflow.errors import ContractError, suggestion

NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
PROJECT_LENGTH: Final = 45
"""Maximum length of a project name. The Kubernetes Service `<release>-serving-<project>` has at most 63 characters.

The default release is `phaseflow`.
"""
MONITOR_SUFFIX: Final = "_monitor"
RESERVED: Final = frozenset(
    {
        # first segments of the URL paths of the services, which also serve `/<project>`
        *("v2", "healthz", "readyz", "livez", "metrics", "docs", "redoc", "openapi", "schema", "favicon", "projects"),
        *(
            "api",
            "apis",
            "auth",
            "hooks",
            "reports",
            "dashboards",
            "static",
            "static_content",
            "predict",
            "feedback",
            "model",
        ),
        # components of the platform: paths of the reverse proxy, Kubernetes objects, Prometheus jobs
        *("airflow", "mlflow", "pipelines", "serving", "monitor", "monitoring", "portal", "prometheus", "alertmanager"),
        *("clean", "forget", "maintenance"),  # DAGs
        *(
            "evidently",
            "grafana",
            "proxy",
            "login",
            "logout",
            "oauth2",
            "storage",
            "postgres",
            "backup",
            "engine",
            "platform",
            "phaseflow",
        ),
        # other names in the folder of the projects
        *("tests", "conftest"),
    }
)
"""Names that the platform uses itself, which no project can have."""
REFERENCE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+:[a-zA-Z_][a-zA-Z0-9_]*")


def one_of(field: str, value: str, allowed: Collection[str]) -> None:
    """Raise ContractError unless `value` is one of `allowed`."""
    if value not in allowed:
        choices = ", ".join(sorted(allowed))
        raise ContractError(
            f"{field} is {value!r}; allowed: {choices}",
            fix=suggestion(value, allowed) or f"Set {field} to one of these values",
        )


def name(field: str, value: str) -> None:
    """Raise ContractError unless `value` is a valid name for a DAG, a model, a metric label and a Kubernetes object."""
    if not NAME.fullmatch(value):
        raise _malformed(field, value, _identifier(value))


def _malformed(field: str, value: str, proposal: str) -> ContractError:
    return ContractError(
        f"{field} is {value!r}; allowed: lower-case letters, digits and _, a letter first, at most 48",
        fix=f'Rename it, for example "{proposal}"',
    )


def _identifier(text: str) -> str:
    """Convert `text` to a similar, valid name."""
    identifier = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_") or "my_project"
    return (identifier if identifier[0].isalpha() else f"p_{identifier}")[:48]


def _project_identifier(text: str) -> str:
    """Convert `text` to a similar name that `project_name` accepts."""
    identifier = _identifier(text)[:PROJECT_LENGTH].rstrip("_")
    while identifier.endswith(MONITOR_SUFFIX):
        identifier = identifier.removesuffix(MONITOR_SUFFIX).rstrip("_")
    return f"my_{identifier}" if identifier in RESERVED else identifier


def project_name(field: str, value: str) -> None:
    """Raise ContractError unless `value` is valid as the name of a project and not reserved."""
    if not NAME.fullmatch(value):
        raise _malformed(field, value, _project_identifier(value))
    if value in RESERVED:
        raise ContractError(
            f"{field} is {value!r}, a name that the platform uses itself", fix=f'Rename it, for example "my_{value}"'
        )
    if value.endswith(MONITOR_SUFFIX):
        shorter = value.removesuffix(MONITOR_SUFFIX)
        raise ContractError(
            f"{field} is {value!r}; names that end with {MONITOR_SUFFIX} are reserved for the monitoring DAGs",
            fix=f'Rename it, for example "{shorter}_watch"',
        )
    if value.endswith("_"):
        raise ContractError(
            f"{field} is {value!r}; a Kubernetes name can't end with a hyphen, which replaces the underscore",
            fix=f'Rename it, for example "{value.rstrip("_")}"',
        )
    if len(value) > PROJECT_LENGTH:
        raise ContractError(
            f"{field} is {value!r}, {len(value)} characters; allowed: {PROJECT_LENGTH}, a limit of Kubernetes names",
            fix=f'Shorten it, for example to "{value[:PROJECT_LENGTH].rstrip("_")}"',
        )


def reference(field: str, value: str) -> None:
    """Raise ContractError unless `value` has the form 'project.module:function'."""
    if not REFERENCE.fullmatch(value):
        raise ContractError(
            f"{field} is {value!r}; allowed: 'project.module:function'",
            fix=f"Set {field} to the path of a function, for example 'titanic.model:train'",
        )


def within(field: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise ContractError unless low <= value <= high."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        suffix = f" {unit}" if unit else ""
        raise ContractError(
            f"{field} is {value!r}; allowed: {low:g} to {high:g}{suffix}", fix=f"Set {field} to a number in that range"
        )


def not_empty(field: str, value: Sequence[object] | str) -> None:
    """Raise ContractError if `value` is empty."""
    if len(value) == 0:
        raise ContractError(f"{field} is empty; allowed: at least one value", fix=f"Set {field}")


def distinct(field: str, values: Sequence[str]) -> None:
    """Raise ContractError if `values` contains duplicates."""
    duplicates = sorted({value for value in values if values.count(value) > 1})
    if duplicates:
        raise ContractError(
            f"{field} contains {duplicates[0]!r} more than once; allowed: unique values", fix="Remove the duplicate"
        )
