"""Reading MNIST's files, and exporting a network as the graph that is served."""

from __future__ import annotations

import gzip

import numpy as np
import polars as pl
import pytest
import torch

from phaseflow import discovery
from phaseflow.errors import DataError
from phaseflow.toolkit import exporting, graph
from projects.digits import data, model

IMAGES = np.arange(2 * 28 * 28).astype(np.uint8).reshape(2, 28, 28)
LABELS = np.array([7, 0], np.uint8)


def test_mnists_files_are_read_compressed_or_not() -> None:
    plain = (data.packed(IMAGES), data.packed(LABELS))
    assert plain[0][:16].hex() == "00000803000000020000001c0000001c"
    assert plain[1][:8].hex() == "0000080100000002"
    rows = data.read(*plain, *(gzip.compress(content) for content in plain))
    assert rows["digit"].to_list() == ["7", "0", "7", "0"]
    assert rows["image"].to_list() == [image.tobytes() for image in (*IMAGES, *IMAGES)]


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        ((data.packed(IMAGES)[:-1], data.packed(LABELS)), r"The file contains 1567 values for the shape \(2, 28, 28\)"),
        ((b"<html>", data.packed(LABELS)), "The file begins with 3c68746d"),
        ((data.packed(IMAGES), data.packed(LABELS[:1])), r"1 labels for images of shape \(2, 28, 28\)"),
        ((data.packed(LABELS), data.packed(LABELS)), r"2 labels for images of shape \(2,\)"),
    ],
)
def test_other_files_are_refused(contents: tuple[bytes, bytes], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        data.read(*contents)


def test_the_sample_is_in_mnists_form() -> None:
    rows = data.read(*data.sample(7))
    assert rows.height == 1797
    images = graph.pixels(rows["image"], (28, 28))
    edge = np.concatenate([images[:, :4].ravel(), images[:, -4:].ravel(), images[:, :, :4].ravel()])
    assert not edge.any()
    assert images.max() == 255


@pytest.mark.parametrize("name", ["linear", "convolutional"])
def test_the_exported_graph_agrees_with_the_network(name: str) -> None:
    torch.manual_seed(1)
    project, network = discovery.get("digits"), exporting.OfBytes(model.network(name)).eval()
    rows = data.read(*data.sample(7)).head(50)
    example = {"image": torch.zeros(2, 28, 28, 1, dtype=torch.uint8)}
    outputs = graph.run(exporting.classifier(network, example, model.CLASSES), graph.feed(rows, project.schema))
    images = torch.from_numpy(graph.pixels(rows["image"], (28, 28, 1)).copy())
    with torch.no_grad():
        expected = network(images).softmax(dim=1)
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    assert outputs["label"].tolist() == [str(int(index)) for index in expected.argmax(dim=1)]


def test_neighbours_read_nearly_every_digit_of_the_sample_and_stay_small() -> None:
    project = discovery.get("digits")
    rows = data.read(*data.sample(7))
    (candidate,) = (candidate for candidate in project.candidates if candidate.name == "nearest_neighbours")
    trained = model.train(rows.head(1400), project, candidate)
    outputs = graph.run(trained.onnx, graph.feed(rows.tail(397), project.schema))
    assert (outputs["label"] == rows["digit"].tail(397).to_numpy()).mean() > 0.95
    many = pl.concat([rows] * 3)  # more than 200 of each digit
    assert len(model.train(many, project, candidate).onnx) < project.gate.size_mb * 1e6


def test_saliency_is_a_picture_of_every_digit() -> None:
    torch.manual_seed(1)
    rows = data.read(*data.sample(7)).unique("digit", maintain_order=True).sort("digit")
    picture = model.saliency(model.network("linear"), rows)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000
