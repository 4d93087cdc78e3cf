"""The BentoML service: packaging, docs and the native API over the same models.

`bentoml serve services.serving.service:Phaseflow` serves it alone; `python -m services.serving` puts the hot routes before it.
"""

from __future__ import annotations

import os

# Read when bentoml is imported: nothing is sent to anyone.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("DO_NOT_TRACK", "1")

from typing import Any

import bentoml

from services.serving import state


@bentoml.service(name="phaseflow", traffic={"timeout": 30}, metrics={"enabled": False}, workers=1)
class Phaseflow:
    """Every project's champion."""

    @bentoml.api(route="/bento/predict")  # type: ignore[untyped-decorator]  # bentoml's decorators have no types
    def predict(self, project: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Predictions for rows of a project, as of `POST /<project>/predict`."""
        return state.current().predict_objects(project, rows)

    @bentoml.api(route="/bento/projects")  # type: ignore[untyped-decorator]  # bentoml's decorators have no types
    def projects(self) -> list[dict[str, Any]]:
        """Served projects and their versions."""
        return state.current().projects()
