"""The REST calls, as KFP 2.17's API server answers them (https://www.kubeflow.org/docs/components/pipelines/reference/api).

Only what the operator and `kfp.Client` call is here; another path is a 404 that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from phaseflow.settings import Settings
from pipelines.engine.runs import Runner, log_of
from pipelines.engine.state import Record, State, now

API = "/apis/v2beta1"
LARGEST = 16 << 20
"""Bytes of an uploaded pipeline."""
HIDDEN = ("pid", "started", "pipeline_name")


def refuse(status: int, message: str) -> JSONResponse:
    """An error as gRPC's gateway writes it."""
    code = {400: 3, 404: 5, 409: 6, 413: 8}.get(status, 13)
    return JSONResponse({"error": message, "code": code, "message": message, "details": []}, status)


def page(name: str, records: list[Record], request: Request) -> JSONResponse:
    """One page of a list; the token is the offset."""
    size = int(request.query_params.get("page_size") or 20)
    offset = int(request.query_params.get("page_token") or 0)
    chosen = records[offset : offset + size]
    more = str(offset + size) if offset + size < len(records) else ""
    return JSONResponse({name: chosen, "total_size": len(records), "next_page_token": more})


def shown(run: Record) -> Record:
    """A run as the API shows it."""
    found = {key: value for key, value in run.items() if key not in HIDDEN}
    found["state_history"] = [{"update_time": run["created_at"], "state": "PENDING"}]
    return found


