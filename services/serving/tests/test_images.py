"""Images in all accepted forms, predictions with contributions, and a project without a target."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from phaseflow import discovery, kinds, reference
from phaseflow.toolkit import images
from services.serving.tests.conftest import until

DIGITS = discovery.get("from_scratch")
EXAMPLE = DIGITS.example["image"]
PNG = base64.b64decode(EXAMPLE)
SHAPE = DIGITS.schema["image"].shape
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def encoded(kind: str, size: tuple[int, int] = (8, 8), mode: str = "L", **how: Any) -> bytes:
    """The example image in another format, size or mode."""
    content = io.BytesIO()
    Image.open(io.BytesIO(PNG)).resize(size, Image.Resampling.NEAREST).convert(mode).save(content, kind, **how)
    return content.getvalue()


def label(response: Any) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["predictions"][0]["label"])


@pytest.mark.parametrize(
    "request_args",
    [
        {"json": {"image": EXAMPLE}},
        {"json": {"image": f"data:image/png;base64,{EXAMPLE}"}},
        {"json": {"rows": [{"image": EXAMPLE}]}},
        {"content": PNG, "headers": {"content-type": "application/octet-stream"}},
        {"content": PNG, "headers": {"content-type": "image/png"}},
        {"files": {"image": ("digit.png", PNG, "image/png")}},
        {"content": encoded("JPEG", quality=95), "headers": {"content-type": "image/jpeg"}},
        {"content": encoded("JPEG", (640, 640), "RGB", quality=90)},
        {"content": encoded("PNG", (80, 80), "RGBA")},
        {"content": encoded("PNG", (8, 8), "P")},
    ],
    ids=["base64", "data url", "rows", "file", "png", "form", "jpeg", "large jpeg", "alpha", "palette"],
)
def test_an_image_is_answered_however_it_is_sent(serving: Any, request_args: dict[str, Any]) -> None:
    assert label(serving.post("/from_scratch/predict", **request_args)) == "3"


def test_every_image_is_answered_as_in_training(serving: Any, registry: Any) -> None:
    rows, expected = registry.rows["from_scratch"], registry.outputs["from_scratch"]["1"]
    predictions = [
        prediction
        for begin in range(0, len(rows), 900)
        for prediction in serving.post("/from_scratch/predict", json={"rows": rows[begin : begin + 900]}).json()[
            "predictions"
        ]
    ]
    assert [prediction["label"] for prediction in predictions] == expected["label"]
    probabilities = np.array([list(prediction["probabilities"].values()) for prediction in predictions])
    np.testing.assert_allclose(probabilities, np.array(expected["probabilities"]), rtol=1e-5, atol=1e-7)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 400 million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("request_args", "problem", "fix"),
    [
        (
            {"json": {"image": "not base64!"}},
            "image of row 0 is not base64: Only base64 data is allowed",
            "Send a PNG or JPEG file as base64, alone or in a data: URL.",
        ),
        (
            {"json": {"image": base64.b64encode(b"plain text").decode()}},
            "image of row 0: The image can't be read: no PNG or JPEG",
            "Send a whole PNG or JPEG file.",
        ),
        (
            {"json": {"rows": [{"image": EXAMPLE}, {"image": ""}]}},
            "rows[1].image: Expected `str` of length >= 1",
            "Send a PNG or JPEG file as base64, alone or in a data: URL.",
        ),
        (
            {"json": {"image": 3}},
            "image: Expected `str`, got `int`",
            "Send a PNG or JPEG file as base64, alone or in a data: URL.",
        ),
        ({"content": PNG[:60]}, "image: The image can't be read: ", "Send a whole PNG or JPEG file."),
        (
            {"content": bomb()},
            "image: The image has more than 16 million pixels",
            "Send a smaller one.",
        ),
        (
            {"files": {"a": ("a.png", PNG), "b": ("b.png", PNG)}},
            "The form holds 2 files; allowed: 1",
            "Send the image file alone, or as the only file of a form: `curl -F image=@picture.png`.",
        ),
        (
            {"files": [("image", ("a.png", b"x"))] * 5000},
            "The form holds more than 16 parts",
            "Send the image file alone, or as the only file of a form: `curl -F image=@picture.png`.",
        ),
        (
            {"content": b"--x\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            "The form ",
            "Send the image file alone, or as the only file of a form: `curl -F image=@picture.png`.",
        ),
    ],
)
def test_what_is_no_image_is_refused(serving: Any, request_args: dict[str, Any], problem: str, fix: str) -> None:
    response = serving.post("/from_scratch/predict", **request_args)
    assert response.status_code == 422, response.text
    error = response.json()["error"]
    assert error["problem"].startswith(problem), error
    assert error["fix"] == fix


def black(width: int, height: int) -> str:
    """A PNG of a few kB."""
    content = io.BytesIO()
    Image.new("1", (width, height)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def test_the_images_of_a_request_have_a_limit_that_is_looked_at_first(serving: Any) -> None:
    large = black(8000, 2000)
    begin = time.monotonic()
    response = serving.post("/from_scratch/predict", json={"rows": [{"image": large}] * 390})
    assert time.monotonic() - begin < 5  # 390 of them would take minutes
    assert response.status_code == 422
    assert response.json()["error"] == {
        "field": "image",
        "problem": "The images of the request have more than 64 million pixels",
        "fix": "Send fewer at once, or smaller ones.",
    }
    long = serving.post("/from_scratch/predict", json={"image": black(16_000_000, 1)})
    assert long.status_code == 422
    assert long.json()["error"]["problem"] == "image of row 0: The image is 16000000 x 1 pixels; allowed: 8192 a side"
    assert label(serving.post("/from_scratch/predict", json={"image": EXAMPLE})) == "3"


def test_who_hangs_up_is_not_worked_for(serving: Any) -> None:
    """Four images of the largest size, and a client that disconnects at once."""
    disconnects = serving.metric("phaseflow_requests_total", project="from_scratch", code="499")
    rows = serving.metric("phaseflow_rows_total", project="from_scratch")
    body = json.dumps({"rows": [{"image": black(8000, 2000)}] * 4}).encode()
    head = f"POST /from_scratch/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as connection:
        connection.sendall(head.encode() + body)
    until(lambda: serving.metric("phaseflow_requests_total", project="from_scratch", code="499") == disconnects + 1)
    assert label(serving.post("/from_scratch/predict", json={"image": EXAMPLE})) == "3"
    assert serving.metric("phaseflow_rows_total", project="from_scratch") == rows + 1


def test_an_image_is_no_row_of_a_table(serving: Any) -> None:
    response = serving.post("/titanic/predict", content=PNG)
    assert response.status_code == 415
    assert response.json()["error"]["problem"] == "A row of titanic is not a single image"
    for kind in ("image/png", "application/octet-stream", "multipart/form-data; boundary=x"):
        response = serving.post("/titanic/predict", content=PNG, headers={"content-type": kind})
        assert response.status_code == 415
        assert response.json()["error"]["fix"] == "Send JSON. With curl: `-H 'content-type: application/json'`."


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_a_file_without_its_type_is_refused_with_the_way_to_send_it(serving: Any, kind: str) -> None:
    """`curl --data-binary` declares every body a form, which a page of any origin may send."""
    response = serving.post("/from_scratch/predict", content=PNG, headers={"content-type": kind} if kind else {})
    assert response.status_code == 415
    assert response.json()["error"]["fix"].endswith(
        "With curl: `-H 'content-type: image/png' --data-binary @x.png`, or `-F image=@x.png`."
    )


@FUZZ
@given(
    content=st.binary(max_size=300),
    begin=st.sampled_from([PNG, PNG[:8], b"\xff\xd8\xff", encoded("JPEG")]),
    cut=st.integers(0, 300),
)
def test_no_broken_file_makes_it_fail(serving: Any, content: bytes, begin: bytes, cut: int) -> None:
    file = begin[:cut] + content
    assert serving.post("/from_scratch/predict", content=file).status_code in {200, 422}
    assert serving.post("/from_scratch/predict", json={"image": base64.b64encode(file).decode()}).status_code in {
        200,
        422,
    }


def test_the_log_holds_the_pixels_and_live_drift_their_figures(serve: Any, registry: Any) -> None:
    service, rows = serve().start(), registry.rows["from_scratch"][:40]
    until(lambda: service.version("from_scratch") == "1")
    service.post("/from_scratch/predict", json={"rows": rows})
    until(lambda: service.logged(project="from_scratch").height == 40)
    pixels = [images.decode(base64.b64decode(row["image"]), SHAPE) for row in rows]
    assert service.logged(project="from_scratch")["image"].to_list() == pixels
    model = (service.home / "serving" / "models" / "from_scratch" / "1" / "model.json").read_text()
    for bins in reference.from_json(json.loads(model)["reference"]):
        name = bins.feature.partition(".")[2]
        if not name:
            continue
        index = ("brightness", "contrast", "sharpness").index(name)
        counts = [0] * len(bins.shares)
        for image in pixels:
            counts[bins.index(kinds.describe(DIGITS.schema["image"], image)[index])] += 1
        for bin_name, count in zip(bins.labels, counts, strict=True):
            total = service.metric(
                "phaseflow_feature_bin_total", project="from_scratch", feature=bins.feature, bin=bin_name
            )
            assert total == count


def test_a_segment_is_named_with_its_reasons(serving: Any, registry: Any) -> None:
    response = serving.predict("customer_segments").json()["predictions"][0]
    names = discovery.get("customer_segments").schema.feature_names
    assert set(response) == {"id", "label", "probabilities", "why"}
    assert response["label"] == max(response["probabilities"], key=lambda name: response["probabilities"][name])
    assert [set(item) for item in response["why"]] == [{"feature", "contribution"}] * 3
    assert {item["feature"] for item in response["why"]} <= set(names)
    sizes = [abs(item["contribution"]) for item in response["why"]]
    assert sizes == sorted(sizes, reverse=True)
    tensors = serving.post(
        "/v2/models/customer_segments/infer",
        json={"inputs": [{"name": n, "shape": [1], "datatype": "INT64", "data": [9]} for n in names]},
    ).json()
    assert [item["name"] for item in tensors["outputs"]] == ["id", "label", "probabilities"]


def test_a_project_without_a_label_takes_none_and_shows_no_loss(serving: Any) -> None:
    response = serving.post("/customer_segments/feedback", json={"labels": [{"id": "a", "label": "b"}]})
    assert (response.status_code, response.json()["error"]["problem"]) == (
        422,
        "customer_segments has no target, so it accepts no labels",
    )
    assert 'phaseflow_live_loss_total{loss="error",project="customer_segments"' not in serving.get("/metrics").text
