"""Discovery of the projects: every folder with a `project.py` in one of the folders of the setting `projects`.

The package `projects` is a plug-in: it is only imported by name, and only when a project is loaded.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable
from typing import Any, Final

from phaseflow.contract import Project
from phaseflow.errors import ContractError, PhaseflowError, suggestion
from phaseflow.settings import from_environment

UNEXPECTED: Final = re.compile(r"unexpected keyword argument '(\w+)'")
REMOVED: Final = {"task": "Remove it: the kind of the target decides the task"}
"""Fields of earlier releases, and what to do about them."""


def names() -> tuple[str, ...]:
    """Sorted names of all projects, without importing them. `PHASEFLOW_ONLY` restricts them."""
    settings = from_environment()
    folders = {path.parent.name for root in settings.projects for path in root.glob("*/project.py")}
    only = settings.only
    return tuple(sorted(folders & only if only else folders))


@functools.cache
def get(name: str) -> Project:
    """Load the project `name`.

    Raises PhaseflowError if it does not exist, and ContractError if its declaration is invalid, sets a field that does
    not exist, or has another name.
    """
    if name not in names():
        available = names()
        raise PhaseflowError(
            f"There is no project {name!r}; found: {', '.join(available) or 'none'}",
            fix=suggestion(name, available) or "Create it with `phaseflow new`",
        )
    try:
        module = importlib.import_module(f"projects.{name}.project")
    except TypeError as error:
        argument = UNEXPECTED.search(str(error))
        if argument is None:
            raise
        raise ContractError(
            str(error),
            fix=REMOVED.get(argument[1], "Correct the name; docs/reference/contract.md lists all fields"),
        ) from error
    project = getattr(module, "project", None)
    if not isinstance(project, Project):
        raise ContractError(
            f"projects/{name}/project.py does not define `project = Project(...)`; found: {type(project).__name__}",
            fix="Assign a Project to the variable `project`",
        )
    if project.name != name:
        raise ContractError(
            f"Project.name is {project.name!r} in the folder projects/{name}", fix="Use the same name for both"
        )
    return project


def all_projects() -> tuple[Project, ...]:
    """Every project, sorted by name."""
    return tuple(get(name) for name in names())


def readable() -> tuple[list[Project], dict[str, str]]:
    """Return the projects whose declaration can be read, sorted by name, and the problems of the others by name."""
    projects: list[Project] = []
    problems: dict[str, str] = {}
    for name in names():
        try:
            projects.append(get(name))
        except PhaseflowError as error:
            problems[name] = str(error)
        except Exception as error:  # a declaration is anyone's code: whatever it raises is its own problem
            problems[name] = f"{type(error).__name__}: {error}"
    return projects, problems


def load(reference: str) -> Callable[..., Any]:
    """Load the function of a reference such as 'titanic.model:train'.

    Raises ContractError if the module or the function does not exist.
    """
    module_name, _, function_name = reference.partition(":")
    try:
        module = importlib.import_module(f"projects.{module_name}")
    except ModuleNotFoundError as error:
        if error.name is None or not f"projects.{module_name}".startswith(error.name):
            raise
        raise ContractError(
            f"{reference!r} refers to the module projects.{module_name}, which does not exist",
            fix=f"Create projects/{module_name.replace('.', '/')}.py, or correct the reference",
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ContractError(
            f"{reference!r} refers to {function_name}, which projects.{module_name} does not define",
            fix=suggestion(function_name, dir(module)) or f"Define {function_name} in it",
        )
    return function  # type: ignore[no-any-return]  # checked to be callable; its signature is the contract's
