"""The engine refuses all invalid requests in KFP's format and never fails internally. No run is started here."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import json
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cli.local import passwords
from phaseflow.clients.kfp import API
from phaseflow.settings import Settings, from_environment
from pipelines.engine import body as engine_body
from pipelines.engine import runs, specification
from pipelines.engine.server import application
from pipelines.engine.state import State

SPEC = {
    "pipelineInfo": {"name": "toy"},
    "root": {"inputDefinitions": {"parameters": {"n": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1}}}},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = from_environment({"PHASEFLOW_HOME": str(tmp_path_factory.mktemp("home"))})
    passwords.ensure(settings)
    return settings


def ask(settings: Settings, method: str, path: str, **arguments: Any) -> httpx.Response:
    """Return the application's response. An unhandled exception fails the test."""

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(application(settings))
        headers = settings.bearer("engine_token") | arguments.pop("headers", {})
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8888") as client:
            return await client.request(method, path, headers=headers, **arguments)

    return asyncio.run(call())


def error_message(response: httpx.Response, *statuses: int) -> str:
    assert response.status_code in statuses, (response.status_code, response.text)
    error = response.json()
    assert set(error) == {"error", "code", "message", "details"}
    assert error["error"] == error["message"]
    return str(error["message"])


def upload(settings: Settings, content: bytes, path: str = "/pipelines/upload", **query: str) -> httpx.Response:
    return ask(settings, "POST", API + path, params=query, files={"uploadfile": ("x.yaml", content)})


def without_state(settings: Settings) -> list[Path]:
    return list((settings.home / "pipelines").glob("runs/*"))


VERSION = str(uuid.uuid4())
WRONG_RUNS: list[tuple[Any, str]] = [
    ([], "The body must be a JSON object"),
    ("x", "The body must be a JSON object"),
    (7, "The body must be a JSON object"),
    ({"display_name": 7, "pipeline_spec": SPEC}, "display_name must be a string"),
    ({"display_name": "x" * 513, "pipeline_spec": SPEC}, "display_name must be a string of at most 512 characters"),
    ({"experiment_id": {}, "pipeline_spec": SPEC}, "experiment_id must be a string"),
    ({"experiment_id": "../../x", "pipeline_spec": SPEC}, "There is no experiment '../../x'"),
    ({"pipeline_spec": [1]}, "pipeline_spec must be an object"),
    ({"pipeline_spec": "x"}, "pipeline_spec must be an object"),
    ({"pipeline_spec": {"pipeline_spec": 3}}, "pipelineInfo is missing"),
    ({"pipeline_spec": {"pipelineInfo": None}}, "'pipelineInfo' must be an object"),
    ({"pipeline_spec": {"pipelineInfo": {"name": 7}}}, "pipelineInfo.name must be a string"),
    ({"pipeline_spec": {"pipelineInfo": {"name": ""}}}, "pipelineInfo.name must be a string"),
    ({"pipeline_spec": SPEC | {"root": []}}, "'root' must be an object"),
    ({"pipeline_spec": SPEC | {"root": {"inputDefinitions": 1}}}, "'inputDefinitions' must be an object"),
    ({"pipeline_spec": SPEC | {"root": {"inputDefinitions": {"parameters": {"n": 1}}}}}, "'n' must be an object"),
    ({"pipeline_spec": SPEC | {"deploymentSpec": [1]}}, "'deploymentSpec' must be an object"),
    ({"pipeline_spec": SPEC, "runtime_config": "x"}, "runtime_config must be an object"),
    ({"pipeline_spec": SPEC, "runtime_config": {"parameters": [1]}}, "parameters must be an object"),
    ({"pipeline_version_reference": "x"}, "pipeline_version_reference must be an object"),
    ({"pipeline_version_reference": {"pipeline_version_id": 5}}, "pipeline_version_id must be a string"),
    ({"pipeline_version_reference": {"pipeline_version_id": "../x"}}, "There is no version '../x'"),
    ({"pipeline_version_reference": {"pipeline_version_id": VERSION}}, f"There is no version '{VERSION}'"),
    ({"pipeline_version_reference": {"pipeline_id": ["x"]}}, "pipeline_id must be a string"),
]


