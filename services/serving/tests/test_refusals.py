"""Invalid requests: a 4xx that names the problem and the fix, never a 5xx."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from phaseflow import discovery

EXAMPLE = dict(discovery.get("titanic").example)
HOUSE = dict(discovery.get("house_prices").example)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in EXAMPLE.items() if key != name}


@pytest.mark.parametrize(
    ("body", "field", "problem", "fix"),
    [
        (
            EXAMPLE | {"fare": "7.25"},
            "fare",
            "fare: Expected `float`, got `str`",
            "Send a finite number from 0 to 10000.",
        ),
        (EXAMPLE | {"sibsp": 1.5}, "sibsp", "sibsp: Expected `int`, got `float`", "Send a whole number from 0 to 20."),
        (EXAMPLE | {"sibsp": True}, "sibsp", "sibsp: Expected `int`, got `bool`", "Send a whole number from 0 to 20."),
        (
            EXAMPLE | {"fare": None},
            "fare",
            "fare: Expected `float`, got `null`",
            "Send a finite number from 0 to 10000.",
        ),
        (EXAMPLE | {"age": -1}, "age", "age: Expected `float` >= 0.0", "Send a finite number from 0 to 120 or null."),
        (EXAMPLE | {"sex": "femal"}, "sex", "sex of row 0 is 'femal'; allowed: female, male", 'Did you mean "female"?'),
        (EXAMPLE | {"title": ""}, "title", "title: Expected `str` of length >= 1", "Send a text."),
        (EXAMPLE | {"agee": 3}, "agee", "There is no field 'agee'", 'Did you mean "age"?'),
        (without("fare"), "fare", "The field 'fare' is missing", "Add it: a finite number from 0 to 10000."),
        (
            {"rows": [EXAMPLE, EXAMPLE | {"age": "old"}]},
            "age",
            "rows[1].age: Expected `float | null`, got `str`",
            "Send a finite number from 0 to 120 or null.",
        ),
        (
            {"rows": [EXAMPLE, without("sex")]},
            "sex",
            "The field 'sex' is missing (at rows[1])",
            "Add it: one of female, male.",
        ),
        (
            {"rows": [EXAMPLE, EXAMPLE | {"pclass": "4"}]},
            "pclass",
            "pclass of row 1 is '4'; allowed: 1, 2, 3",
            "Send one of them.",
        ),
        (
            {"rows": []},
            "rows",
            "Expected `array` of length >= 1 (at rows)",
            'Send one row as an object, or {"rows": [..]} with 1 to 1000 rows.',
        ),
        (
            {"rows": [EXAMPLE] * 1001},
            "rows",
            "Expected `array` of length <= 1000 (at rows)",
            'Send one row as an object, or {"rows": [..]} with 1 to 1000 rows.',
        ),
        (
            [EXAMPLE],
            "",
            "Expected `object`, got `array`",
            'Send one row as an object, or {"rows": [..]} with 1 to 1000 rows.',
        ),
    ],
)
def test_wrong_rows_name_field_row_and_fix(serving: Any, body: Any, field: str, problem: str, fix: str) -> None:
    response = serving.post("/titanic/predict", json=body)
    assert (response.status_code, response.json()) == (422, {"error": {"field": field, "problem": problem, "fix": fix}})


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_not_finite_is_refused_by_name(serving: Any, word: str) -> None:
    row = json.dumps(EXAMPLE | {"fare": 0.25}).replace("0.25", word)
    alone = serving.post("/titanic/predict", content=row).json()["error"]
    assert (alone["field"], alone["fix"]) == ("fare", "Send a finite number from 0 to 10000.")
    among = serving.post("/titanic/predict", content=f'{{"rows": [{json.dumps(EXAMPLE)}, {row}]}}')
    assert among.status_code == 422
    assert "rows[1].fare" in among.json()["error"]["problem"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{",
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b'{"age": "\xff"}',
        b'{"title": "\\ud800"}',
        b"[" * 300_000,
        b'{"rows": [' * 5000,
        b'{"age": 1' + b"0" * 6000 + b"}",
        b'{"sibsp": 1' + b"0" * 6000 + b"}",
        b'{"' + b"x" * 2_000_000 + b'": 1}',
        b'{"rows": 3}',
    ],
    ids=lambda body: repr(body[:12]),
)
@pytest.mark.parametrize("route", ["/titanic/predict", "/titanic/feedback", "/v2/models/titanic/infer"])
def test_what_is_no_request_is_refused(serving: Any, route: str, body: bytes) -> None:
    response = serving.post(route, content=body)
    assert response.status_code == 422
    assert len(response.content) < 2000
    assert "Send" in response.text or "Did you mean" in response.text


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1", "male", "Mr", 0, 3.5]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ROWS = st.fixed_dictionaries({}, optional=dict.fromkeys([*EXAMPLE, "rows", "extra"], VALUES))
GOOD_BUT_FOR_ONE = st.tuples(st.sampled_from(list(EXAMPLE)), VALUES).map(lambda pair: EXAMPLE | {pair[0]: pair[1]})


@FUZZ
@given(
    body=VALUES | ROWS | GOOD_BUT_FOR_ONE | st.fixed_dictionaries({"rows": st.lists(ROWS | GOOD_BUT_FOR_ONE | VALUES)})
)
def test_no_json_makes_it_fail(serving: Any, body: Any) -> None:
    for route in ("/titanic/predict", "/titanic/feedback", "/v2/models/titanic/infer"):
        response = serving.post(route, content=json.dumps(body))
        assert response.status_code in {200, 422}, response.text
        assert route.endswith("predict") or response.status_code == 422
        if response.status_code == 422 and not route.endswith("infer"):
            assert set(response.json()["error"]) == {"field", "problem", "fix"}


@FUZZ
@given(body=st.binary(max_size=400))
@example(body=b"\xff\xd8\xff")  # the start of a JPEG, which is not a row of a table
def test_no_bytes_make_it_fail(serving: Any, body: bytes) -> None:
    expected = 415 if body.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) else 422
    assert serving.post("/titanic/predict", content=body).status_code == expected


TENSORS = st.fixed_dictionaries(
    {"name": st.sampled_from([*EXAMPLE, "x"]), "shape": st.lists(st.integers(-2, 3), max_size=3) | VALUES},
    optional={"datatype": st.sampled_from(["FP64", "BYTES"]) | VALUES, "data": st.lists(VALUES, max_size=3) | VALUES},
)


@FUZZ
@given(body=st.fixed_dictionaries({"inputs": st.lists(TENSORS, max_size=4)}))
def test_no_tensors_make_it_fail(serving: Any, body: Any) -> None:
    assert serving.post("/v2/models/titanic/infer", content=json.dumps(body)).status_code == 422


@FUZZ
@given(
    body=st.fixed_dictionaries(
        {}, optional={"project": st.sampled_from(["titanic", "x"]) | VALUES, "rows": st.lists(ROWS) | VALUES}
    )
)
def test_bentomls_own_route_refuses_likewise(serving: Any, body: Any) -> None:
    assert serving.post("/predict", content=json.dumps(body)).status_code in {400, 404, 422}


def test_a_strange_field_that_is_not_a_number_is_refused_by_bentomls_route(serving: Any) -> None:
    response = serving.post("/predict", content='{"project": "titanic", "rows": [{"pclass": null, "extra": Infinity}]}')
    assert response.status_code == 422
    assert "extra" in response.text or "pclass" in response.text


def test_the_services_log_holds_no_failure(serving: Any) -> None:
    """Runs after the tests above."""
    assert serving.metric("phaseflow_requests_total", code="500") == 0


def test_unknown_paths_are_refused(serving: Any) -> None:
    response = serving.post("/titanik/predict", json=EXAMPLE)
    expected = {"field": "", "problem": "There is no project 'titanik'", "fix": 'Did you mean "titanic"?'}
    assert (response.status_code, response.json()) == (404, {"error": expected})
    for path in ("/titanik/model", "/v2/models/titanik", "/v2/models/titanik/ready", "/v2/nothing", "/nothing/at/all"):
        assert serving.get(path).status_code == 404, path
    assert serving.post(f"/{'x' * 5000}/predict", json=EXAMPLE).status_code == 404
    assert serving.post("/v2/models/titanik/infer", json={"inputs": []}).status_code == 404
    assert serving.get("/titanic/predict").status_code == 405
    assert serving.metric("phaseflow_requests_total", project="titanik") == 0  # unknown names get no series


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([{"id": "a", "label": 0.5}], "Expected `bool | int | str`, got `float` (at labels[0].label)"),
        ([{"id": "a", "label": None}], "Expected `bool | int | str`, got `null` (at labels[0].label)"),
        ([{"id": "a", "label": "2"}], "labels[0].label is '2'; allowed: 0, 1"),
        ([{"id": "a", "label": 0}, {"id": "b", "label": True}], "labels[1].label is 'true'; allowed: 0, 1"),
        ([{"id": 3, "label": 0}], "Expected `str`, got `int` (at labels[0].id)"),
        ([{"id": "a"}], "The field 'label' is missing (at labels[0])"),
        ([], "Expected `array` of length >= 1 (at labels)"),
    ],
)
def test_wrong_labels_are_refused(serving: Any, labels: Any, problem: str) -> None:
    response = serving.post("/titanic/feedback", json={"labels": labels})
    assert (response.status_code, response.json()["error"]["problem"]) == (422, problem)


@pytest.mark.parametrize(
    "group", ["A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "g" * 64, " ", "../../x", "\u0660" * 64]
)
def test_a_group_that_is_no_hash_is_refused(serving: Any, group: str) -> None:
    labels = [{"id": "a", "label": 0, "group": "b" * 64}, {"id": "b", "label": 0, "group": group}]
    response = serving.post("/titanic/feedback", json={"labels": labels})
    assert response.status_code == 422
    assert response.json()["error"] == {
        "field": "group",
        "problem": f"labels[1].group is {group[:100]!r}",
        "fix": "Send the SHA-256 of the group's name, 64 lower-case hexadecimal digits, or leave the field out.",
    }


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        (7, "Expected `str`, got `int` (at labels[0].group)"),
        (None, "Expected `str`, got `null` (at labels[0].group)"),
        ("a" * 1001, "Expected `str` of length <= 1000 (at labels[0].group)"),
    ],
)
def test_a_group_that_is_no_short_text_is_refused(serving: Any, group: Any, problem: str) -> None:
    response = serving.post("/titanic/feedback", json={"labels": [{"id": "a", "label": 0, "group": group}]})
    assert (response.status_code, response.json()["error"]["problem"]) == (422, problem)


def test_a_number_is_no_class_and_a_text_no_number(serving: Any) -> None:
    for label in ("208500", None, -5, True):
        response = serving.post("/house_prices/feedback", json={"labels": [{"id": "a", "label": label}]})
        assert response.status_code == 422, label
    assert serving.post("/house_prices/feedback", json={"labels": [{"id": "a", "label": 208500}]}).json() == {
        "accepted": 1
    }


def resident(pid: int) -> int:
    """Resident memory of a process in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise AssertionError(pid)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("route", ["/titanic/predict", "/titanic/feedback", "/v2/models/titanic/infer", "/predict"])
