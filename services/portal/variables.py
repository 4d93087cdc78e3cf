"""Template variables of Grafana's dashboards: their values, and their use in queries and titles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from phaseflow.errors import PlatformError
from services.portal.prometheus import Prometheus

SCRAPE_SECONDS: Final = 15
VALUE: Final = re.compile(r"[\w.:|*+-]{1,200}", re.ASCII)
"""Values that a page's URL may contain: none can end the PromQL string into which it is inserted."""
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::[^}]*)?\}|\$(\w+)|\[\[(\w+)\]\]")


@dataclass(frozen=True, slots=True)
class Span:
    """The time range that is shown, in Unix seconds."""

    start: float
    end: float
    step: float


def check(selected: Mapping[str, str]) -> None:
    """Raise PlatformError for a value that can't be the value of a label."""
    for variable, value in selected.items():
        if not VALUE.fullmatch(value):
            raise PlatformError(
                f"{variable[:80]} is {value[:80]!r}; allowed: letters, digits and _.:|*+-, at most 200",
                fix="Choose a value from the dashboard's list",
            )


def macros(span: Span) -> dict[str, str]:
    """Grafana's built-in variables; a rate needs four scrapes."""
    seconds = span.end - span.start
    return {
        "__interval": f"{span.step:.0f}s",
        "__interval_ms": f"{span.step * 1000:.0f}",
        "__rate_interval": f"{max(span.step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS):.0f}s",
        "__range": f"{seconds:.0f}s",
        "__range_s": f"{seconds:.0f}",
        "__from": f"{span.start * 1000:.0f}",
        "__to": f"{span.end * 1000:.0f}",
    }


async def values(prometheus: Prometheus, content: Mapping[str, Any], selected: Mapping[str, str]) -> dict[str, str]:
    """The value of each template variable: the selected value, the saved one, the first result of its query, or all results."""
    chosen: dict[str, str] = {}
    for variable in (content.get("templating") or {}).get("list") or ():
        name, kind = str(variable.get("name") or ""), variable.get("type")
        current = (variable.get("current") or {}).get("value")
        if isinstance(current, list):
            current = "$__all" if "$__all" in current or not current else _any(map(str, current))
        if kind == "datasource" or not name:
            continue
        if name in selected:
            chosen[name] = selected[name]
        elif current not in {None, "", "$__all"}:
            chosen[name] = str(current)
        elif kind == "query":
            options = await _options(prometheus, variable, chosen)
            use_all = current == "$__all" or variable.get("includeAll") or variable.get("multi")
            chosen[name] = (variable.get("allValue") or _any(options)) if use_all else next(iter(options), "")
        elif kind == "custom" and current == "$__all":
            chosen[name] = variable.get("allValue") or str(variable.get("query") or "").replace(",", "|").replace(
                " ", ""
            )
        else:
            chosen[name] = str(variable.get("query") or "").split(",")[0].strip()
    return chosen


def _any(values: Iterable[str]) -> str:
    """A PromQL regular expression that matches any of `values`, escaped for use between double quotes."""
    return "|".join(re.escape(value).replace("\\", r"\\").replace('"', r"\"") for value in values)


async def _options(prometheus: Prometheus, variable: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    query = variable.get("query")
    query = str(query.get("query") if isinstance(query, dict) else query or "")
    match = re.fullmatch(r"label_values\((?:(.+),)?\s*(\w+)\s*\)", substitute(query, values))
    return await prometheus.label_values(match[2], (match[1] or "").strip()) if match else []


def legend(form: str, labels: Mapping[str, str], substitutions: Mapping[str, str]) -> str:
    """Replace template variables, and `{{label}}` by the value of a label."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), substitute(form, substitutions))


def substitute(template: str, substitutions: Mapping[str, str]) -> str:
    """Replace template variables; unknown ones stay unchanged, so that the query's error shows them."""
    return _VARIABLE.sub(lambda match: substitutions.get(match[1] or match[2] or match[3], match[0]), template)