@pytest.mark.parametrize(("body", "message"), WRONG_RUNS)
def test_a_wrong_value_in_a_run_is_named(settings: Settings, body: Any, message: str) -> None:
    assert message in error_message(ask(settings, "POST", f"{API}/runs", json=body), 400, 404)
    assert without_state(settings) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b'{"display_name": "\xc3"}',
        b'{"display_name": "\\ud800"}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"[" * 100_000 + b"}",
        b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}",
    ],
    ids=lambda content: repr(content[:30]),
)
def test_a_body_that_is_not_json_is_refused(settings: Settings, content: bytes) -> None:
    for path in ("/runs", "/experiments"):
        response = ask(settings, "POST", API + path, content=content, headers={"content-type": "application/json"})
        assert "The body is not JSON" in error_message(response, 400)
    assert without_state(settings) == []


@pytest.mark.parametrize("path", ["/runs", "/experiments", "/pipelines", f"/pipelines/{VERSION}/versions"])
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"page_size": "x"}, "page_size must be a whole number"),
        ({"page_size": "-1"}, "page_size must be a whole number"),
        ({"page_size": "²"}, "page_size must be a whole number"),
        ({"page_size": "9" * 5000}, "page_size must be a whole number"),
        ({"page_token": "-5"}, "page_token must be a whole number"),
        ({"page_token": "abc"}, "page_token must be a whole number"),
        ({"filter": "x"}, "filter is not JSON"),
        ({"filter": "[1]"}, "filter must be a JSON object"),
        ({"filter": '{"predicates": 7}'}, "filter.predicates must be a list"),
        ({"filter": '{"predicates": ["x"]}'}, "A predicate must be an object"),
        ({"filter": '{"predicates": [{"key": "display_name"}]}'}, "A predicate must be EQUALS with a stringValue"),
        ({"filter": '{"predicates": [{"key": ["name"], "stringValue": "x"}]}'}, "A filter's key must be one of"),
        ({"filter": '{"predicates": [{"key": "state", "stringValue": "x"}]}'}, "A filter's key must be one of"),
        (
            {"filter": '{"predicates": [{"operation": 9, "key": "name", "stringValue": "x"}]}'},
            "A predicate must be EQUALS",
        ),
        (
            {"filter": '{"predicates": [{"operation": [], "key": "name", "stringValue": "x"}]}'},
            "A predicate must be EQUALS",
        ),
    ],
)
def test_a_wrong_query_is_named(settings: Settings, path: str, query: dict[str, str], message: str) -> None:
    assert message in error_message(ask(settings, "GET", API + path, params=query), 400)


IDS = ["%2e%2e", "%2e", "%00", "%ff", "..%2f..%2fsecrets", "a%0ab", "x" * 5000, "{uuid}", VERSION, VERSION.upper()]


@pytest.mark.parametrize("identity", IDS)
def test_an_identity_names_nothing_but_a_record(settings: Settings, identity: str) -> None:
    for path in ("pipelines", "pipelines/names", "experiments", "runs", f"pipelines/{VERSION}/versions"):
        error_message(ask(settings, "GET", f"{API}/{path}/{identity}"), 404)
    error_message(ask(settings, "GET", f"{API}/runs/{identity}/log"), 404)
    error_message(ask(settings, "POST", f"{API}/runs/{identity}:terminate"), 404)


def test_only_canonical_uuids_become_paths(tmp_path: Path) -> None:
    state = State(tmp_path)
    for wrong in ("", "..", "../x", VERSION.upper(), f"{{{VERSION}}}", f"urn:uuid:{VERSION}", VERSION.replace("-", "")):
        with pytest.raises(ValueError, match="UUID"):
            state.folder("runs", wrong)


