"""All text files of a project from a table."""

from __future__ import annotations

from cli.scaffold.measure import Measurement
from cli.scaffold.plan import Plan
from cli.scaffold.table.data import data
from cli.scaffold.table.declaration import declaration
from cli.scaffold.table.drift import drift
from cli.scaffold.table.model import model
from cli.scaffold.table.origin import Origin, what
from cli.scaffold.table.pages import readme, tests


def files(origin: Origin, plan: Plan, measurement: Measurement) -> dict[str, str]:
    """Text files by path relative to the project's folder."""
    return {
        "__init__.py": f'"""{origin.title}: {what(plan)}."""\n',
        "project.py": declaration(origin, plan, measurement),
        "data.py": data(origin, plan),
        "model.py": model(plan),
        "drift.py": drift(plan, measurement),
        f"tests/test_{origin.name}.py": tests(origin.name),
        "README.md": readme(origin, plan, measurement),
    }
