"""The MLflow flavours of a registered model: `onnx`, and a `python_function` that needs no phaseflow.

MLflow's own python_function for ONNX passes the columns of a DataFrame to the graph as they are, which no graph with
several inputs [N, 1] accepts. `phaseflow.scoring` takes its place: MLflow loads it from the model, without a pickle.
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import mlflow
import onnx
import pandas as pd
import polars as pl
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, Property
from mlflow.types.schema import Schema as MlflowSchema

import phaseflow
from phaseflow import generation, kinds, prediction_types, scoring
from phaseflow.columns import Column, Schema
from phaseflow.kinds import image_files
from phaseflow.reference import PREDICTION

LOADER: Final = "phaseflow.scoring"
CODE: Final = (
    "__init__.py",
    "checks.py",
    "columns.py",
    "errors.py",
    "formats.py",
    "generation.py",
    "kinds/*.py",
    "log.py",
    "prediction_types.py",
    "predictor.py",
    "reference.py",
    "scoring.py",
)
"""The part of phaseflow in a model: `LOADER` and all that it imports."""
REQUIREMENTS: Final = ("numpy", "onnxruntime", "pandas", "pillow")
"""What `CODE` imports: the same for every project, so that one environment serves all."""
TYPES: Final[Mapping[str, DataType]] = {
    "Float64": DataType.double,
    "Int64": DataType.long,
    "Boolean": DataType.boolean,
    "String": DataType.string,
    "Binary": DataType.binary,
}
"""MLflow's types by the dtype of a kind. An image is the content of its file, which is base64 in JSON."""


def save_model(
    path: str,
    mlflow_model: Model,
    *,
    content: bytes,
    manifest: bytes,
    schema: Schema,
    classes: Sequence[str] | None,
    example: pl.DataFrame,
) -> None:
    """Write a model with both flavours to the folder `path`; `mlflow.models.Model.log` calls this function.

    `content` is the ONNX file, `manifest` the content of `model.json`, and `example` contains a few rows of the schema.
    """
    graph = onnx.load_model_from_string(content)
    signature = _signature(schema, classes, explains=any(node.name == "contributions" for node in graph.graph.output))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.json").write_bytes(manifest)
        (folder / "contract.json").write_text(json.dumps(scoring.contract(schema, classes), separators=(",", ":")))
        mlflow.onnx.save_model(
            graph,
            path,
            mlflow_model=mlflow_model,
            code_paths=[str(_copy_code(folder / "phaseflow"))],
            signature=signature,
            input_example=_frame(example, schema),
            extra_files=[str(folder / "model.json"), str(folder / "contract.json")],
            conda_env=_environment(graph),
            onnx_execution_providers=["CPUExecutionProvider"],
            save_as_external_data=False,  # one file, whose digest is registered
        )
    python_function = mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME]
    python_function[mlflow.pyfunc.MAIN] = LOADER
    del python_function[mlflow.pyfunc.DATA]  # `LOADER` gets the folder of the whole model
    mlflow_model.save(str(Path(path) / MLMODEL_FILE_NAME))


def _copy_code(folder: Path) -> Path:
    """Copy `CODE` to a folder, and return the folder."""
    package = Path(phaseflow.__file__).parent
    for pattern in CODE:
        for file in package.glob(pattern):
            copy = folder / file.relative_to(package)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return folder


def _environment(graph: onnx.ModelProto) -> dict[str, Any]:
    """The packages that the model needs, in the versions of this environment, which are those of the lock file.

    MLflow adds its own version, and derives the files for pip and virtualenv. It would make this file for conda too, with
    a warning that this environment has no pip.
    """
    generates = any(item.key == generation.SETTINGS for item in graph.metadata_props)
    names = [*REQUIREMENTS, "tokenizers"] if generates else REQUIREMENTS
    packages = [f"{name}=={version(name)}" for name in names]
    python = [f"python={platform.python_version()}", "pip"]
    return {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": [*python, {"pip": packages}]}


def _signature(schema: Schema, classes: Sequence[str] | None, *, explains: bool) -> ModelSignature:
    """The signature by the contract: a nullable column is optional, and the outputs are those of `Scorer.predict`."""
    prediction = prediction_types.of(schema.target, classes or ())
    outputs = [ColSpec(_output_type(prediction.json_schema(schema.target)), PREDICTION)]
    if prediction is kinds.CATEGORY:
        outputs.append(ColSpec(Map(DataType.double), "probabilities"))
    if explains:
        reason = Object([Property("feature", DataType.string), Property("contribution", DataType.double)])
        outputs.append(ColSpec(Array(reason), "why"))
    inputs = [ColSpec(_input_type(column), column.name, required=not column.nullable) for column in schema.features]
    return ModelSignature(inputs=MlflowSchema([*inputs]), outputs=MlflowSchema([*outputs]))


def _input_type(column: Column) -> DataType | AnyType:
    """The type of a column of the DataFrame."""
    dtype = kinds.of(column).dtype
    if column.nullable and dtype == "Int64":
        return DataType.double  # pandas' integers have no missing value
    if column.nullable and dtype == "Boolean":
        return AnyType()  # type: ignore[no-untyped-call]  # MLflow reads the null of a boolean as false
    return TYPES[dtype]


def _output_type(schema: Mapping[str, Any]) -> DataType | Array | Object:
    """The type of values with a JSON Schema of `Prediction.json_schema`."""
    match schema["type"]:
        case "array":
            return Array(_output_type(schema["items"]))
        case "object":
            return Object([Property(name, _output_type(part)) for name, part in schema["properties"].items()])
        case "number":
            return DataType.double
        case _:
            return DataType.string


def _frame(rows: pl.DataFrame, schema: Schema) -> pd.DataFrame:
    """Rows as the DataFrame that the python_function takes."""
    columns = {}
    for column in schema.features:
        values = rows[column.name].to_list()
        if kinds.of(column) is kinds.IMAGE:
            values = [image_files.encode(value, column.shape) for value in values]
        columns[column.name] = values
    return pd.DataFrame(columns, dtype=object)  # a missing number stays null in the JSON of the example
