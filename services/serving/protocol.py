"""The Open Inference Protocol, v2 (https://github.com/kserve/open-inference-protocol), with one tensor per column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from phaseflow import __version__, kinds
from phaseflow.predictor import Row
from services.serving import requests
from services.serving.model import Model
from services.serving.requests import Reader, RefusedError
from services.serving.state import Service

SHAPE = 'Send {"inputs": [{"name", "shape": [N], "datatype", "data": [..]}, ..]}, one tensor per column.'


class Tensor(msgspec.Struct):
    """One column of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class Inference(msgspec.Struct):
    """The body of a request."""

    inputs: list[Tensor]
    id: str = ""


encode = msgspec.json.Encoder().encode
decoder = msgspec.json.Decoder(Inference)


def rows_of(reader: Reader, body: bytes, check: Callable[[], None] = requests.no_check) -> tuple[list[Row], str]:
    """The request's rows and id; raises RefusedError. `check` is called before each image and may raise."""
    request = requests.decode(decoder, body, reader.project, SHAPE)
    tensors: list[Tensor] = request.inputs
    for tensor in tensors:
        size = len(tensor.data)
        if tensor.shape not in ([size], [size, 1]) or size != len(tensors[0].data):
            raise RefusedError(
                f"The tensor {tensor.name[: requests.MAX_QUOTED]!r} of shape {str(tensor.shape)[: requests.MAX_QUOTED]} holds {size} "
                f"values, the first one {len(tensors[0].data)}",
                "Send one value per row in each tensor, and the number of rows as its shape.",
                field=tensor.name[: requests.MAX_QUOTED],
            )
    names = [tensor.name for tensor in tensors]
    columns = zip(*(tensor.data for tensor in tensors), strict=True)
    return requests.convert(reader, [dict(zip(names, row, strict=True)) for row in columns], check), request.id


def infer_response(model: Model, response: dict[str, Any], identity: str) -> dict[str, Any]:
    """Convert a response of `predict` to tensors. Boxes and rankings have no fixed shape, so each row is JSON text."""
    rows, prediction = response["predictions"], model.predictor.prediction
    name = prediction.outputs[0]
    values = [row[name] for row in rows]
    shape = prediction.response_shape(model.project.schema.target)
    if shape:
        values = [item for row in values for item in row]
    elif prediction.serialized:
        values = [encode(value).decode() for value in values]
    outputs = [
        _tensor("id", "BYTES", [row["id"] for row in rows]),
        _tensor(name, prediction.response_datatype, values, *shape),
    ]
    if "probabilities" in rows[0]:
        flat = [share for row in rows for share in row["probabilities"].values()]
        outputs.append(_tensor("probabilities", "FP32", flat, len(rows[0]["probabilities"])))
    return {
        "model_name": response["project"],
        "model_version": response["version"],
        "id": identity or response["request_id"],
        "outputs": outputs,
    }


def _tensor(name: str, datatype: str, data: list[Any], width: int = 0) -> dict[str, Any]:
    shape = [len(data) // width, width] if width else [len(data)]
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def metadata(model: Model) -> dict[str, Any]:
    """A model's inputs and outputs."""
    project = model.project
    target = project.schema.target
    outputs: list[tuple[str, str, list[int]]] = [("id", "BYTES", [-1])]
    prediction = model.predictor.prediction
    outputs.append((prediction.outputs[0], prediction.response_datatype, [-1, *prediction.response_shape(target)]))
    if model.predictor.classes and not prediction.structured:
        outputs.append(("probabilities", "FP32", [-1, len(model.predictor.classes)]))
    return {
        "name": project.name,
        "versions": [model.version],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": column.name, "datatype": kinds.of(column).datatype, "shape": [-1]}
            for column in project.schema.features
        ],
        "outputs": [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in outputs],
    }


def get(service: Service, rest: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a GET under /v2."""
    match [part for part in rest.split("/") if part]:
        case []:
            return 200, {"name": "phaseflow", "version": __version__, "extensions": []}
        case ["health", "live"]:
            live = not service.loops.overdue()
            return (200 if live else 503), {"live": live}
        case ["health", "ready"]:
            return (200 if service.ready else 503), {"ready": service.ready}
        case ["models", name]:
            return 200, metadata(service.model(name))
        case ["models", name, "ready"]:
            return 200, {"name": service.model(name).project.name, "ready": True}
        case _:
            raise RefusedError(
                f"/v2/{rest[: requests.MAX_QUOTED]} is not part of the protocol", "See /docs.", status=404
            )
