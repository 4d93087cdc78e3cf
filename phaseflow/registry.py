"""Finds the projects: every folder of the package `projects` that has a `project.py`."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phaseflow.contract import Project
from phaseflow.errors import ContractError, PhaseflowError, suggestion
from phaseflow.settings import from_environment


def names() -> tuple[str, ...]:
    """Names of all projects, sorted; nothing of them is imported. `PHASEFLOW_ONLY` leaves those it names (a pod's one)."""
    package = importlib.import_module("projects")
    found = {path.parent.name for root in package.__path__ for path in Path(root).glob("*/project.py")}
    only = from_environment().only
    return tuple(sorted(found & only if only else found))


@functools.cache
def get(name: str) -> Project:
    """The project `name`.

    Raises PhaseflowError when there is none, ContractError when its declaration is wrong or bears another name.
    """
    if name not in names():
        known = names()
        raise PhaseflowError(
            f"There is no project {name!r}; found: {', '.join(known) or 'none'}",
            fix=suggestion(name, known) or "Make it with `phaseflow new`",
        )
    module = importlib.import_module(f"projects.{name}.project")
    project = getattr(module, "project", None)
    if not isinstance(project, Project):
        raise ContractError(
            f"projects/{name}/project.py holds no `project = Project(...)`; found: {type(project).__name__}",
            fix="Declare it under that name",
        )
    if project.name != name:
        raise ContractError(
            f"Project.name is {project.name!r} in the folder projects/{name}", fix="Give both the same name"
        )
    return project


def all_projects() -> tuple[Project, ...]:
    """Every project, sorted by name."""
    return tuple(get(name) for name in names())


def load(reference: str) -> Callable[..., Any]:
    """The function that a reference such as 'titanic.model:train' names.

    Raises ContractError when the module or the function does not exist.
    """
    module_name, _, function_name = reference.partition(":")
    try:
        module = importlib.import_module(f"projects.{module_name}")
    except ModuleNotFoundError as error:
        if error.name is None or not f"projects.{module_name}".startswith(error.name):
            raise
        raise ContractError(
            f"{reference!r} names the module projects.{module_name}, which does not exist",
            fix=f"Create projects/{module_name.replace('.', '/')}.py, or correct the reference",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ContractError(
            f"{reference!r} names {function_name}, which projects.{module_name} does not define",
            fix=suggestion(function_name, dir(module)) or f"Define {function_name} there",
        )
    return function  # type: ignore[no-any-return]  # checked to be callable; its signature is the contract's
