"""Names that are reserved by the platform."""

from __future__ import annotations

import re

import pytest

from phaseflow import checks, discovery
from phaseflow.errors import ContractError
from phaseflow.settings import PORTS, ROOT


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("titanic_monitor", 'Rename it, for example "titanic_watch".'),
        ("v2", 'Rename it, for example "my_v2".'),
        ("healthz", 'Rename it, for example "my_healthz".'),
        ("serving", 'Rename it, for example "my_serving".'),
        ("platform", 'Rename it, for example "my_platform".'),
        ("a_", 'Rename it, for example "a".'),
        ("a__", 'Rename it, for example "a".'),
        ("a" * 46, f'Shorten it, for example to "{"a" * 45}".'),
        ("_a", 'Rename it, for example "a".'),
        ("A", 'Rename it, for example "a".'),
        ("a-b", 'Rename it, for example "a_b".'),
        ("a\n", 'Rename it, for example "a".'),
    ],
)
def test_the_error_of_a_wrong_name_proposes_another_name(name: str, fix: str) -> None:
    with pytest.raises(ContractError) as error:
        checks.project_name("Project.name", name)
    assert str(error.value).endswith(fix)
    assert repr(name) in str(error.value)


def test_the_proposed_names_are_allowed() -> None:
    for name in (*discovery.names(), "titanic_watch", "my_v2", "a", "a" * 45, "monitors", "v3", "a__b"):
        checks.project_name("Project.name", name)


def test_every_first_segment_of_a_path_is_reserved() -> None:
    """Checks the routes of the services and the paths of the reverse proxy."""
    routes = re.compile(r'(?:Route|Mount)\(\s*f?"/([a-z0-9_]+)|^\s*"/([a-z0-9_]+)[/"]', re.MULTILINE)
    proxy = re.compile(r"location (?:= )?/([a-z0-9_]+)")
    segments: set[str] = set()
    for folder in ("services", "pipelines/engine"):
        for path in (ROOT / folder).rglob("*.py"):
            if "tests" not in path.parts:
                segments |= {first or second for first, second in routes.findall(path.read_text())}
    for path in (ROOT / "helm" / "platform" / "templates").glob("*.tpl"):
        segments |= set(proxy.findall(path.read_text()))
    assert {"healthz", "v2", "metrics", "projects", "hooks", "static", "airflow"} <= segments
    assert segments <= checks.RESERVED
    assert PORTS.keys() <= checks.RESERVED
