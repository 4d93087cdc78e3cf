"""Project -> Kubeflow pipeline: profile, train each candidate, evaluate, gate, register.

The components are lightweight Python components whose bodies call `pipelines.steps`; the image holds the code and its
environment, so that nothing is installed at run time. A component's imports stand inside it because that is how KFP
ships its source.
"""

# Annotations must be real classes here: KFP reads them.
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from phaseflow.contract import Project

IMAGE: Final = "phaseflow/{family}:dev"
"""Of the training family; `PHASEFLOW_IMAGE` overrides it when pipelines are compiled."""


def profile(project: str, snapshot: str, page: Output[HTML], dataset: Output[Dataset]) -> None:
    """A picture of the data, and the snapshot as an artifact."""
    import json
    from pathlib import Path

    from phaseflow import registry
    from pipelines.steps import data
    from pipelines.steps.profile import profile as draw

    Path(page.path).write_text(draw(project, snapshot))
    manifest = data.manifest(registry.get(project), snapshot)
    Path(dataset.path).write_text(json.dumps(manifest))
    dataset.metadata.update({"snapshot": snapshot, "rows": manifest["rows"], "source": manifest["source"]})


def train(project: str, snapshot: str, candidate: str, model: Output[Model], metrics: Output[Metrics]) -> None:
    """One candidate as ONNX, and its figure inside the training rows."""
    from pathlib import Path

    from pipelines.steps.train import train as fit

    found = fit(project, snapshot, candidate, Path(model.path))
    model.metadata.update({"candidate": candidate, "framework": "onnx"})
    for name, value in found.items():
        metrics.log_metric(name, value)
    Path(metrics.path).write_text("")  # without a file kfp.local's cache misses this step


def evaluate(
    project: str,
    snapshot: str,
    models: Input[list[Model]],
    evaluation: Output[Dataset],
    metrics: Output[Metrics],
    curves: Output[ClassificationMetrics],
) -> None:
    """All candidates and the champion on the same holdout."""
    import json
    from pathlib import Path

    from pipelines.steps.evaluate import evaluate as judge

    found = judge(project, snapshot, [Path(model.path) for model in models])
    Path(evaluation.path).write_text(json.dumps(found))
    for name, value in found["candidates"][found["winner"]]["metrics"].items():
        if value is not None:
            metrics.log_metric(name, value)
    Path(metrics.path).write_text("")
    if "confusion" in found["curves"]:
        curves.log_confusion_matrix(found["curves"]["classes"], found["curves"]["confusion"])
    if "roc" in found["curves"]:
        roc = found["curves"]["roc"]
        curves.log_roc_curve(roc["fpr"], roc["tpr"], roc["thresholds"])
    Path(curves.path).write_text("")


def gate(project: str, evaluation: Input[Dataset], verdict: Output[Dataset]) -> bool:
    """May the winner become champion?"""
    import json
    from pathlib import Path

    from phaseflow import registry
    from pipelines.steps.gate import judge

    said = judge(registry.get(project), json.loads(Path(evaluation.path).read_text()))
    Path(verdict.path).write_text(json.dumps(said.to_dict()))
    for check in said.checks:
        print(f"{'pass' if check.passed else 'FAIL'}  {check.check}: {check.found} (allowed: {check.allowed})")
    print(said.why)
    return said.passed


def register(
    project: str,
    snapshot: str,
    run: str,
    models: Input[list[Model]],
    evaluation: Input[Dataset],
    verdict: Input[Dataset],
    registered: Output[Model],
) -> str:
    """Log all candidates to MLflow, register the winner, write the verdict."""
    import json
    from pathlib import Path

    from pipelines.steps.register import register as log

    folders = {json.loads((Path(m.path) / "trained.json").read_text())["candidate"]: Path(m.path) for m in models}
    said = json.loads(Path(verdict.path).read_text())
    found = log(project, snapshot, run, json.loads(Path(evaluation.path).read_text()), said, folders)
    Path(registered.path).write_text(json.dumps(found))
    registered.metadata.update({"version": found["version"], "passed": found["passed"]})
    return str(found["version"])


def image(project: Project) -> str:
    """The image of the project's training family."""
    return os.environ.get("PHASEFLOW_IMAGE", IMAGE).format(family=project.family)


def pipeline(project: Project) -> Any:
    """The project's Kubeflow pipeline, with the parameters `snapshot` and `run`."""

    def component(function: Callable[..., Any]) -> Any:
        return dsl.component(base_image=image(project), install_kfp_package=False)(function)

    steps = {function.__name__: component(function) for function in (profile, train, evaluate, gate, register)}

    @dsl.pipeline(  # type: ignore[untyped-decorator]  # kfp ships no types
        name=project.name.replace("_", "-"), display_name=project.title, description=project.description
    )
    def built(snapshot: str, run: str) -> None:
        steps["profile"](project=project.name, snapshot=snapshot)
        with dsl.ParallelFor([candidate.name for candidate in project.candidates], parallelism=2) as candidate:
            fitted = steps["train"](project=project.name, snapshot=snapshot, candidate=candidate)
            fitted.set_cpu_limit(str(project.resources.cpu)).set_memory_limit(f"{project.resources.memory_mb}M")
            if project.resources.gpu:
                fitted.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(project.resources.gpu)
        models = partial(dsl.Collected, fitted.outputs["model"])  # the compiler changes one that it has used
        judged = steps["evaluate"](project=project.name, snapshot=snapshot, models=models())
        # The champion may have changed since an equal call, so these two never come from a cache.
        judged.set_caching_options(enable_caching=False)
        said = steps["gate"](project=project.name, evaluation=judged.outputs["evaluation"])
        logged = steps["register"](
            project=project.name,
            snapshot=snapshot,
            run=run,
            models=models(),
            evaluation=judged.outputs["evaluation"],
            verdict=said.outputs["verdict"],
        )
        logged.set_caching_options(enable_caching=False)

    return built
