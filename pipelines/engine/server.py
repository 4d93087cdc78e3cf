"""The REST calls, as KFP 2.17's API server answers them (https://www.kubeflow.org/docs/components/pipelines/reference/api).

Only what the operator and `kfp.Client` call is here; another path is a 404 that says so. Whoever may start a run may run code as this
user, so everything but reading needs the secret `engine_token`.
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
from phaseflow.errors import PlatformError
from phaseflow.log import logger
from phaseflow.loops import Loops
from phaseflow.settings import Settings
from pipelines.engine import fields
from pipelines.engine.body import json_body, uploaded_file
from pipelines.engine.metrics import exposition
from pipelines.engine.refusals import HANDLERS, RefusedError, access_body, response, shown
from pipelines.engine.runs import Runner, log_of
from pipelines.engine.specification import checked, parsed
from pipelines.engine.state import Record, State, now

API: Final = "/apis/v2beta1"
UPLOADS: Final = f"{API}/pipelines/upload"
"""Paths that begin so take a file."""
TOKEN: Final = "engine_token"  # noqa: S105  # the secret's name
HIDDEN: Final = ("pid", "start_ticks", "started", "pipeline_name")
LOOP: Final = "runs"
MAX_AGE_SECONDS: Final = 120.0
"""Without a successful look at the runs; a slow project's import is waited for in between."""


def application(settings: Settings, loops: Loops | None = None) -> access.Application:
    """The engine of this machine, its state under `<home>/pipelines`, behind the access rules."""
    engine = Engine(settings, Loops() if loops is None else loops)
    app = Starlette(routes=engine.routes(), lifespan=engine.lifespan, exception_handlers=HANDLERS)
    return access.guarded(app, rules(settings))


