"""What the service's routes take and give, for machines (OpenAPI 3.1) and for people."""

from __future__ import annotations

import html
import json
from typing import Any

import msgspec

from phaseflow import __version__, answers
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
    "/healthz": "The process lives",
    "/readyz": "The champions are known, or a cache stands in for MLflow",
    "/metrics": "What Prometheus reads",
    "/v2": "The Open Inference Protocol: about the server",
    "/v2/health/live": "As /healthz",
    "/v2/health/ready": "As /readyz",
    "/v2/models/{project}": "A model's inputs and outputs",
    "/v2/models/{project}/ready": "Whether there is a champion",
}
PROJECT_PAGES = ("/v2/models/{project}", "/v2/models/{project}/ready")
HEALTH_PAGES = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
_PAGE_CODES = dict.fromkeys(PROJECT_PAGES, (404, 503))
REFUSALS = {
    400: "This is no request of HTTP/1.1",
    401: "The token is missing or wrong",
    403: "The host or the origin is not known",
    404: "There is no such project",
    408: "The request did not arrive in time",
    411: "The body's length is missing, which BentoML's own routes need",
    413: "The body is too large",
    415: "The content type is not taken here",
    422: "A field is wrong: the answer names it, with the fix",
    431: "The headers are too large",
    503: "There is no champion yet, the answer took too long or can't be logged, or the service is too busy: `Retry-After` says when",
}
BODY_CODES = (411, 413, 415, 422, 503)
TEXT = {"type": "string"}
GROUP = {
    "type": "string",
    "pattern": f"^{requests.GROUP.pattern}$",
    "description": "SHA-256 of what rows that resemble this one have in common; they stay on one side of the split",
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
    """OpenAPI of every project's routes."""
    paths: dict[str, Any] = {
        path: {
            "get": {
                "operationId": path[1:].translate(str.maketrans("/", "_", "{}")),
                "tags": ["service"],
                "parameters": [NAME] if "{project}" in path else [],
                "responses": {"200": {"description": said}}
                | _refusals(*_PAGE_CODES.get(path, ()), plain=path.startswith("/v2")),
            }
        }
        for path, said in PAGES.items()
    }
    for path in HEALTH_PAGES:
        paths[path]["get"]["responses"]["503"] = {"description": "It is not, and names the loops that are overdue"}
    paths["/v2/models/{project}/infer"] = {
        "post": {
            "operationId": "v2_models_project_infer",
            "tags": ["service"],
            "parameters": [NAME],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
            "responses": {"200": {"description": "A tensor an output"}} | _refusals(404, *BODY_CODES, plain=True),
        }
    }
    schemas: dict[str, Any] = dict(SCHEMAS)
    for project in catalog.projects():
        (row,), parts = msgspec.json.schema_components(
            [requests.reader(project.name).row.type], ref_template="#/components/schemas/{name}"
        )
        name = f"{project.name}_row"
        schemas[name] = parts.get("Row", row) | {"examples": [dict(project.example)]}
        reference = {"$ref": f"#/components/schemas/{name}"}
        batch = {"type": "object", "properties": {"rows": {"type": "array", "items": reference}}, "required": ["rows"]}
        predict = _operation(project, "predict", {"oneOf": [reference, batch]}, "Predictions, one a row")
        schemas[f"{project.name}_prediction"] = _prediction(project)
        predict["responses"]["200"]["content"] = {"application/json": {"schema": _answer(project)}}
        if requests.is_image(project):
            predict["requestBody"]["content"] |= {kind: {} for kind in sorted(content_types.IMAGES - JSON_ONLY)}
        paths[f"/{project.name}/predict"] = {"post": predict}
        told = answers.schema(project.schema.target, truth=True)
        truth = {
            "type": "object",
            "properties": {"id": TEXT, "truth": told, "group": GROUP},
            "required": ["id", "truth"],
        }
        feedback = {
            "type": "object",
            "properties": {"truths": {"type": "array", "items": truth}},
            "required": ["truths"],
        }
        telling = _operation(project, "feedback", feedback, "How many were accepted")
        telling["responses"] |= _refusals(401)
        telling["security"] = [{}, {"client": []}]  # whether a token is needed is a setting
        paths[f"/{project.name}/feedback"] = {"post": telling}
        paths[f"/{project.name}/model"] = {
            "get": {
                "operationId": f"{project.name}_model",
                "tags": [project.name],
                "responses": {"200": {"description": "The served version"}} | _refusals(404, 503),
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "phaseflow serving", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"client": {"type": "http", "scheme": "bearer"}}},
    }


