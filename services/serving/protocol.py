"""The Open Inference Protocol, v2 (https://github.com/kserve/open-inference-protocol): a tensor a column."""

from __future__ import annotations

from typing import Any

import msgspec

from phaseflow.contract import Project
from services.serving import requests
from services.serving.model import Row
from services.serving.requests import Reader, RefusedError
from services.serving.state import Service

DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL"}


class Tensor(msgspec.Struct):
    """One column of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class Inference(msgspec.Struct):
    """A request."""

    inputs: list[Tensor]
    id: str = ""


decoder = msgspec.json.Decoder(Inference)


def rows_of(reader: Reader, body: bytes) -> tuple[list[Row], str]:
    """The request's rows and its id; raises RefusedError."""
    try:
        request = decoder.decode(body)
    except msgspec.DecodeError as error:
        raise requests.explained(error, reader.project) from error
    sizes = {len(tensor.data) for tensor in request.inputs}
    if len(sizes) != 1 or any(tensor.shape[:1] != [len(tensor.data)] for tensor in request.inputs):
        raise RefusedError("The tensors' lengths differ, or differ from their shapes", "Send one value a row in each.")
    columns = [tensor.data for tensor in request.inputs]
    names = [tensor.name for tensor in request.inputs]
    return requests.converted(
        reader, [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    ), request.id


def answered(said: dict[str, Any], identity: str) -> dict[str, Any]:
    """Our answer as tensors."""
    rows = said["predictions"]
    shape = [len(rows)]
    outputs: list[dict[str, Any]] = [
        {"name": "id", "shape": shape, "datatype": "BYTES", "data": [row["id"] for row in rows]}
    ]
    if "value" in rows[0]:
        outputs.append({"name": "value", "shape": shape, "datatype": "FP32", "data": [row["value"] for row in rows]})
    else:
        flat = [share for row in rows for share in row["probabilities"].values()]
        wide = [len(rows), len(rows[0]["probabilities"])]
        outputs.append({"name": "label", "shape": shape, "datatype": "BYTES", "data": [row["label"] for row in rows]})
        outputs.append({"name": "probabilities", "shape": wide, "datatype": "FP32", "data": flat})
    return {
        "model_name": said["project"],
        "model_version": said["version"],
        "id": identity or said["request_id"],
        "outputs": outputs,
    }


def metadata(project: Project, version: str) -> dict[str, Any]:
    """A model's inputs."""
    return {
        "name": project.name,
        "versions": [version],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": column.name, "datatype": DATATYPES.get(column.kind, "BYTES"), "shape": [-1]}
            for column in project.schema.features
        ],
    }


def get(service: Service, rest: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a GET under /v2."""
    parts = [part for part in rest.split("/") if part]
    match parts:
        case []:
            return 200, {"name": "phaseflow", "version": "2", "extensions": []}
        case ["health", "live"]:
            return 200, {"live": True}
        case ["health", "ready"]:
            return (200 if service.manager.ready else 503), {"ready": service.manager.ready}
        case ["models", name] | ["models", name, "ready"]:
            try:
                model = service.model(name)
            except RefusedError as error:
                return error.status, {"error": f"{error.problem}. {error.fix}"}
            return 200, {"ready": True} if parts[-1] == "ready" else metadata(model.project, model.version)
        case _:
            return 404, {"error": f"/v2/{rest} is not part of the protocol"}
