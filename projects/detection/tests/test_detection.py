"""Boxes: reading VOC's archive, encoding and decoding grids, non-maximum suppression, and the metric."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import polars as pl
import pytest
import torch
from onnx import TensorProto, helper
from sklearn.linear_model import Ridge
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import batched_nms, box_convert

from phaseflow import discovery
from phaseflow.errors import DataError
from phaseflow.toolkit import graph
from projects.detection import data, edges, grid, model, precision, sample, suppression
from projects.detection.project import CLASSES, SHAPE

PROJECT = discovery.get("detection")
ANNOTATION = b"""<annotation><size><width>128</width><height>256</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>64</xmax><ymax>128</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>
</annotation>"""


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return data.read(sample.sample(7))


def test_boxes_shrink_with_their_image_and_difficult_ones_are_marked() -> None:
    assert data.boxes(ANNOTATION) == [
        {"box": [0, 0, 32, 32], "label": "dog"},
        {"box": [0, 0, 4.5, 2.25], "label": "cat", "difficult": True},
    ]


def test_a_difficult_box_affects_neither_the_loss_nor_the_metric() -> None:
    dog, cat = data.boxes(ANNOTATION)
    label = json.dumps([dog, cat])
    grids = grid.encode(pl.Series([label]))
    assert int(grids.objectness.sum()) == 1
    assert grids.mask[0, 0, 0, 0] == 0
    assert int(grids.mask.sum()) == grid.CELLS**2 - 1
    mirrored = grids.select(torch.tensor([0]), torch.tensor([True]))
    assert mirrored.mask[0, 0, 0, -1] == 0
    output = perfect_output(grids)
    before = grid.loss(output, grids)
    output[0, 0, 0, 0] = 20.0  # a confident prediction in the masked cell
    assert grid.loss(output, grids) == before
    predictions = (("dog", 0.9, *dog["box"]), ("cat", 0.8, *cat["box"]), ("cat", 0.7, 30.0, 30.0, 9.0, 9.0))
    assert precision.match_image(predictions, label) == ((("dog", 0.9, True), ("cat", 0.7, False)), (("dog", 1),))


def test_the_classes_are_vocs() -> None:
    assert len(set(CLASSES)) == 20
    assert set(sample.SIZES) < set(CLASSES)


def test_an_archive_that_is_none_or_lacks_an_image_is_refused() -> None:
    with pytest.raises(DataError, match="The archive can't be read"):
        data.read(b"<html>" * 1000)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        info = tarfile.TarInfo("VOCdevkit/VOC2007/Annotations/1.xml")
        info.size = len(ANNOTATION)
        archive.addfile(info, io.BytesIO(ANNOTATION))
    with pytest.raises(DataError, match=r"The archive lacks VOCdevkit/VOC2007/JPEGImages/1\.jpg"):
        data.read(content.getvalue())


def test_things_touch_their_boxes(rows: pl.DataFrame) -> None:
    random = np.random.default_rng(1)
    for name in sample.SIZES:
        picture = sample.Image.new("RGB", (96, 96), (250, 0, 250))
        sample.thing(sample.ImageDraw.Draw(picture), name, (20, 30, 60, 80), random)
        ink = (np.asarray(picture) != (250, 0, 250)).any(axis=2)
        across, down = np.flatnonzero(ink.any(axis=0)), np.flatnonzero(ink.any(axis=1))
        assert (across[0], down[0], across[-1] + 1, down[-1] + 1) == (20, 30, 60, 80), name


def perfect_output(grids: grid.Grids) -> torch.Tensor:
    """The output of a network that predicts the labels perfectly."""
    centre = torch.logit(grids.box[:, :2], eps=1e-6)
    classes = torch.nn.functional.one_hot(grids.label, len(CLASSES)).permute(0, 3, 1, 2) * 20.0
    return torch.cat([(grids.objectness * 2 - 1) * 20, centre, grids.box[:, 2:], classes], dim=1)


def test_decoding_a_grid_returns_the_encoded_boxes(rows: pl.DataFrame) -> None:
    grids = grid.encode(rows["things"].head(50))
    boxes, scores, labels = grid.decode(perfect_output(grids))
    for row, text in enumerate(rows["things"].head(50)):
        decoded = [
            {"box": [round(float(side), 2) for side in boxes[row, cell]], "label": CLASSES[labels[row, cell]]}
            for cell in (scores[row] > 0.5).nonzero()[:, 0]
        ]
        expected = json.loads(text)
        assert len(decoded) == len(expected)
        for thing in expected:
            assert any(
                candidate["label"] == thing["label"] and np.allclose(candidate["box"], thing["box"], atol=0.02)
                for candidate in decoded
            )


def test_a_mirrored_grid_is_the_grid_of_mirrored_boxes() -> None:
    box = {"box": [5.0, 11.0, 20.0, 14.0], "label": "cow"}
    other = box | {"box": [64 - 5.0 - 20.0, 11.0, 20.0, 14.0]}
    first, second = (grid.encode(pl.Series([json.dumps([boxed])])) for boxed in (box, other))
    mirrored = first.select(torch.tensor([0]), torch.tensor([True]))
    occupied = second.objectness[0, 0] > 0
    assert torch.equal(mirrored.objectness, second.objectness)
    torch.testing.assert_close(mirrored.box[0, :, occupied], second.box[0, :, occupied])
    assert mirrored.label[0, occupied] == second.label[0, occupied]


def test_the_loss_of_perfect_output_is_zero(rows: pl.DataFrame) -> None:
    grids = grid.encode(rows["things"].head(20))
    assert float(grid.loss(perfect_output(grids), grids)) < 1e-3
    assert float(grid.loss(-perfect_output(grids), grids)) > 10


def test_what_overlaps_is_suppressed_as_torchvision_does() -> None:
    random = np.random.default_rng(3)
    boxes = np.concatenate([random.uniform(0, 40, (7, 60, 2)), random.uniform(5, 25, (7, 60, 2))], axis=2)
    scores, labels = random.uniform(0, 1, (7, 60)), random.integers(0, 3, (7, 60))
    scores[6] = 0.01  # a row without boxes above the minimum score
    inputs = [
        helper.make_tensor_value_info("cell_boxes", TensorProto.FLOAT, [None, 60, 4]),
        helper.make_tensor_value_info("cell_scores", TensorProto.FLOAT, [None, 60]),
        helper.make_tensor_value_info("cell_labels", TensorProto.INT64, [None, 60]),
    ]
    graph_proto = helper.make_graph(
        suppression.nodes(), "end", inputs, suppression.outputs(), initializer=suppression.constants()
    )
    content = helper.make_model(
        graph_proto, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()
    feeds = {"cell_boxes": boxes.astype(np.float32), "cell_scores": scores.astype(np.float32), "cell_labels": labels}
    outputs = graph.run(content, feeds)
    for row in range(7):
        candidates = scores[row] > suppression.MIN_SCORE
        corners = box_convert(torch.tensor(boxes[row][candidates]), "xywh", "xyxy")
        best = batched_nms(
            corners, torch.tensor(scores[row][candidates]), torch.tensor(labels[row][candidates]), suppression.OVERLAP
        )[: suppression.MAX_BOXES].numpy()
        count = int((outputs["scores"][row] > 0).sum())
        assert count == len(best)
        np.testing.assert_allclose(outputs["scores"][row][:count], scores[row][candidates][best], atol=1e-6)
        np.testing.assert_allclose(outputs["boxes"][row][:count], boxes[row][candidates][best], atol=1e-4)
        assert outputs["labels"][row][:count].tolist() == labels[row][candidates][best].tolist()


def test_the_metric_agrees_with_torchmetrics(rows: pl.DataFrame) -> None:
    random = np.random.default_rng(5)
    subset = rows.head(60)
    things_of_rows = [json.loads(text) for text in subset["things"]]
    boxes, scores, labels = np.zeros((60, 6, 4), np.float32), np.zeros((60, 6), np.float32), np.zeros((60, 6), np.int64)
    for row, things in enumerate(things_of_rows):  # labels with noise, some wrong classes, and duplicates
        for index in range(6):
            thing = things[index % len(things)]
            boxes[row, index] = np.array(thing["box"]) * random.uniform(0.75, 1.3, 4)
            mislabeled = random.random() < 0.2
            labels[row, index] = CLASSES.index("car" if mislabeled else thing["label"])
            scores[row, index] = random.uniform(0.05, 1)
    outputs = {"boxes": boxes.round(2), "scores": scores.round(4), "labels": labels}
    metric = MeanAveragePrecision(box_format="xywh", iou_thresholds=[0.5])
    metric.update(
        [
            {"boxes": torch.tensor(b), "scores": torch.tensor(s), "labels": torch.tensor(n)}
            for b, s, n in zip(outputs["boxes"], outputs["scores"], labels, strict=True)
        ],
        [
            {
                "boxes": torch.tensor([thing["box"] for thing in things]),
                "labels": torch.tensor([CLASSES.index(thing["label"]) for thing in things]),
            }
            for things in things_of_rows
        ],
    )
    average_precision = precision.evaluate(outputs, subset, PROJECT)["mean_average_precision"]
    assert 0.2 < average_precision < 0.8
    assert average_precision == pytest.approx(float(metric.compute()["map_50"]), abs=0.005)


@pytest.fixture(scope="module")
def edges_model(rows: pl.DataFrame) -> bytes:
    (candidate,) = (candidate for candidate in PROJECT.candidates if candidate.name == "edges")
    return model.train(rows.head(300), PROJECT, candidate).onnx


def test_edges_detect_most_objects_of_unseen_images(rows: pl.DataFrame, edges_model: bytes) -> None:
    subset = rows.tail(100)
    figures = precision.evaluate(graph.run(edges_model, graph.feed(subset, PROJECT.schema)), subset, PROJECT)
    same = graph.run(model.constant(rows["things"].head(300), PROJECT), graph.feed(subset, PROJECT.schema))
    baseline = precision.evaluate(same, subset, PROJECT)["mean_average_precision"]
    assert figures["mean_average_precision"] > baseline + 0.3


def test_the_weights_of_edges_are_those_of_ridge_regression(rows: pl.DataFrame) -> None:
    subset = rows.head(12)
    images = torch.from_numpy(graph.pixels(subset["image"], SHAPE).copy()).permute(0, 3, 1, 2)
    grids = grid.encode(subset["things"])
    network = edges.fit(images, grids, alpha=3.0)
    histograms = edges.Histograms()
    both = torch.cat([images, images.flip(-1)]).float() / 255
    with torch.no_grad():
        padded = torch.nn.functional.pad(histograms(both), (5, 5, 5, 5)).numpy()
        boxes = network(both)[:, 1:5].permute(0, 2, 3, 1).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(padded, (12, 12), axis=(2, 3))[:, :, ::2, ::2]
    features = windows.transpose(0, 2, 3, 1, 4, 5).reshape(len(both) * grid.CELLS**2, -1)
    mirror = grids.select(torch.arange(12), torch.ones(12, dtype=torch.bool))
    occupied = torch.cat([grids.objectness, mirror.objectness]).flatten().numpy() > 0
    targets = torch.cat([grids.box, mirror.box])
    targets = (
        torch.cat([torch.logit(targets[:, :2], eps=0.02), targets[:, 2:]], dim=1).permute(0, 2, 3, 1).reshape(-1, 4)
    )
    reference = Ridge(alpha=3.0).fit(features[occupied], targets.numpy()[occupied])
    np.testing.assert_allclose(boxes.reshape(-1, 4), reference.predict(features), atol=2e-3)


def test_the_baseline_predicts_the_average_box_of_each_class(rows: pl.DataFrame) -> None:
    outputs = graph.run(model.constant(rows["things"], PROJECT), graph.feed(rows.head(3), PROJECT.schema))
    assert outputs["boxes"].shape == (3, 4, 4)
    cars = [thing["box"] for text in rows["things"] for thing in json.loads(text) if thing["label"] == "car"]
    index = outputs["labels"][0].tolist().index(CLASSES.index("car"))
    np.testing.assert_allclose(outputs["boxes"][2, index], np.mean(cars, axis=0), rtol=1e-5)
    assert precision.evaluate(outputs, rows.head(3), PROJECT)["precision"] is None  # it has no confident boxes
