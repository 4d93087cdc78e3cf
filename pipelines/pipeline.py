"""The Kubeflow pipeline of a project: profile, train each candidate, evaluate, gate, register.

The components are lightweight Python components whose bodies call `pipelines.steps`. The image holds the code and its
environment, so nothing is installed at run time. Each component contains its own imports because KFP ships only the
source of the function.
"""

# Annotations must be real classes here: KFP reads them.
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from phaseflow.contract import Project

IMAGE: Final = "phaseflow/{environment}:dev"
"""Image of a training environment. `PHASEFLOW_IMAGE` overrides it when pipelines are compiled."""


def profile(project: str, snapshot: str, page: Output[HTML], dataset: Output[Dataset]) -> None:
    """Write the data profile as HTML, and the snapshot's manifest as a dataset artifact."""
    import json
    from pathlib import Path

    from phaseflow import discovery
    from pipelines.steps import data
    from pipelines.steps.profile import profile as profile_step

    Path(page.path).write_text(profile_step(project, snapshot))
    manifest = data.manifest(discovery.get(project), snapshot)
    Path(dataset.path).write_text(json.dumps(manifest))
    dataset.metadata.update({"snapshot": snapshot, "rows": manifest["rows"], "source": manifest["source"]})


def train(project: str, snapshot: str, candidate: str, model: Output[Model], metrics: Output[Metrics]) -> None:
    """Train one candidate, export it as ONNX and log its metrics."""
    from pathlib import Path

    from pipelines.steps.train import train as train_step

    figures = train_step(project, snapshot, candidate, Path(model.path))
    model.metadata.update({"candidate": candidate, "framework": "onnx"})
    for name, value in figures.items():
        metrics.log_metric(name, value)
    Path(metrics.path).write_text("")  # kfp.local caches a step only if each output has a file


def evaluate(
    project: str,
    snapshot: str,
    models: Input[list[Model]],
    evaluation: Output[Dataset],
    metrics: Output[Metrics],
    curves: Output[ClassificationMetrics],
) -> None:
    """Evaluate all candidates and the champion on the same holdout."""
    import json
    from pathlib import Path

    from pipelines.steps.evaluate import evaluate as evaluate_step

    result = evaluate_step(project, snapshot, [Path(model.path) for model in models])
    Path(evaluation.path).write_text(json.dumps(result))
    for name, value in result["candidates"][result["winner"]]["metrics"].items():
        if value is not None:
            metrics.log_metric(name, value)
    Path(metrics.path).write_text("")
    if "confusion" in result["curves"]:
        curves.log_confusion_matrix(result["curves"]["classes"], result["curves"]["confusion"])
    if "roc" in result["curves"]:
        roc = result["curves"]["roc"]
        curves.log_roc_curve(roc["fpr"], roc["tpr"], roc["thresholds"])
    Path(curves.path).write_text("")


def gate(project: str, evaluation: Input[Dataset], verdict: Output[Dataset]) -> bool:
    """Decide whether the winner may become champion."""
    import json
    from pathlib import Path

    from phaseflow import discovery
    from pipelines.steps.gate import judge as gate_step

    decision = gate_step(discovery.get(project), json.loads(Path(evaluation.path).read_text()))
    Path(verdict.path).write_text(json.dumps(decision.to_dict()))
    for check in decision.checks:
        print(f"{'pass' if check.passed else 'FAIL'}  {check.check}: {check.observed} (allowed: {check.required})")
    print(decision.why)
    return decision.passed


def register(
    project: str,
    snapshot: str,
    run: str,
    models: Input[list[Model]],
    evaluation: Input[Dataset],
    verdict: Input[Dataset],
    registered: Output[Model],
) -> str:
    """Log all candidates to MLflow, register the winner and write the verdict."""
    import json
    from pathlib import Path

    from pipelines.steps.register import register as register_step

    folders = {json.loads((Path(m.path) / "trained.json").read_text())["candidate"]: Path(m.path) for m in models}
    decision = json.loads(Path(verdict.path).read_text())
    figures = json.loads(Path(evaluation.path).read_text())
    result = register_step(project, snapshot, run, figures, decision, folders)
    Path(registered.path).write_text(json.dumps(result))
    registered.metadata.update({"version": result["version"], "passed": result["passed"]})
    return str(result["version"])


def image(project: Project) -> str:
    """Return the image of the project's training environment."""
    return os.environ.get("PHASEFLOW_IMAGE", IMAGE).format(environment=project.environment)


def pipeline(project: Project) -> Any:
    """Build the project's Kubeflow pipeline, which has the parameters `snapshot` and `run`."""

    def component(function: Callable[..., Any]) -> Any:
        return dsl.component(base_image=image(project), install_kfp_package=False)(function)

    steps = {function.__name__: component(function) for function in (profile, train, evaluate, gate, register)}

    @dsl.pipeline(  # type: ignore[untyped-decorator]  # kfp ships no types
        name=project.name.replace("_", "-"), display_name=project.title, description=project.description
    )
    def kubeflow_pipeline(snapshot: str, run: str) -> None:
        steps["profile"](project=project.name, snapshot=snapshot)
        with dsl.ParallelFor([candidate.name for candidate in project.candidates], parallelism=2) as candidate:
            train_task = steps["train"](project=project.name, snapshot=snapshot, candidate=candidate)
            train_task.set_cpu_limit(str(project.resources.cpu)).set_memory_limit(f"{project.resources.memory_mb}M")
            if project.resources.gpu:
                train_task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(project.resources.gpu)
        models = partial(
            dsl.Collected, train_task.outputs["model"]
        )  # the compiler modifies a Collected that it has used
        evaluate_task = steps["evaluate"](project=project.name, snapshot=snapshot, models=models())
        # The champion may have changed since the last identical call, so evaluate and register are never cached.
        evaluate_task.set_caching_options(enable_caching=False)
        gate_task = steps["gate"](project=project.name, evaluation=evaluate_task.outputs["evaluation"])
        register_task = steps["register"](
            project=project.name,
            snapshot=snapshot,
            run=run,
            models=models(),
            evaluation=evaluate_task.outputs["evaluation"],
            verdict=gate_task.outputs["verdict"],
        )
        register_task.set_caching_options(enable_caching=False)

    return kubeflow_pipeline
