"""Names that a project can't have, because the platform has them."""

from __future__ import annotations

import re

import pytest

from phaseflow import checks, registry
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
def test_a_reserved_name_is_refused_with_another(name: str, fix: str) -> None:
    with pytest.raises(ContractError) as caught:
        checks.project_name("Project.name", name)
    assert str(caught.value).endswith(fix)
    assert repr(name) in str(caught.value)


def test_the_proposed_names_are_allowed() -> None:
    for name in (*registry.names(), "titanic_watch", "my_v2", "a", "a" * 45, "monitors", "v3", "a__b"):
        checks.project_name("Project.name", name)


def test_every_first_segment_of_a_path_is_reserved() -> None:
    """Of the services' routers, the OpenAPI document and the front door."""
    routed = re.compile(r'(?:Route|Mount)\(\s*f?"/([a-z0-9_]+)|^\s*"/([a-z0-9_]+)[/"]', re.MULTILINE)
    door = re.compile(r"location (?:= )?/([a-z0-9_]+)")
    segments: set[str] = set()
    for folder in ("services", "pipelines/engine"):
        for path in (ROOT / folder).rglob("*.py"):
            if "tests" not in path.parts:
                segments |= {first or second for first, second in routed.findall(path.read_text())}
    for path in (ROOT / "helm" / "platform" / "templates").glob("*.tpl"):
        segments |= set(door.findall(path.read_text()))
    assert {"healthz", "v2", "metrics", "projects", "hooks", "static", "airflow"} <= segments
    assert segments <= checks.RESERVED
    assert PORTS.keys() <= checks.RESERVED