BOMB = "pipelineInfo: {name: x}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "pipelineInfo: {name: x}\na0: &a0 {a: 1, b: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a compiled pipeline"),
        (b"[1, 2]", "not a compiled pipeline"),
        (b"a: 1", "not a compiled pipeline"),
        (b"\xff\xfe\xfa", "not YAML"),
        (b"a: [", "not YAML"),
        (b"a: b: c", "not YAML"),
        (b"\x00\x01", "not YAML"),
        (b"!!python/object/apply:os.system [id]", "not YAML"),
        (b"pipelineInfo: {name: x}\na: &a [*a]", "stands for nothing that ended before it"),
        (b"pipelineInfo: {name: x}\na: *nothing", "stands for nothing that ended before it"),
        (BOMB.encode(), "with its aliases it is too large"),
        (MERGES.encode(), "with its aliases it is too large"),
        (b"pipelineInfo: {name: x}\na: &a '" + b"x" * 100_000 + b"'\nb: [" + b"*a, " * 1000 + b"]", "too large"),
        (b"a: " + b"[" * 100_000, "nested more than 100 deep"),
        (b"a: " + b"1:" * 100_000 + b"1", "a number has more than 100 characters"),
        (b"pipelineInfo: 7", "'pipelineInfo' must be an object"),
        (b"pipelineInfo: {name: 7}", "pipelineInfo.name must be a string"),
        (b"pipelineInfo: {name: [x]}", "pipelineInfo.name must be a string"),
        (b"pipelineInfo: {name: x}\na: 2001-01-01", "not JSON serializable"),
        (b"pipelineInfo: {name: x}\na: !!binary aGk=", "not JSON serializable"),
        (b"pipelineInfo: {name: x}\na: .nan", "not JSON compliant"),
        (b"pipelineInfo: {name: x}\nroot: {1: 2}", "'root' must be an object"),
        (b"pipelineInfo: {name: x}\n--- 7", "the second document must be an object"),
    ],
)
def test_an_upload_that_is_no_pipeline_is_refused(settings: Settings, content: bytes, message: str) -> None:
    begin = time.monotonic()
    assert message in error_message(upload(settings, content, name=str(uuid.uuid4())), 400)
    assert time.monotonic() - begin < 10
    assert ask(settings, "GET", f"{API}/pipelines").json()["pipelines"] == []


def test_aliases_of_a_pipeline_are_accepted() -> None:
    shared = [{"name": "A", "value": "b"}]
    text = yaml.safe_dump(SPEC | {"deploymentSpec": {"executors": {"a": {"env": shared}, "b": {"env": shared}}}})
    assert "*id001" in text
    spec, _ = specification.parse(text)
    assert spec["deploymentSpec"]["executors"]["b"]["env"] == shared


