"""Alerts according to Prometheus: which rules exist, and which alerts are firing.

Alertmanager accepts alerts from anyone who can reach it. A delivered alert is therefore only a hint: the hook acts on what Prometheus
itself reports, and reads nothing but the labels of the delivered alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from phaseflow.clients import prometheus
from phaseflow.clients.rest import Call

Struct = TypeVar("Struct", bound=msgspec.Struct)
IDENTITY = ("alertname", "project", "action")
"""Labels that a delivered alert must share with its rule."""


class Alert(msgspec.Struct, frozen=True):
    """An alert as Prometheus's API returns it (https://prometheus.io/docs/prometheus/latest/querying/api/#alerts)."""

    labels: dict[str, str]
    state: str
    annotations: dict[str, str] = {}  # msgspec copies the default
    active_at: str = msgspec.field(name="activeAt", default="")


class _Rule(msgspec.Struct, frozen=True):
    name: str
    labels: dict[str, str] = {}


class _Group(msgspec.Struct, frozen=True):
    rules: list[_Rule]


class _Alerts(msgspec.Struct, frozen=True):
    alerts: list[Alert]


class _Groups(msgspec.Struct, frozen=True):
    groups: list[_Group]


def firing() -> Call[list[Alert]]:
    """The alerts that are firing now."""
    return prometheus.data("alerts", lambda data: [a for a in _convert(data, _Alerts).alerts if a.state == "firing"])


def rules() -> Call[list[Mapping[str, str]]]:
    """The labels of every alerting rule, with its name as `alertname`."""

    def read(data: Any) -> list[Mapping[str, str]]:
        groups = _convert(data, _Groups).groups
        return [{**rule.labels, "alertname": rule.name} for group in groups for rule in group.rules]

    return prometheus.data("rules", read, {"type": "alert"})


def _convert(data: Any, kind: type[Struct]) -> Struct:
    """Check the structure. Raises ValueError, which the client reports as an error of the server."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def confirmed(labels: Mapping[str, str], firing: list[Alert]) -> Alert | None:
    """The firing alert that matches the labels of a delivered alert; None if Prometheus has no such alert.

    The delivered alert may have additional labels (external ones), but every label of Prometheus must have the same value.
    """
    for alert in firing:
        if shares_identity(labels, alert.labels) and alert.labels.items() <= labels.items():
            return alert
    return None


def shares_identity(labels: Mapping[str, str], rule: Mapping[str, str]) -> bool:
    """Whether an alert may belong to a rule: name, project and action are equal and not empty."""
    return all(labels.get(name) and labels.get(name) == rule.get(name) for name in IDENTITY)