def _prediction(project: Project) -> dict[str, Any]:
    """The answer to one row."""
    target = project.schema.target
    if answers.structured(target) or (target is not None and target.kind in {"number", "integer"}):
        parts = {answers.outputs(target, ())[0]: answers.schema(target)}
    else:
        shares = {"type": "object", "additionalProperties": {"type": "number"}}
        parts = {"label": answers.schema(target), "probabilities": shares}
    why = {"feature": TEXT, "contribution": {"type": "number"}}
    told = {"type": "array", "items": {"type": "object", "properties": why}, "description": "where the model tells"}
    return {"type": "object", "properties": {"id": TEXT, **parts, "why": told}, "required": ["id", *parts]}


def _answer(project: Project) -> dict[str, Any]:
    """A whole 200 of predict."""
    rows = {"type": "array", "items": {"$ref": f"#/components/schemas/{project.name}_prediction"}}
    parts = {"request_id": TEXT, "project": TEXT, "version": TEXT, "predictions": rows}
    return {"type": "object", "properties": parts, "required": list(parts)}


def _operation(project: Project, route: str, body: dict[str, Any], said: str) -> dict[str, Any]:
    return {
        "operationId": f"{project.name}_{route}",
        "tags": [project.name],
        "summary": project.title,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": said}} | _refusals(404, *BODY_CODES),
    }


def _refusals(*codes: int, plain: bool = False) -> dict[str, Any]:
    """The responses that refuse a request; every route has 400, 403, 408 and 431.

    Routes of the Open Inference Protocol (`plain`) answer in its form, but for what is refused before a route is chosen.
    """
    names = ("PlainError", "Error") if plain else ("Error",)
    forms = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    content = {"application/json": {"schema": {"anyOf": forms} if plain else forms[0]}}
    return {
        str(code): {"description": REFUSALS[code], "content": content} for code in sorted({400, 403, 408, 431, *codes})
    }


def _by_file(project: Project) -> str:
    """The call that a person with a picture makes."""
    return f"\ncurl -s $URL/{project.name}/predict -F image=@picture.png" if requests.is_image(project) else ""


def page() -> str:
    """Every project with its columns and a call to copy."""
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>phaseflow serving</title><style>{STYLE}</style>",
        "<h1>phaseflow serving</h1><p>For machines: <a href='/openapi.json'>openapi.json</a>, the Open Inference Protocol under "
        "<a href='/v2'>/v2</a>, and <a href='/'>BentoML's own page</a>.</p>",
    ]
    for project in catalog.projects():
        example = html.escape(json.dumps(dict(project.example)))
        rows = "".join(
            f"<tr><td>{c.name}</td><td>{html.escape(requests.described(project, c.name))}</td>"
            f"<td>{html.escape(' '.join(filter(None, (c.description, f'({c.unit})' if c.unit else ''))))}</td></tr>"
            for c in project.schema.features
        )
        parts.append(
            f"<h2>{html.escape(project.title)}</h2><p>{html.escape(project.description)}</p>"
            f"<pre>curl -s -X POST $URL/{project.name}/predict -H 'content-type: application/json' -d '{example}'{_by_file(project)}</pre>"
            f"<table><tr><th>field</th><th>takes</th><th></th></tr>{rows}</table>"
        )
    return "\n".join(parts)