def parsed(text: str | bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The pipeline's specification and its platform's; raises ValueError when the text is no pipeline."""
    try:
        documents = [one for one in yaml.safe_load_all(text) if one]
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    if not documents or not isinstance(documents[0], dict) or "pipelineInfo" not in documents[0]:
        raise ValueError("no compiled pipeline: pipelineInfo is missing. Compile it with kfp's compiler.")
    return documents[0], documents[1] if len(documents) > 1 else None


def application(settings: Settings) -> Starlette:  # noqa: PLR0915  # a list of routes over one state
    """The engine of this machine, its state under `<home>/pipelines`."""
    state = State(settings.home / "pipelines")
    runner = Runner(state, settings)

    def default_experiment() -> Record:
        found = next((one for one in state.all("experiments") if one["display_name"] == "Default"), None)
        return found or new_experiment("Default", "")

    def new_experiment(name: str, description: str) -> Record:
        identity = str(uuid.uuid4())
        record = {
            "experiment_id": identity,
            "display_name": name,
            "description": description,
            "created_at": now(),
            "namespace": "",
            "storage_state": "AVAILABLE",
        }
        return state.write("experiments", identity, record)

    def new_version(pipeline: Record, name: str, text: bytes) -> Record:
        spec, platform = parsed(text)
        identity = str(uuid.uuid4())
        whole = {"pipeline_spec": spec, "platform_spec": platform} if platform else spec
        record = {
            "pipeline_id": pipeline["pipeline_id"],
            "pipeline_version_id": identity,
            "name": name,
            "display_name": name,
            "created_at": now(),
            "pipeline_spec": whole,
        }
        return state.write("versions", identity, record)

    async def uploaded(request: Request) -> bytes:
        form = await request.form(max_part_size=LARGEST)
        file = form.get("uploadfile")
        if file is None or isinstance(file, str):
            raise ValueError("the form has no file uploadfile")
        return await file.read()

    async def upload(request: Request) -> Response:
        content = await uploaded(request)
        spec, _ = parsed(content)
        name = request.query_params.get("name") or spec["pipelineInfo"]["name"]
        if state.pipeline(name):
            return refuse(409, f"A pipeline {name!r} already exists. Upload a version of it.")
        identity = str(uuid.uuid4())
        record = {
            "pipeline_id": identity,
            "name": name,
            "display_name": request.query_params.get("display_name") or name,
            "description": request.query_params.get("description", ""),
            "created_at": now(),
            "namespace": "",
        }
        new_version(record, name, content)
        return JSONResponse(state.write("pipelines", identity, record))

    async def upload_version(request: Request) -> Response:
        query = request.query_params
        pipeline = state.read("pipelines", query.get("pipelineid", ""))
        if pipeline is None:
            return refuse(404, f"There is no pipeline {query.get('pipelineid')!r}.")
        name = query.get("name") or str(uuid.uuid4())
        if any(version["name"] == name for version in state.versions(pipeline["pipeline_id"])):
            return refuse(409, f"A version {name!r} already exists.")
        return JSONResponse(new_version(pipeline, name, await uploaded(request)))

    async def pipelines(request: Request) -> Response:
        return page("pipelines", list(state.all("pipelines")), request)

    async def pipeline_by_name(request: Request) -> Response:
        found = state.pipeline(request.path_params["name"])
        return JSONResponse(found) if found else refuse(404, f"There is no pipeline {request.path_params['name']!r}.")

    async def pipeline(request: Request) -> Response:
        found = state.read("pipelines", request.path_params["id"])
        return JSONResponse(found) if found else refuse(404, f"There is no pipeline {request.path_params['id']!r}.")

    async def versions(request: Request) -> Response:
        return page("pipeline_versions", state.versions(request.path_params["id"]), request)

    async def version(request: Request) -> Response:
        found = state.read("versions", request.path_params["version"])
        return JSONResponse(found) if found else refuse(404, f"There is no version {request.path_params['version']!r}.")

    async def experiments(request: Request) -> Response:
        if request.method == "POST":
            body = await request.json()
            name = body.get("display_name", "")
            if any(one["display_name"] == name for one in state.all("experiments")):
                return refuse(409, f"An experiment {name!r} already exists.")
            return JSONResponse(new_experiment(name, body.get("description", "")))
        default_experiment()
        found = list(state.all("experiments"))
        wanted = json.loads(request.query_params.get("filter") or "{}")
        for predicate in wanted.get("predicates", []):
            value = predicate.get("string_value", predicate.get("stringValue"))
            found = [one for one in found if one["display_name"] == value]
        return page("experiments", found, request)

    async def experiment(request: Request) -> Response:
        found = state.read("experiments", request.path_params["id"])
        return JSONResponse(found) if found else refuse(404, f"There is no experiment {request.path_params['id']!r}.")

    async def create_run(request: Request) -> Response:
        body = await request.json()
        reference = body.get("pipeline_version_reference") or {}
        spec: dict[str, Any] | None = body.get("pipeline_spec")
        if reference:
            chosen = state.read("versions", reference.get("pipeline_version_id", ""))
            if chosen is None and reference.get("pipeline_id"):
                chosen = next(iter(state.versions(reference["pipeline_id"])), None)
            if chosen is None:
                return refuse(404, f"There is no version {reference.get('pipeline_version_id')!r}.")
            spec = chosen["pipeline_spec"]
        if not spec:
            return refuse(400, "A run needs a pipeline_version_reference or a pipeline_spec.")
        inner = spec.get("pipeline_spec", spec)
        if "pipelineInfo" not in inner:
            return refuse(400, "pipeline_spec is no compiled pipeline: pipelineInfo is missing.")
        parameters = (body.get("runtime_config") or {}).get("parameters") or {}
        wanted = inner.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
        unknown = sorted(set(parameters) - set(wanted))
        missing = sorted(
            name
            for name, one in wanted.items()
            if name not in parameters and "defaultValue" not in one and not one.get("isOptional")
        )
        if unknown or missing:
            return refuse(
                400, f"Parameters: unknown {unknown}, missing {missing}; the pipeline takes {sorted(wanted)}."
            )
        identity = str(uuid.uuid4())
        record = {
            "run_id": identity,
            "experiment_id": body.get("experiment_id") or default_experiment()["experiment_id"],
            "display_name": body.get("display_name") or identity,
            "storage_state": "AVAILABLE",
            "pipeline_version_reference": reference or None,
            "runtime_config": {"parameters": parameters},
            "created_at": now(),
            "scheduled_at": now(),
            "state": "PENDING",
            "error": None,
            "pipeline_name": inner["pipelineInfo"]["name"],
        }
        return JSONResponse(shown(runner.create(record, inner, parameters)))

    async def runs(request: Request) -> Response:
        if request.method == "POST":
            return await create_run(request)
        found = [shown(run) for run in state.all("runs")]
        wanted = json.loads(request.query_params.get("filter") or "{}")
        for predicate in wanted.get("predicates", []):
            if predicate.get("key") in {"display_name", "name"}:
                value = predicate.get("string_value", predicate.get("stringValue"))
                found = [run for run in found if run["display_name"] == value]
        return page("runs", found, request)

    async def run(request: Request) -> Response:
        found = state.read("runs", request.path_params["id"])
        return JSONResponse(shown(found)) if found else refuse(404, f"There is no run {request.path_params['id']!r}.")

    async def run_log(request: Request) -> Response:
        if state.read("runs", request.path_params["id"]) is None:
            return refuse(404, f"There is no run {request.path_params['id']!r}.")
        return PlainTextResponse(log_of(state.folder("runs", request.path_params["id"])))

    async def terminate(request: Request) -> Response:
        if runner.terminate(request.path_params["id"]):
            return JSONResponse({})
        return refuse(404, f"There is no run {request.path_params['id']!r}.")

    async def health(_: Request) -> Response:
        return JSONResponse({"multi_user": False, "pipeline_store": "database"})

    async def absent(request: Request) -> Response:
        return refuse(
            404, f"{request.method} {request.url.path} is not served by the embedded engine, a part of KFP's API."
        )

    async def wrong(_: Request, error: Exception) -> Response:
        return refuse(400, str(error))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(runner.serve())
        yield
        task.cancel()

    routes = [
        Route(f"{API}/healthz", health),
        Route(f"{API}/pipelines/upload", upload, methods=["POST"]),
        Route(f"{API}/pipelines/upload_version", upload_version, methods=["POST"]),
        Route(f"{API}/pipelines/names/{{name}}", pipeline_by_name),
        Route(f"{API}/pipelines", pipelines),
        Route(f"{API}/pipelines/{{id}}", pipeline),
        Route(f"{API}/pipelines/{{id}}/versions", versions),
        Route(f"{API}/pipelines/{{id}}/versions/{{version}}", version),
        Route(f"{API}/experiments", experiments, methods=["GET", "POST"]),
        Route(f"{API}/experiments/{{id}}", experiment),
        Route(f"{API}/runs", runs, methods=["GET", "POST"]),
        Route(f"{API}/runs/{{id}}:terminate", terminate, methods=["POST"]),
        Route(f"{API}/runs/{{id}}/log", run_log),
        Route(f"{API}/runs/{{id}}", run),
        Route("/{rest:path}", absent, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={ValueError: wrong, KeyError: wrong})