def rules(settings: Settings) -> access.Policy:
    """Reading is free on known hosts; everything else needs the token, and a file goes to the uploads alone."""

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
    """The calls over one state."""

    def __init__(self, settings: Settings, loops: Loops) -> None:
        self._state = State(settings.home / "pipelines")
        self._loops = loops
        self._runner = Runner(self._state, settings, functools.partial(loops.beat, LOOP))

    def routes(self) -> list[Route]:
        """Every path; the first that matches answers."""
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
                logger.warning("a record of %s is left out, %s: %s", kind, damaged.identity, damaged.problem)
        try:
            self._default_experiment()
        except PlatformError as error:  # the disk is full; the first run makes it
            logger.warning("%s", error)
        self._loops.start(LOOP, self._runner.iterate, seconds=0.0, max_age=MAX_AGE_SECONDS)
        yield
        await self._loops.stop()

    async def metrics(self, _: Request) -> Response:
        """For Prometheus."""
        return PlainTextResponse(exposition(self._loops))

    async def health(self, _: Request) -> Response:
        """503 when runs are not looked at any more."""
        if overdue := self._loops.overdue():
            return response(503, f"The loop {', '.join(overdue)} is overdue. Read the engine's log.")
        return JSONResponse({"multi_user": False, "pipeline_store": "database"})

    async def upload(self, request: Request) -> Response:
        """A new pipeline and its first version."""
        query = request.query_params
        spec, platform = await _pipeline(await uploaded_file(request))
        name = fields.text(query, "name") or checked(spec).name
        if self._state.pipeline(name):
            raise RefusedError(409, f"A pipeline {shown(name)} already exists. Upload a version of it.")
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
        """A new version of a pipeline."""
        query = request.query_params
        pipeline = self._found("pipelines", fields.text(query, "pipelineid"))
        name = fields.text(query, "name") or str(uuid.uuid4())
        spec, platform = await _pipeline(await uploaded_file(request))
        if any(version["name"] == name for version in self._state.versions(pipeline["pipeline_id"])):
            raise RefusedError(409, f"A version {shown(name)} already exists.")
        return JSONResponse(self._new_version(pipeline, name, spec, platform))

    async def pipelines(self, request: Request) -> Response:
        """All of them, the newest first."""
        return _page("pipelines", _named(self._state.all("pipelines"), request), request)

    async def pipeline_by_name(self, request: Request) -> Response:
        """The pipeline of that name."""
        name = request.path_params["name"]
        pipeline = self._state.pipeline(name)
        if pipeline is None:
            raise RefusedError(404, f"There is no pipeline {shown(name)}.")
        return JSONResponse(pipeline)

    async def pipeline(self, request: Request) -> Response:
        """One pipeline."""
        return JSONResponse(self._found("pipelines", request.path_params["id"]))

    async def versions(self, request: Request) -> Response:
        """A pipeline's versions, the newest first."""
        return _page("pipeline_versions", _named(self._state.versions(request.path_params["id"]), request), request)

    async def version(self, request: Request) -> Response:
        """One version."""
        return JSONResponse(self._found("versions", request.path_params["version"]))

    async def experiments(self, request: Request) -> Response:
        """All of them, the newest first."""
        return _page("experiments", _named(self._state.all("experiments"), request), request)

    async def create_experiment(self, request: Request) -> Response:
        """A new experiment."""
        body = await json_body(request)
        name = fields.text(body, "display_name")
        if not name:
            raise RefusedError(400, "An experiment needs a display_name.")
        description = fields.text(body, "description", limit=fields.MAX_DESCRIPTION)
        if any(experiment["display_name"] == name for experiment in self._state.all("experiments")):
            raise RefusedError(409, f"An experiment {shown(name)} already exists.")
        return JSONResponse(self._new_experiment(name, description))

    async def experiment(self, request: Request) -> Response:
        """One experiment."""
        return JSONResponse(self._found("experiments", request.path_params["id"]))

    async def create_run(self, request: Request) -> Response:
        """Queue a run of a version, or of the pipeline in the body."""
        body = await json_body(request)
        reference = fields.mapping(body, "pipeline_version_reference")
        whole = self._referenced(reference) if reference else fields.mapping(body, "pipeline_spec")
        if not whole:
            raise RefusedError(400, "A run needs a pipeline_version_reference or a pipeline_spec.")
        try:
            pipeline = checked(whole)
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
            "experiment_id": self._found("experiments", experiment)["experiment_id"]
            if experiment
            else self._default_experiment()["experiment_id"],
            "display_name": display_name,
            "storage_state": "AVAILABLE",
            "pipeline_version_reference": reference or None,
            "runtime_config": {"parameters": parameters},
            "created_at": now(),
            "scheduled_at": now(),
            "state": "PENDING",
            "error": None,
            "pipeline_name": pipeline.name,
        }
        return JSONResponse(_shown_run(self._runner.create(record, pipeline.spec, parameters)))

    async def runs(self, request: Request) -> Response:
        """All of them, the newest first."""
        return _page("runs", [_shown_run(run) for run in _named(self._state.all("runs"), request)], request)

    async def run(self, request: Request) -> Response:
        """One run."""
        return JSONResponse(_shown_run(self._found("runs", request.path_params["id"])))

    async def run_log(self, request: Request) -> Response:
        """What a run printed last."""
        run = self._found("runs", request.path_params["id"])
        return PlainTextResponse(log_of(self._state.folder("runs", run["run_id"])))

    async def delete_run(self, request: Request) -> Response:
        """Remove a run, and end it first where it is running."""
        run = self._found("runs", request.path_params["id"])
        self._runner.delete(run["run_id"])
        return JSONResponse({})

    async def terminate(self, request: Request) -> Response:
        """End a run."""
        run = self._found("runs", request.path_params["id"])
        self._runner.terminate(run["run_id"])
        return JSONResponse({})

    async def absent(self, request: Request) -> Response:
        """Any other path."""
        where = f"{request.method} {request.url.path}"
        raise RefusedError(404, f"{where} is not served by the embedded engine, a part of KFP's API.")

    def _found(self, kind: str, identity: str) -> Record:
        """The record; raises RefusedError (404)."""
        record = self._state.read(kind, identity)
        if record is None:
            raise RefusedError(404, f"There is no {kind.removesuffix('s')} {shown(identity)}.")
        return record

    def _referenced(self, reference: Mapping[str, Any]) -> dict[str, Any]:
        """The specification of the version that a run names, of the pipeline's newest where it names none."""
        version, pipeline = fields.text(reference, "pipeline_version_id"), fields.text(reference, "pipeline_id")
        if version or not pipeline:
            record = self._found("versions", version)
        else:
            versions = self._state.versions(pipeline)
            if not versions:
                raise RefusedError(404, f"There is no pipeline {shown(pipeline)}.")
            record = versions[0]
        if pipeline and record["pipeline_id"] != pipeline:
            raise RefusedError(400, f"The version {shown(version)} is not one of the pipeline {shown(pipeline)}.")
        spec: dict[str, Any] = record["pipeline_spec"]
        return spec

    def _default_experiment(self) -> Record:
        named = [record for record in self._state.all("experiments") if record["display_name"] == "Default"]
        return named[0] if named else self._new_experiment("Default", "")

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
    """The uploaded pipeline, read in a thread: a large one takes seconds. Raises RefusedError (400)."""
    try:
        return await asyncio.to_thread(parsed, content)
    except ValueError as error:
        raise RefusedError(400, ascii(str(error))[1:-1][:1000]) from error


def _named(records: list[Record], request: Request) -> list[Record]:
    """Those that the query's filter asks for."""
    wanted = fields.wanted_names(request.query_params)
    return [record for record in records if all(record["display_name"] == name for name in wanted)]


def _page(name: str, records: list[Record], request: Request) -> JSONResponse:
    offset, size = fields.page(request.query_params)
    token = str(offset + size) if offset + size < len(records) else ""
    page = records[offset : offset + size]
    return JSONResponse({name: page, "total_size": len(records), "next_page_token": token})


def _shown_run(run: Record) -> Record:
    """A run as the API shows it."""
    record = {key: value for key, value in run.items() if key not in HIDDEN}
    record["state_history"] = [{"update_time": run["created_at"], "state": "PENDING"}]
    return record
