"""Predictions of rows by an ONNX model. The service and MLflow's python_function (`phaseflow.scoring`) both use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import onnxruntime

from phaseflow import generation, kinds, prediction_types
from phaseflow.columns import Schema
from phaseflow.kinds import tensors

REASONS: Final = 3
"""Features listed per prediction, if the model outputs contributions."""

Row = tuple[Any, ...]
"""Values in the order of the schema's features."""


@dataclass(frozen=True, slots=True)
class Output:
    """A model's output for rows [N]."""

    predictions: list[Any]
    """[N]: class names, numbers, or values of `phaseflow.kinds.Prediction`."""
    scores: list[float | None]
    """[N], from `phaseflow.kinds.Prediction.scores`."""
    probabilities: list[list[float]] | None
    contributions: list[list[float]] | None = None
    """[N, features]: the contribution of each feature to the prediction, if the graph outputs it."""
    first_non_finite: int | None = None
    """Index of the first row whose prediction is not finite."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """An ONNX model with what converts rows to its inputs, and its outputs to predictions."""

    schema: Schema
    classes: tuple[str, ...]
    """Class names; empty unless the model is a classifier."""
    session: Any
    """An onnxruntime session, or a `phaseflow.generation.Generator` around one."""
    feeds: list[tuple[str, int, tensors.Converter]]
    """For each input of the graph: its name, the position of the feature in a row, and the converter of its values."""
    prediction: kinds.Prediction
    """The type of the predictions."""
    explains: bool
    """Whether the graph outputs the contribution of each feature to a prediction."""

    @property
    def generates(self) -> bool:
        """Whether a prediction is a loop over the graph, which is slow."""
        return isinstance(self.session, generation.Generator)

    def predict(self, rows: Sequence[Row], *, hurry: bool = False) -> Output:
        """Predict rows [N], each in the order of the schema's features. Pure, so that it can run in any thread.

        A row's prediction is bit-identical whether it is predicted alone or in a batch. onnxruntime multiplies a single
        row with another kernel, which sums in another order; therefore a single row is duplicated. With `hurry`, a
        generating model raises LateError at its deadline.
        """
        count = len(rows)
        columns = list(zip(*(rows if count > 1 else [*rows, *rows]), strict=True))
        feeds: dict[str, Any] = {}
        for name, position, convert in self.feeds:
            feeds[name] = convert(columns[position])
        output_names = self.prediction.outputs
        names = [*output_names, "contributions"] if self.explains else [*output_names]
        arrays = self.session.run(names, feeds, hurry=hurry) if self.generates else self.session.run(names, feeds)
        contributions = arrays.pop()[:count].tolist() if self.explains else None
        outputs = {name: output[:count] for name, output in zip(output_names, arrays, strict=True)}
        first_non_finite = prediction_types.first_non_finite(outputs)
        return Output(
            [None] * count if first_non_finite is not None else self.prediction.values(outputs, self.schema.target),
            self.prediction.scores(outputs),
            outputs["probabilities"].tolist() if "probabilities" in outputs else None,
            contributions,
            first_non_finite,
        )

    def fields(self, output: Output) -> list[dict[str, Any]]:
        """The fields of each row [N] in a response."""
        if output.probabilities is None:
            name = self.prediction.outputs[0]
            rows: list[dict[str, Any]] = [{name: value} for value in output.predictions]
        else:
            rows = [
                {"label": label, "probabilities": dict(zip(self.classes, shares, strict=True))}
                for label, shares in zip(output.predictions, output.probabilities, strict=True)
            ]
        if output.contributions is not None:
            for item, row in zip(rows, output.contributions, strict=True):
                item["why"] = _top_contributions(self.schema.feature_names, row)
        return rows


def load(content: bytes, schema: Schema, classes: Sequence[str] | None) -> Predictor:
    """The predictor of an ONNX model. Raises ValueError if the model has an input that the schema lacks."""
    runner, names = session(content), tuple(classes or ())
    positions = {name: position for position, name in enumerate(schema.feature_names)}
    inputs = [item.name for item in runner.get_inputs()]
    if unknown := [name for name in inputs if name not in positions]:
        raise ValueError(f"the schema lacks inputs of the model: {', '.join(unknown)}. Retrain the model.")
    return Predictor(
        schema,
        names,
        runner,
        [(name, positions[name], tensors.converter(schema[name])) for name in inputs],
        prediction=prediction_types.of(schema.target, names),
        explains=any(output.name == "contributions" for output in runner.get_outputs()),
    )


def session(content: bytes) -> Any:
    """A session of one thread, as `Predictor.session` describes it; telemetry is off."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return generation.ready(onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]))


def _top_contributions(names: Sequence[str], contributions: Sequence[float]) -> list[dict[str, Any]]:
    """The `REASONS` features with the largest absolute contributions, largest first."""
    pairs = sorted(zip(names, contributions, strict=True), key=lambda pair: -abs(pair[1]))
    return [{"feature": name, "contribution": value} for name, value in pairs[:REASONS]]
