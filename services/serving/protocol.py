"""The Open Inference Protocol, v2 (https://github.com/kserve/open-inference-protocol): a tensor a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from phaseflow import __version__, answers
from services.serving import requests
from services.serving.model import Model
from services.serving.requests import Reader, RefusedError, Row
from services.serving.state import Service

DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL"}
SHAPE = 'Send {"inputs": [{"name", "shape": [N], "datatype", "data": [..]}, ..]}, a tensor a column.'


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


encode = msgspec.json.Encoder().encode
decoder = msgspec.json.Decoder(Inference)


def rows_of(reader: Reader, body: bytes, check: Callable[[], None] = requests.no_check) -> tuple[list[Row], str]:
    """The request's rows and its id; raises RefusedError, and what `check` raises, which is called between two images."""
    request = requests.decoded(decoder, body, reader.project, SHAPE)
    tensors: list[Tensor] = request.inputs
    for tensor in tensors:
        size = len(tensor.data)
        if tensor.shape not in ([size], [size, 1]) or size != len(tensors[0].data):
            raise RefusedError(
                f"The tensor {tensor.name[: requests.SHOWN]!r} of shape {str(tensor.shape)[: requests.SHOWN]} holds {size} "
                f"values, the first one {len(tensors[0].data)}",
                "Send one value a row in each, and their number as its shape.",
                field=tensor.name[: requests.SHOWN],
            )
    names = [tensor.name for tensor in tensors]
    columns = zip(*(tensor.data for tensor in tensors), strict=True)
    return requests.converted(reader, [dict(zip(names, row, strict=True)) for row in columns], check), request.id


def answered(said: dict[str, Any], identity: str) -> dict[str, Any]:
    """Our answer as tensors."""
    rows = said["predictions"]
    outputs = [_tensor("id", "BYTES", [row["id"] for row in rows])]
    name = next(key for key in rows[0] if key != "id")
    told = [row[name] for row in rows]
    if name == "value":
        outputs.append(_tensor(name, "FP32", told))
    elif name == "action":
        outputs.append(_tensor(name, "FP32", [number for row in told for number in row], len(told[0])))
    elif name != "label":  # boxes and rankings have no shape of their own: JSON, a text a row
        outputs.append(_tensor(name, "BYTES", [one if name == "text" else encode(one).decode() for one in told]))
    else:
        flat = [share for row in rows for share in row["probabilities"].values()]
        outputs.append(_tensor("label", "BYTES", [row["label"] for row in rows]))
        outputs.append(_tensor("probabilities", "FP32", flat, len(rows[0]["probabilities"])))
    return {
        "model_name": said["project"],
        "model_version": said["version"],
        "id": identity or said["request_id"],
        "outputs": outputs,
    }


def _tensor(name: str, datatype: str, data: list[Any], width: int = 0) -> dict[str, Any]:
    shape = [len(data) // width, width] if width else [len(data)]
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def metadata(model: Model) -> dict[str, Any]:
    """A model's inputs and outputs."""
    project, width = model.project, len(model.classes)
    target = project.schema.target
    told: list[tuple[str, str, list[int]]] = [("id", "BYTES", [-1])]
    match answers.kind(target, model.classes):
        case "category":
            told += [("label", "BYTES", [-1]), ("probabilities", "FP32", [-1, width])]
        case "number":
            told += [("value", "FP32", [-1])]
        case "action":
            assert target is not None  # noqa: S101  # its kind was asked
            told += [("action", "FP32", [-1, target.size])]
        case kind:
            told += [(kind, "BYTES", [-1])]
    return {
        "name": project.name,
        "versions": [model.version],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": column.name, "datatype": DATATYPES.get(column.kind, "BYTES"), "shape": [-1]}
            for column in project.schema.features
        ],
        "outputs": [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in told],
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
            raise RefusedError(f"/v2/{rest[: requests.SHOWN]} is not part of the protocol", "See /docs.", status=404)