def test_a_hundred_megabytes_are_refused_and_not_kept(serving: Any, route: str, chunked: bool) -> None:
    def parts() -> Any:
        for _ in range(100):
            yield b"[" * (1 << 20)

    before = resident(serving.worker.pid)
    begin = time.monotonic()
    response = serving.post(route, content=parts() if chunked else b"".join(parts()))
    assert response.status_code == (411 if chunked and route == "/predict" else 413)
    if response.status_code == 413:
        assert response.json()["error"] in (
            {"field": "", "problem": "The body is larger than 8 MiB", "fix": "Send fewer rows at once."},
            "The body is larger than 8 MiB. Send fewer rows at once.",
        )
    assert time.monotonic() - begin < 20
    assert resident(serving.worker.pid) - before < 40
    assert serving.predict().status_code == 200


def test_a_declared_length_over_the_limit_is_refused_unread(serving: Any) -> None:
    with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as connection:
        connection.sendall(
            b"POST /titanic/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100000000\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_who_goes_away_in_mid_request_is_not_answered_nor_logged(serving: Any) -> None:
    rows = serving.metric("phaseflow_rows_total", project="titanic")
    disconnects = serving.metric("phaseflow_requests_total", project="titanic", code="499")
    whole = json.dumps(EXAMPLE).encode()
    with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as connection:
        connection.sendall(
            b"POST /titanic/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
            + whole
        )
    end = time.monotonic() + 10
    while serving.metric("phaseflow_requests_total", project="titanic", code="499") == disconnects:
        assert time.monotonic() < end
    assert serving.metric("phaseflow_rows_total", project="titanic") == rows


def test_before_the_first_champion_it_asks_for_patience(serve: Any) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        service = serve(mlflow_url=f"http://127.0.0.1:{nobody.getsockname()[1]}").start(ready=False)
    assert service.get("/readyz").status_code == 503
    response = service.predict()
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["error"]["problem"] == "titanic has no champion yet"
    assert response.json()["error"]["fix"] == "Train one: trigger the DAG titanic, or `phaseflow run titanic`."
    assert service.get("/titanic/model").status_code == 503
    assert service.metric("phaseflow_registry_up") == 0
    assert isinstance(service.get("/projects"), httpx.Response)