@pytest.mark.parametrize(
    "arguments",
    [
        {"data": {"uploadfile": "text"}},
        {"files": {"other": b"x"}},
        {"files": {"uploadfile": b"a", "second": b"b"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}},
        {"content": b"--a\r\n\r\n\r\n--a--", "headers": {"content-type": "multipart/form-data; boundary=a"}},
        {"content": b"--a\r\nX: \xff\r\n\r\nx", "headers": {"content-type": "multipart/form-data; boundary=a"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a; charset=none"}},
        {"content": b"", "headers": {"content-type": "multipart/form-data; boundary=a"}},
        {},
    ],
)
def test_a_wrong_form_is_refused(settings: Settings, arguments: dict[str, Any]) -> None:
    if "data" in arguments:  # httpx sends text fields as multipart only if there is a file
        arguments = {"files": {"uploadfile": (None, "text")}}
    for path in ("/pipelines/upload", "/pipelines/upload_version"):
        error_message(ask(settings, "POST", API + path, **dict(arguments)), 400, 404)


def test_a_version_of_no_pipeline_and_a_name_that_is_taken_are_refused(settings: Settings, tmp_path: Path) -> None:
    own = dataclasses.replace(settings, home=tmp_path)
    passwords.ensure(own)
    content = yaml.safe_dump(SPEC).encode()
    pipeline = upload(own, content, name="toy").json()
    assert "There is no pipeline '../x'" in error_message(
        upload(own, content, "/pipelines/upload_version", pipelineid="../x"), 404
    )
    assert "already exists" in error_message(upload(own, content, name="toy"), 409)
    duplicate = upload(own, content, "/pipelines/upload_version", pipelineid=pipeline["pipeline_id"], name="toy")
    assert "A version 'toy' already exists" in error_message(duplicate, 409)
    body = {"pipeline_version_reference": {"pipeline_id": pipeline["pipeline_id"]}, "display_name": "x"}
    run = ask(own, "POST", f"{API}/runs", json=body).json()
    assert run["state"] == "PENDING"
    other = {"pipeline_id": VERSION, "pipeline_version_id": ask_version(own, pipeline["pipeline_id"])}
    wrong = ask(own, "POST", f"{API}/runs", json={"pipeline_version_reference": other})
    assert "is not one of the pipeline" in error_message(wrong, 400)


def ask_version(settings: Settings, pipeline: str) -> str:
    versions = ask(settings, "GET", f"{API}/pipelines/{pipeline}/versions").json()["pipeline_versions"]
    return str(versions[0]["pipeline_version_id"])


async def _chunks(count: int, sent: list[int]) -> AsyncIterator[bytes]:
    for _ in range(count):
        sent.append(1 << 20)
        yield b"x" * (1 << 20)


@pytest.mark.parametrize(
    ("path", "kind", "limit"),
    [
        ("/runs", "application/json", 4),
        ("/experiments", "application/json", 4),
        ("/pipelines/upload", "multipart/form-data; boundary=a", 8),
    ],
)
def test_a_body_past_the_limit_is_refused_while_it_is_read(
    settings: Settings, path: str, kind: str, limit: int
) -> None:
    sent: list[int] = []
    response = ask(
        settings,
        "POST",
        API + path,
        content=_chunks(100, sent),
        headers={"content-type": kind, "transfer-encoding": "chunked"},
    )
    # The form parser rejects the body at once; a JSON body is read up to the limit.
    assert (
        f"larger than {limit} MiB" in error_message(response, 413) if "json" in kind else error_message(response, 400)
    )
    assert len(sent) <= limit + 1
    declared = ask(settings, "POST", API + path, content=b"x" * ((limit << 20) + 1), headers={"content-type": kind})
    assert f"larger than {limit} MiB" in error_message(declared, 413)


def test_a_file_past_the_limit_is_refused_while_it_is_read(settings: Settings) -> None:
    sent: list[int] = []

    async def form() -> AsyncIterator[bytes]:
        yield b'--a\r\ncontent-disposition: form-data; name="uploadfile"; filename="x"\r\n\r\n'
        async for chunk in _chunks(100, sent):
            yield chunk

    headers = {"content-type": "multipart/form-data; boundary=a", "transfer-encoding": "chunked"}
    response = ask(settings, "POST", f"{API}/pipelines/upload", content=form(), headers=headers)
    assert "larger than 8 MiB" in error_message(response, 413)
    assert len(sent) <= 9


def test_a_body_that_does_not_end_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_body.limit_body, "__defaults__", (0.05,))

    async def endless() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    headers = {"content-type": "application/json", "transfer-encoding": "chunked"}
    response = ask(settings, "POST", f"{API}/runs", content=endless(), headers=headers)
    assert "did not end within" in error_message(response, 408)


def test_a_full_disk_is_reported_and_leaves_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("phaseflow.store.os.fsync", full)
        response = ask(settings, "POST", f"{API}/runs", json={"pipeline_spec": SPEC})
        assert "No space left on device" in error_message(response, 503)
    assert without_state(settings) == []
    assert runs.read_log(settings.home / "nothing") == ""


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
KEYS = ("display_name", "description", "experiment_id", "pipeline_version_reference", "pipeline_spec", "runtime_config")
NAMED = st.sampled_from(
    (*KEYS, "pipeline_id", "pipeline_version_id", "parameters", "pipelineInfo", "name", "root", "inputDefinitions")
)
NEARLY = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMED, inner, max_size=4))
BODIES = st.dictionaries(st.sampled_from(KEYS), NEARLY, max_size=6) | VALUES
TARGETS = st.sampled_from(
    ["/runs", "/experiments", f"/runs/{VERSION}:terminate", "/pipelines/upload", "/pipelines", "/x", f"/runs/{VERSION}"]
)


@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]), TARGETS, BODIES)
def test_no_json_body_causes_an_internal_error(settings: Settings, method: str, path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    response = ask(settings, method, API + path, content=content, headers={"content-type": "application/json"})
    if response.status_code != 200:
        error_message(response, 400, 404, 409, 415)


@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "HEAD", "OPTIONS", "TRACE", "X"]),
    st.sampled_from(["/runs", "/pipelines", "/experiments", "/pipelines/names", "/runs/{}/log", ""]),
    st.text(max_size=20),
    st.dictionaries(st.sampled_from(["page_size", "page_token", "filter", "sort_by", "x"]), st.text(), max_size=3),
)
def test_no_path_or_query_causes_an_internal_error(
    settings: Settings, method: str, path: str, part: str, query: dict[str, str]
) -> None:
    part = httpx.QueryParams({"x": part.encode(errors="replace").decode()}).__str__().removeprefix("x=")
    path = path.replace("{}", part) if "{}" in path else f"{path}/{part}".rstrip("/")
    query = {key: value.encode(errors="replace").decode() for key, value in query.items()}
    response = ask(settings, method, API + path, params=query)
    assert response.status_code in {200, 307, 400, 404, 405}
    if response.status_code >= 400 and method != "HEAD":
        error_message(response, 400, 404, 405)


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200) | VALUES.map(json.dumps))
def test_no_file_causes_an_internal_error(content: bytes | str) -> None:
    try:
        spec, _ = specification.parse(content)
    except ValueError:
        return
    assert isinstance(spec["pipelineInfo"]["name"], str)
