"""The reverse proxy's list of roles knows every address of MLflow that changes something."""

from __future__ import annotations

import re

from mlflow.server import handlers

from phaseflow.settings import ROOT

PREFIX = "/mlflow"


def rules() -> list[tuple[re.Pattern[str], str]]:
    """The lines of the reverse proxy's list, in order: nginx takes the first that matches."""
    text = (ROOT / "helm" / "platform" / "templates" / "_login.tpl").read_text()
    lines = re.findall(r"^  '~(.+)' (viewer|operator);$", text, re.MULTILINE)
    assert len(lines) > 10
    return [(re.compile(pattern), role) for pattern, role in lines]


def role(method: str, path: str) -> str:
    request = f"{method} {PREFIX}{path}"
    return next((role for pattern, role in rules() if pattern.search(request)), "admin")


def changing() -> set[tuple[str, str]]:
    """Methods and addresses of MLflow's REST API that are not GET, HEAD or OPTIONS, with `x` for each parameter."""
    return {
        (method, re.sub(r"<[^>]+>", "x", path))
        for path, _, methods in handlers.get_endpoints()
        for method in methods
        if method not in {"GET", "HEAD", "OPTIONS"}
    }


def addresses_of(name: str) -> set[str]:
    """The changing addresses that need a role, after `/mlflow/`."""
    return {path.rpartition("/mlflow/")[2] for method, path in changing() if role(method, path) == name}


def test_a_viewer_posts_only_searches() -> None:
    assert addresses_of("viewer") == {
        "experiments/search",
        "runs/search",
        "logged-models/search",
        "datasets/search",
        "issues/search",
        "traces/search",
        "registered-models/get-latest-versions",
        "traces/batchGetInfos",
        "traces/calculate-filter-correlation",
        "traces/metrics",
        "/graphql",
    }


def test_an_operator_promotes_and_describes() -> None:
    assert addresses_of("operator") == {
        "registered-models/alias",
        "registered-models/set-tag",
        "registered-models/update",
        "model-versions/set-tag",
        "model-versions/transition-stage",
        "model-versions/update",
        "runs/set-tag",
        "runs/update",
        "experiments/set-experiment-tag",
    }


def test_only_an_administrator_deletes() -> None:
    deleting = [(method, path) for method, path in changing() if method == "DELETE" or "delete" in path]
    assert len(deleting) > 30
    assert {role(method, path) for method, path in deleting} == {"admin"}
