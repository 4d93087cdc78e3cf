"""Checks of declared values: each names the field, the value found, what is allowed and the fix."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from phaseflow.errors import ContractError, suggestion

NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
PROJECT_LENGTH: Final = 45
"""A Service on Kubernetes is called `<release>-serving-<project>` and may have 63 characters; the release is `phaseflow`."""
MONITOR_SUFFIX: Final = "_monitor"
RESERVED: Final = frozenset(
    {
        # first segments of the services' paths, beside which a project has its own
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
        # the platform's parts: paths of the front door, objects on Kubernetes, jobs of Prometheus
        *("airflow", "mlflow", "pipelines", "serving", "monitor", "monitoring", "portal", "prometheus", "alertmanager"),
        *("clean", "forget", "maintenance"),  # DAGs
        *("grafana", "door", "storage", "postgres", "backup", "engine", "platform", "phaseflow"),
        # what lies beside the projects in their folder
        *("tests", "conftest"),
    }
)
"""Names that the platform uses itself."""
REFERENCE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+:[a-zA-Z_][a-zA-Z0-9_]*")


def one_of(field: str, value: str, allowed: Collection[str]) -> None:
    """Raise ContractError unless `value` is one of `allowed`."""
    if value not in allowed:
        choices = ", ".join(sorted(allowed))
        raise ContractError(
            f"{field} is {value!r}; allowed: {choices}",
            fix=suggestion(value, allowed) or f"Set {field} to one of them",
        )


def name(field: str, value: str) -> None:
    """Raise ContractError unless `value` can name a DAG, a model, a metric label and a Kubernetes object."""
    if not NAME.fullmatch(value):
        raise _malformed(field, value, _identifier(value))


def _malformed(field: str, value: str, better: str) -> ContractError:
    return ContractError(
        f"{field} is {value!r}; allowed: lower-case letters, digits and _, a letter first, at most 48",
        fix=f'Rename it, for example "{better}"',
    )


def _identifier(text: str) -> str:
    """A right name that resembles `text`."""
    plain = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_") or "my_project"
    return (plain if plain[0].isalpha() else f"p_{plain}")[:48]


def _project_identifier(text: str) -> str:
    """As `_identifier`, for `project_name`."""
    plain = _identifier(text)[:PROJECT_LENGTH].rstrip("_")
    while plain.endswith(MONITOR_SUFFIX):
        plain = plain.removesuffix(MONITOR_SUFFIX).rstrip("_")
    return f"my_{plain}" if plain in RESERVED else plain


def project_name(field: str, value: str) -> None:
    """Raise ContractError unless `value` can name a project: `name`, and nothing that the platform calls so itself."""
    if not NAME.fullmatch(value):
        raise _malformed(field, value, _project_identifier(value))
    if value in RESERVED:
        raise ContractError(
            f"{field} is {value!r}, a name that the platform uses itself", fix=f'Rename it, for example "my_{value}"'
        )
    if value.endswith(MONITOR_SUFFIX):
        shorter = value.removesuffix(MONITOR_SUFFIX)
        raise ContractError(
            f"{field} is {value!r}; names that end with {MONITOR_SUFFIX} are those of the DAGs that watch a project",
            fix=f'Rename it, for example "{shorter}_watch"',
        )
    if value.endswith("_"):
        raise ContractError(
            f"{field} is {value!r}; a name on Kubernetes can't end with what becomes a hyphen",
            fix=f'Rename it, for example "{value.rstrip("_")}"',
        )
    if len(value) > PROJECT_LENGTH:
        raise ContractError(
            f"{field} is {value!r}, {len(value)} characters; allowed: {PROJECT_LENGTH}, so that its Service on Kubernetes has a name",
            fix=f'Shorten it, for example to "{value[:PROJECT_LENGTH].rstrip("_")}"',
        )


def reference(field: str, value: str) -> None:
    """Raise ContractError unless `value` reads 'project.module:function'."""
    if not REFERENCE.fullmatch(value):
        raise ContractError(
            f"{field} is {value!r}; allowed: 'project.module:function'",
            fix=f"Set {field} to the path of a function, for example 'titanic.model:train'",
        )


def within(field: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Raise ContractError unless low <= value <= high."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        of = f" {unit}" if unit else ""
        raise ContractError(
            f"{field} is {value!r}; allowed: {low:g} to {high:g}{of}", fix=f"Set {field} to a number in that range"
        )


def not_empty(field: str, value: Sequence[object] | str) -> None:
    """Raise ContractError when `value` holds nothing."""
    if len(value) == 0:
        raise ContractError(f"{field} is empty; allowed: at least one", fix=f"Give {field} a value")


def distinct(field: str, values: Sequence[str]) -> None:
    """Raise ContractError when a value stands twice."""
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ContractError(
            f"{field} holds {twice[0]!r} more than once; allowed: each once", fix="Remove the repetition"
        )
