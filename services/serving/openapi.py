"""Documentation of the service's routes, for machines (OpenAPI 3.1) and for people (HTML)."""

from __future__ import annotations

import html
import json
from typing import Any

import msgspec

from phaseflow import __version__, kinds, prediction_types
from phaseflow.access import JSON_ONLY
from phaseflow.contract import Project
from services.serving import catalog, content_types, requests

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #22303c }
pre { background: #f2f5f7; padding: .8rem; overflow-x: auto; border-radius: 6px } h2 { margin-top: 2.5rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #e3e8ec }
@media (prefers-color-scheme: dark) { body { background: #12181e; color: #dde5ec } pre { background: #1c252e }
td, th { border-color: #2a3641 } a { color: #7ab7ff } }
"""

PAGES = {
    "/projects": "Every project and its served version",
    "/healthz": "Whether the process is alive",
    "/readyz": "Whether the champions are known, from MLflow or from the cache",
    "/metrics": "Prometheus metrics",
    "/v2": "The Open Inference Protocol: metadata of the server",
    "/v2/health/live": "Same as /healthz",
    "/v2/health/ready": "Same as /readyz",
    "/v2/models/{project}": "A model's inputs and outputs",
    "/v2/models/{project}/ready": "Whether the project has a champion",
}
PROJECT_PAGES = ("/v2/models/{project}", "/v2/models/{project}/ready")
HEALTH_PAGES = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
_PAGE_CODES = dict.fromkeys(PROJECT_PAGES, (404, 503))
REFUSALS = {
    400: "The request is not valid HTTP/1.1",
    401: "The token is missing or wrong",
    403: "The host or the origin is not allowed",
    404: "The project does not exist",
    408: "The request did not arrive in time",
    411: "The Content-Length is missing, which BentoML's own routes need",
    413: "The body is too large",
    415: "The route does not accept the content type",
    422: "A field is invalid; the response names it and the fix",
    431: "The headers are too large",
    503: "No champion yet, prediction late or not logged, or service too busy: retry after `Retry-After`",
}
BODY_CODES = (411, 413, 415, 422, 503)
TEXT = {"type": "string"}
GROUP = {
    "type": "string",
    "pattern": f"^{requests.GROUP.pattern}$",
    "description": "SHA-256 of the name of the row's group of similar rows; a group stays on one side of the split",
}
SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"field": TEXT, "problem": TEXT, "fix": TEXT},
                "required": ["field", "problem", "fix"],
            }
        },
        "required": ["error"],
    },
    "PlainError": {"type": "object", "properties": {"error": TEXT}, "required": ["error"]},
}
NAME = {"name": "project", "in": "path", "required": True, "schema": {"type": "string"}}


def document() -> dict[str, Any]:
    """The OpenAPI document of all routes."""
    paths: dict[str, Any] = {
        path: {
            "get": {
                "operationId": path[1:].translate(str.maketrans("/", "_", "{}")),
                "tags": ["service"],
                "parameters": [NAME] if "{project}" in path else [],
                "responses": {"200": {"description": description}}
                | _refusals(*_PAGE_CODES.get(path, ()), plain=path.startswith("/v2")),
            }
        }
        for path, description in PAGES.items()
    }
    for path in HEALTH_PAGES:
        paths[path]["get"]["responses"]["503"] = {
            "description": "Not healthy or not ready; /healthz and /readyz name the overdue loops"
        }
    paths["/v2/models/{project}/infer"] = {
        "post": {
            "operationId": "v2_models_project_infer",
            "tags": ["service"],
            "parameters": [NAME],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
            "responses": {"200": {"description": "One tensor per output"}} | _refusals(404, *BODY_CODES, plain=True),
        }
    }
    schemas: dict[str, Any] = dict(SCHEMAS)
    for project in catalog.projects():
        schemas |= _project_schemas(project)
        paths |= _project_paths(project)
    return {
        "openapi": "3.1.0",
        "info": {"title": "phaseflow serving", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"client": {"type": "http", "scheme": "bearer"}}},
    }


def _project_schemas(project: Project) -> dict[str, Any]:
    """The schemas of a row and of a prediction."""
    (row,), components = msgspec.json.schema_components(
        [requests.get_reader(project.name).row.type], ref_template="#/components/schemas/{name}"
    )
    return {
        f"{project.name}_row": components.get("Row", row) | {"examples": [dict(project.example)]},
        f"{project.name}_prediction": _prediction(project),
    }


def _project_paths(project: Project) -> dict[str, Any]:
    """The routes predict, feedback and model."""
    reference = {"$ref": f"#/components/schemas/{project.name}_row"}
    batch = {"type": "object", "properties": {"rows": {"type": "array", "items": reference}}, "required": ["rows"]}
    predict = _operation(project, "predict", {"oneOf": [reference, batch]}, "One prediction per row")
    predict["responses"]["200"]["content"] = {"application/json": {"schema": _predict_response(project)}}
    if requests.is_image(project):
        predict["requestBody"]["content"] |= {kind: {} for kind in sorted(content_types.IMAGES - JSON_ONLY)}
    label_schema = prediction_types.json_schema(project.schema.target, as_label=True)
    label = {
        "type": "object",
        "properties": {"id": TEXT, "label": label_schema, "group": GROUP},
        "required": ["id", "label"],
    }
    labels = {"type": "object", "properties": {"labels": {"type": "array", "items": label}}, "required": ["labels"]}
    feedback = _operation(project, "feedback", labels, "The number of accepted labels")
    feedback["responses"] |= _refusals(401)
    feedback["security"] = [{}, {"client": []}]  # whether a token is needed is a setting
    model = {
        "operationId": f"{project.name}_model",
        "tags": [project.name],
        "responses": {"200": {"description": "The served version"}} | _refusals(404, 503),
    }
    return {
        f"/{project.name}/predict": {"post": predict},
        f"/{project.name}/feedback": {"post": feedback},
        f"/{project.name}/model": {"get": model},
    }


def _prediction(project: Project) -> dict[str, Any]:
    """Schema of the prediction for one row."""
    target = project.schema.target
    prediction = kinds.of_target(target)
    properties = {prediction.outputs[0]: prediction.json_schema(target)}
    if prediction is kinds.CATEGORY:
        properties["probabilities"] = {"type": "object", "additionalProperties": {"type": "number"}}
    why = {"feature": TEXT, "contribution": {"type": "number"}}
    contributions = {
        "type": "array",
        "items": {"type": "object", "properties": why},
        "description": "if the model outputs contributions",
    }
    return {
        "type": "object",
        "properties": {"id": TEXT, **properties, "why": contributions},
        "required": ["id", *properties],
    }


def _predict_response(project: Project) -> dict[str, Any]:
    """Schema of the whole 200 response of predict."""
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{project.name}_prediction"}}
    properties = {"request_id": TEXT, "project": TEXT, "version": TEXT, "predictions": rows}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _operation(project: Project, route: str, body: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "operationId": f"{project.name}_{route}",
        "tags": [project.name],
        "summary": project.title,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": description}} | _refusals(404, *BODY_CODES),
    }


def _refusals(*codes: int, plain: bool = False) -> dict[str, Any]:
    """The error responses of a route; every route has 400, 403, 408 and 431.

    Routes of the Open Inference Protocol (`plain`) use its error format, except for errors before the routing.
    """
    names = ("PlainError", "Error") if plain else ("Error",)
    forms = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    content = {"application/json": {"schema": {"anyOf": forms} if plain else forms[0]}}
    return {
        str(code): {"description": REFUSALS[code], "content": content} for code in sorted({400, 403, 408, 431, *codes})
    }


def _by_file(project: Project) -> str:
    """An example call that sends an image file; empty if a row is not a single image."""
    return f"\ncurl -s $URL/{project.name}/predict -F image=@picture.png" if requests.is_image(project) else ""


def page() -> str:
    """An HTML page that lists every project with its columns and an example call."""
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>phaseflow serving</title><style>{STYLE}</style>",
        "<h1>phaseflow serving</h1><p>For machines: <a href='/openapi.json'>openapi.json</a>, the Open Inference Protocol under "
        "<a href='/v2'>/v2</a>, and <a href='/'>BentoML's own page</a>.</p>",
    ]
    for project in catalog.projects():
        example = html.escape(json.dumps(dict(project.example)))
        rows = "".join(
            f"<tr><td>{c.name}</td><td>{html.escape(requests.describe(project, c.name))}</td>"
            f"<td>{html.escape(' '.join(filter(None, (c.description, f'({c.unit})' if c.unit else ''))))}</td></tr>"
            for c in project.schema.features
        )
        parts.append(
            f"<h2>{html.escape(project.title)}</h2><p>{html.escape(project.description)}</p>"
            f"<pre>curl -s -X POST $URL/{project.name}/predict -H 'content-type: application/json' -d '{example}'{_by_file(project)}</pre>"
            f"<table><tr><th>field</th><th>accepts</th><th></th></tr>{rows}</table>"
        )
    return "\n".join(parts)
