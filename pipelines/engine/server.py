"""The REST API of KFP 2.17's API server (https://www.kubeflow.org/docs/components/pipelines/reference/api).

Only the calls of the operator and of `kfp.Client` are implemented; other paths return 404. Starting a run means running
code as this user, so everything but reading requires the secret `engine_token`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from phaseflow import access
from phaseflow.clients.kfp import API, PENDING, TOKEN
from phaseflow.errors import PlatformError
from phaseflow.log import logger
from phaseflow.loops import Loops
from phaseflow.settings import Settings
from pipelines.engine import fields
from pipelines.engine.body import json_body, uploaded_file
from pipelines.engine.metrics import exposition
from pipelines.engine.refusals import HANDLERS, RefusedError, access_body, format_value, response
from pipelines.engine.runs import Runner, read_log
from pipelines.engine.specification import parse, to_specification
from pipelines.engine.state import Record, State, now

UPLOADS: Final = f"{API}/pipelines/upload"
"""Prefix of the paths that take a file."""
HIDDEN: Final = ("pid", "start_ticks", "started", "pipeline_name")
LOOP: Final = "runs"
MAX_AGE_SECONDS: Final = 120.0
"""Maximum time without a successful check of the runs, which includes slow imports of projects."""


def application(settings: Settings, loops: Loops | None = None) -> access.Application:
    """Return the engine as an ASGI application with the access rules. Its state is in `<home>/pipelines`."""
    engine = Engine(settings, Loops() if loops is None else loops)
    app = Starlette(routes=engine.routes(), lifespan=engine.lifespan, exception_handlers=HANDLERS)
    return access.guarded(app, rules(settings))


def rules(settings: Settings) -> access.Policy:
    """Return the access rules: known hosts may read, everything else needs the token, and only uploads take files."""

    def tokens() -> Mapping[str, str]:
        try:
            return {"engine": settings.secret(TOKEN)}
        except (PlatformError, OSError) as error:
            logger.warning("nothing can be started: %s", error)
            return {}

    return access.policy(
        settings,
        protected=lambda method, _path: method not in access.SAFE_METHODS,
        content_types=lambda path: frozenset({"multipart/form-data"}) if path.startswith(UPLOADS) else access.JSON_ONLY,
        tokens=tokens,
        credential=f"the secret {TOKEN} (`kfp.Client(existing_token=…)`)",
        body=access_body,
    )


class Engine:
    """The API calls on one state."""

    def __init__(self, settings: Settings, loops: Loops) -> None:
        self._state = State(settings.home / "pipelines")
        self._loops = loops
        self._runner = Runner(self._state, settings, functools.partial(loops.beat, LOOP))

    def routes(self) -> list[Route]:
        """Return all routes; the first match is used."""
        return [
            Route("/metrics", self.metrics),
            Route(f"{API}/healthz", self.health),
            Route(UPLOADS, self.upload, methods=["POST"]),
            Route(f"{UPLOADS}_version", self.upload_version, methods=["POST"]),
            Route(f"{API}/pipelines/names/{{name}}", self.pipeline_by_name),
            Route(f"{API}/pipelines", self.pipelines),
            Route(f"{API}/pipelines/{{id}}", self.pipeline),
            Route(f"{API}/pipelines/{{id}}/versions", self.versions),
            Route(f"{API}/pipelines/{{id}}/versions/{{version}}", self.version),
            Route(f"{API}/experiments", self.experiments),
            Route(f"{API}/experiments", self.create_experiment, methods=["POST"]),
            Route(f"{API}/experiments/{{id}}", self.experiment),
            Route(f"{API}/runs", self.runs),
            Route(f"{API}/runs", self.create_run, methods=["POST"]),
            Route(f"{API}/runs/{{id}}:terminate", self.terminate, methods=["POST"]),
            Route(f"{API}/runs/{{id}}/log", self.run_log),
            Route(f"{API}/runs/{{id}}", self.run),
            Route(f"{API}/runs/{{id}}", self.delete_run, methods=["DELETE"]),
            Route("/{rest:path}", self.absent, methods=["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Run the queue while the service is up."""
        for kind in ("pipelines", "versions", "experiments"):
            for damaged in self._state.load(kind)[1]:
                logger.warning("ignoring a record of %s, %s: %s", kind, damaged.identity, damaged.problem)
        try:
            self._default_experiment()
        except PlatformError as error:  # the disk is full; the first run creates it
            logger.warning("%s", error)
        self._loops.start(LOOP, self._runner.iterate, seconds=0.0, max_age=MAX_AGE_SECONDS)
        yield
        await self._loops.stop()

    async def metrics(self, _: Request) -> Response:
        """Return the Prometheus metrics."""
        return PlainTextResponse(exposition(self._loops))

    async def health(self, _: Request) -> Response:
        """Return 503 if the runs are no longer checked."""
        if overdue := self._loops.overdue():
            return response(503, f"The loop {', '.join(overdue)} is overdue. Read the engine's log.")
        return JSONResponse({"multi_user": False, "pipeline_store": "database"})

    async def upload(self, request: Request) -> Response:
        """Create a pipeline with its first version."""
        query = request.query_params
        spec, platform = await _pipeline(await uploaded_file(request))
        name = fields.text(query, "name") or to_specification(spec).name
        if self._state.pipeline(name):
            raise RefusedError(409, f"A pipeline {format_value(name)} already exists. Upload a version of it.")
        identity = str(uuid.uuid4())
        record = {
            "pipeline_id": identity,
            "name": name,
            "display_name": fields.text(query, "display_name") or name,
            "description": fields.text(query, "description", limit=fields.MAX_DESCRIPTION),
            "created_at": now(),
            "namespace": "",
        }
        self._new_version(record, name, spec, platform)
        return JSONResponse(self._state.write("pipelines", identity, record))

    async def upload_version(self, request: Request) -> Response:
        """Create a version of a pipeline."""
        query = request.query_params
        pipeline = self._get_record("pipelines", fields.text(query, "pipelineid"))
        name = fields.text(query, "name") or str(uuid.uuid4())
        spec, platform = await _pipeline(await uploaded_file(request))
        if any(version["name"] == name for version in self._state.versions(pipeline["pipeline_id"])):
            raise RefusedError(409, f"A version {format_value(name)} already exists.")
        return JSONResponse(self._new_version(pipeline, name, spec, platform))

    async def pipelines(self, request: Request) -> Response:
        """List all pipelines, newest first."""
        return _page("pipelines", _filter_by_name(self._state.all("pipelines"), request), request)

    async def pipeline_by_name(self, request: Request) -> Response:
        """Return the pipeline with that name."""
        name = request.path_params["name"]
        pipeline = self._state.pipeline(name)
        if pipeline is None:
            raise RefusedError(404, f"There is no pipeline {format_value(name)}.")
        return JSONResponse(pipeline)

    async def pipeline(self, request: Request) -> Response:
        """Return one pipeline."""
        return JSONResponse(self._get_record("pipelines", request.path_params["id"]))

    async def versions(self, request: Request) -> Response:
        """List a pipeline's versions, newest first."""
        return _page(
            "pipeline_versions", _filter_by_name(self._state.versions(request.path_params["id"]), request), request
        )

    async def version(self, request: Request) -> Response:
        """Return one version."""
        return JSONResponse(self._get_record("versions", request.path_params["version"]))

    async def experiments(self, request: Request) -> Response:
        """List all experiments, newest first."""
        return _page("experiments", _filter_by_name(self._state.all("experiments"), request), request)

    async def create_experiment(self, request: Request) -> Response:
        """Create an experiment."""
        body = await json_body(request)
        name = fields.text(body, "display_name")
        if not name:
            raise RefusedError(400, "An experiment needs a display_name.")
        description = fields.text(body, "description", limit=fields.MAX_DESCRIPTION)
        if any(experiment["display_name"] == name for experiment in self._state.all("experiments")):
            raise RefusedError(409, f"An experiment {format_value(name)} already exists.")
        return JSONResponse(self._new_experiment(name, description))

    async def experiment(self, request: Request) -> Response:
        """Return one experiment."""
        return JSONResponse(self._get_record("experiments", request.path_params["id"]))

    async def create_run(self, request: Request) -> Response:
        """Queue a run of a version, or of the pipeline in the body."""
        body = await json_body(request)
        reference = fields.mapping(body, "pipeline_version_reference")
        whole = self._referenced_spec(reference) if reference else fields.mapping(body, "pipeline_spec")
        if not whole:
            raise RefusedError(400, "A run needs a pipeline_version_reference or a pipeline_spec.")
        try:
            pipeline = to_specification(whole)
        except ValueError as error:
            raise RefusedError(400, str(error)) from error
        parameters = fields.mapping(fields.mapping(body, "runtime_config"), "parameters")
        declared = pipeline.parameters
        unknown = sorted(set(parameters) - set(declared))
        missing = sorted(
            name
            for name, parameter in declared.items()
            if name not in parameters and "defaultValue" not in parameter and not parameter.get("isOptional")
        )
        if unknown or missing:
            raise RefusedError(
                400, f"Parameters: unknown {unknown}, missing {missing}; the pipeline takes {sorted(declared)}."
            )
        identity = str(uuid.uuid4())
        display_name = fields.text(body, "display_name") or identity
        experiment = fields.text(body, "experiment_id")
        record = {
            "run_id": identity,
            "experiment_id": self._get_record("experiments", experiment)["experiment_id"]
            if experiment
            else self._default_experiment()["experiment_id"],
            "display_name": display_name,
            "storage_state": "AVAILABLE",
            "pipeline_version_reference": reference or None,
            "runtime_config": {"parameters": parameters},
            "created_at": now(),
            "scheduled_at": now(),
            "state": PENDING,
            "error": None,
            "pipeline_name": pipeline.name,
        }
        return JSONResponse(_public_run(self._runner.create(record, pipeline.spec, parameters)))

    async def runs(self, request: Request) -> Response:
        """List all runs, newest first."""
        return _page("runs", [_public_run(run) for run in _filter_by_name(self._state.all("runs"), request)], request)

    async def run(self, request: Request) -> Response:
        """Return one run."""
        return JSONResponse(_public_run(self._get_record("runs", request.path_params["id"])))

    async def run_log(self, request: Request) -> Response:
        """Return the end of a run's log."""
        run = self._get_record("runs", request.path_params["id"])
        return PlainTextResponse(read_log(self._state.folder("runs", run["run_id"])))

    async def delete_run(self, request: Request) -> Response:
        """Remove a run. A running run is ended first."""
        run = self._get_record("runs", request.path_params["id"])
        self._runner.delete(run["run_id"])
        return JSONResponse({})

    async def terminate(self, request: Request) -> Response:
        """End a run."""
        run = self._get_record("runs", request.path_params["id"])
        self._runner.terminate(run["run_id"])
        return JSONResponse({})

    async def absent(self, request: Request) -> Response:
        """Refuse any other path with 404."""
        where = f"{request.method} {request.url.path}"
        raise RefusedError(404, f"{where} is not served by the embedded engine, a part of KFP's API.")

    def _get_record(self, kind: str, identity: str) -> Record:
        """Return the record. Raises RefusedError (404) if it does not exist."""
        record = self._state.read(kind, identity)
        if record is None:
            raise RefusedError(404, f"There is no {kind.removesuffix('s')} {format_value(identity)}.")
        return record

    def _referenced_spec(self, reference: Mapping[str, Any]) -> dict[str, Any]:
        """Return the specification of the version that a run names, or else of the pipeline's newest version."""
        version, pipeline = fields.text(reference, "pipeline_version_id"), fields.text(reference, "pipeline_id")
        if version or not pipeline:
            record = self._get_record("versions", version)
        else:
            versions = self._state.versions(pipeline)
            if not versions:
                raise RefusedError(404, f"There is no pipeline {format_value(pipeline)}.")
            record = versions[0]
        if pipeline and record["pipeline_id"] != pipeline:
            raise RefusedError(
                400, f"The version {format_value(version)} is not one of the pipeline {format_value(pipeline)}."
            )
        spec: dict[str, Any] = record["pipeline_spec"]
        return spec

    def _default_experiment(self) -> Record:
        defaults = [record for record in self._state.all("experiments") if record["display_name"] == "Default"]
        return defaults[0] if defaults else self._new_experiment("Default", "")

    def _new_experiment(self, name: str, description: str) -> Record:
        identity = str(uuid.uuid4())
        record = {
            "experiment_id": identity,
            "display_name": name,
            "description": description,
            "created_at": now(),
            "namespace": "",
            "storage_state": "AVAILABLE",
        }
        return self._state.write("experiments", identity, record)

    def _new_version(
        self, pipeline: Record, name: str, spec: dict[str, Any], platform: dict[str, Any] | None
    ) -> Record:
        identity = str(uuid.uuid4())
        record = {
            "pipeline_id": pipeline["pipeline_id"],
            "pipeline_version_id": identity,
            "name": name,
            "display_name": name,
            "created_at": now(),
            "pipeline_spec": {"pipeline_spec": spec, "platform_spec": platform} if platform else spec,
        }
        return self._state.write("versions", identity, record)


async def _pipeline(content: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Parse the uploaded pipeline in a thread, because a large one takes seconds. Raises RefusedError (400)."""
    try:
        return await asyncio.to_thread(parse, content)
    except ValueError as error:
        raise RefusedError(400, ascii(str(error))[1:-1][:1000]) from error


def _filter_by_name(records: list[Record], request: Request) -> list[Record]:
    """Return the records that match the query's filter."""
    names = fields.filter_names(request.query_params)
    return [record for record in records if all(record["display_name"] == name for name in names)]


def _page(name: str, records: list[Record], request: Request) -> JSONResponse:
    offset, size = fields.page(request.query_params)
    token = str(offset + size) if offset + size < len(records) else ""
    page = records[offset : offset + size]
    return JSONResponse({name: page, "total_size": len(records), "next_page_token": token})


def _public_run(run: Record) -> Record:
    """Return a run in the format of the API."""
    record = {key: value for key, value in run.items() if key not in HIDDEN}
    record["state_history"] = [{"update_time": run["created_at"], "state": PENDING}]
    return record
