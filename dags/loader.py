"""From the folder of projects to DAGs; a project whose declaration is wrong keeps no other from being loaded."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from airflow.sdk import DAG

from dags.factory import broken, monitor, training
from phaseflow import registry
from phaseflow.settings import from_environment


def load(namespace: MutableMapping[str, Any]) -> dict[str, DAG]:
    """Put every project's DAGs into the namespace of a DAG file, and return them by id."""
    settings = from_environment()
    found: dict[str, DAG] = {}
    for name in registry.names():
        try:
            project = registry.get(name)
            made = [training(project, settings), monitor(project, settings)]
        except Exception as error:  # whatever is wrong in a declaration is shown in its own DAG
            made = [broken(name, error)]
        found |= {dag.dag_id: dag for dag in made}
    namespace.update(found)
    return found
