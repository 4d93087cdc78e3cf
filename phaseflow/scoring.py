"""MLflow's python_function of a registered model: it predicts the rows of a DataFrame as the service does.

MLflow loads this module from the model itself, which contains the modules that it needs (`pipelines/steps/flavor.py`).
Neither an installed phaseflow nor a project is needed. The module works without the settings and secrets of a platform,
so personal columns must contain their keyed hashes already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from phaseflow import formats, kinds, predictor
from phaseflow.columns import Column, Schema
from phaseflow.errors import DataError, suggestion
from phaseflow.predictor import Predictor, Row
from phaseflow.reference import PREDICTION

MODEL: Final = "model.onnx"
CONTRACT: Final = "extra_files/contract.json"
BATCH: Final = 1000
"""Rows that the graph computes at once, so that a large DataFrame does not fill the memory."""
HASH: Final = re.compile(r"[0-9a-f]{32}")
"""A keyed hash, see `phaseflow.personal`."""


def contract(schema: Schema, classes: Sequence[str] | None) -> dict[str, Any]:
    """The content of `contract.json`."""
    return {
        "format": formats.CONTRACT,
        "features": [asdict(column) for column in schema.features],
        "target": None if schema.target is None else asdict(schema.target),
        "classes": list(classes) if classes else None,
    }


def _column(content: Mapping[str, Any]) -> Column:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Column(**fields)


def _load_pyfunc(path: str) -> Scorer:
    """Load the model in the folder `path`; MLflow calls this function."""
    content = json.loads((Path(path) / CONTRACT).read_bytes())
    formats.require(f"{CONTRACT} in {path}", content.get("format"), formats.CONTRACT)
    target = content["target"]
    schema = Schema(
        features=tuple(map(_column, content["features"])), target=None if target is None else _column(target)
    )
    return Scorer(predictor.load((Path(path) / MODEL).read_bytes(), schema, content["classes"]))


@dataclass(frozen=True, slots=True)
class Scorer:
    """What `mlflow.pyfunc.load_model` wraps."""

    predictor: Predictor

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        """Predict rows [N].

        Returns the fields of the service's response, with the same index: `prediction`, `probabilities` for classifiers,
        and `why` for models that explain their predictions. Raises MlflowException, which names the column and the fix.
        """
        try:
            rows = self._rows(model_input)
            predictions = [item for start in range(0, len(rows), BATCH) for item in self._predict(rows, start)]
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        names = [PREDICTION]
        names += ["probabilities"] if self.predictor.prediction is kinds.CATEGORY else []
        names += ["why"] if self.predictor.explains else []
        # Columns of the dtype object keep texts, lists and dictionaries as they are; numbers become float64.
        columns = {name: pd.Series([item[name] for item in predictions], model_input.index, object) for name in names}
        return pd.DataFrame(columns).infer_objects()

    def get_raw_model(self) -> Any:
        """The onnxruntime session; MLflow's `PyFuncModel.get_raw_model` calls this function."""
        return self.predictor.session

    def _rows(self, model_input: pd.DataFrame) -> list[Row]:
        """The rows in the order of the schema; raises DataError for the first value that its column does not accept."""
        missing = pd.Series(None, model_input.index, object)
        columns = [
            _cells(column, _values(model_input.get(column.name, missing))) for column in self.predictor.schema.features
        ]
        return list(zip(*columns, strict=True))

    def _predict(self, rows: list[Row], start: int) -> list[dict[str, Any]]:
        """The predictions of the rows from `start` to `start + BATCH`; raises DataError if one is not finite."""
        output = self.predictor.predict(rows[start : start + BATCH])
        if output.first_non_finite is not None:
            raise DataError(
                f"The model's prediction for row {start + output.first_non_finite} is not finite",
                fix="Send values closer to the training data",
            )
        name = self.predictor.prediction.outputs[0]
        return [{PREDICTION: fields.pop(name), **fields} for fields in self.predictor.fields(output)]


def _values(cells: pd.Series[Any]) -> list[Any]:
    """The values of a column as Python objects; None is missing."""
    values = cells.astype(object).where(cells.notna(), None).tolist()
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _cells(column: Column, values: list[Any]) -> list[Any]:
    """The values [N] of a column in the form that the predictor expects; raises DataError if one is not accepted."""
    if kinds.of(column) is kinds.IMAGE:
        return [_pixels(column, value, number) for number, value in enumerate(values)]
    accepted = kinds.of(column).json_type(column)
    for number, value in enumerate(values):
        if not accepted.accepts(value) or (column.closed and value is not None and value not in column.allowed):
            raise _refusal(column, value, number)
        if column.hashed and value and not HASH.fullmatch(value):
            raise DataError(
                f"{column.name} of row {number} is {value!r:.100}, but the column is personal and the model was trained "
                "on its keyed hashes",
                fix="Take the hashes from a snapshot or the prediction log, or let the service predict the row",
            )
    return values


def _refusal(column: Column, value: Any, number: int) -> DataError:
    """The error for a value that its column does not accept."""
    where, send = f"{column.name} of row {number}", f"Send {kinds.form(column)}"
    if value is None:
        return DataError(f"{where} is missing", fix=send)
    return DataError(f"{where} is {value!r:.100}", fix=suggestion(str(value)[:100], column.allowed) or send)


def _pixels(column: Column, value: Any, number: int) -> bytes:
    """The pixels of an image file in bytes or base64; raises DataError."""
    from phaseflow.kinds import image_files  # noqa: PLC0415  # only models of images need Pillow

    if value is None:
        raise _refusal(column, value, number)
    where = f"{column.name} of row {number}"
    try:
        content = kinds.IMAGE.read(value) if isinstance(value, str) else bytes(memoryview(value))
        return image_files.decode(content, column.shape)
    except DataError as error:
        raise DataError(f"{where}: {error.problem}", fix=error.fix) from error
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where} is not an image: {error!s:.100}", fix=f"Send {kinds.form(column)}, or its bytes"
        ) from error
