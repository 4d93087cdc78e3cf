"""Boxes: from VOC's archive to a grid and back, the end of the graph, and the figure that judges."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import polars as pl
import pytest
import torch
from onnx import TensorProto, helper
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import batched_nms, box_convert

from phaseflow import registry
from phaseflow.errors import DataError
from phaseflow.toolkit import graph
from projects.detection import data, grid, model, precision, sample, suppression
from projects.detection.project import CLASSES

PROJECT = registry.get("detection")
ANNOTATION = b"""<annotation><size><width>128</width><height>256</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>64</xmax><ymax>128</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>
</annotation>"""


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return data.read(sample.sample(7))


def test_boxes_shrink_with_their_image_and_difficult_ones_are_left_out() -> None:
    assert data.boxes(ANNOTATION) == [{"box": [0, 0, 32, 32], "label": "dog"}]


def test_the_classes_are_vocs() -> None:
    assert len(set(CLASSES)) == 20
    assert set(sample.SIZES) < set(CLASSES)


def test_an_archive_that_is_none_or_lacks_an_image_is_refused() -> None:
    with pytest.raises(DataError, match="The archive can't be read"):
        data.read(b"<html>" * 1000)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        about = tarfile.TarInfo("VOCdevkit/VOC2007/Annotations/1.xml")
        about.size = len(ANNOTATION)
        archive.addfile(about, io.BytesIO(ANNOTATION))
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


def sure(grids: grid.Grids) -> torch.Tensor:
    """What a network that knows the truth would say."""
    centre = torch.logit(grids.box[:, :2], eps=1e-6)
    classes = torch.nn.functional.one_hot(grids.label, len(CLASSES)).permute(0, 3, 1, 2) * 20.0
    return torch.cat([(grids.there * 2 - 1) * 20, centre, grids.box[:, 2:], classes], dim=1)


def test_a_grid_says_the_boxes_it_was_made_of(rows: pl.DataFrame) -> None:
    grids = grid.encoded(rows["things"].head(50))
    boxes, scores, labels = grid.decoded(sure(grids))
    for row, text in enumerate(rows["things"].head(50)):
        found = [
            {"box": [round(float(side), 2) for side in boxes[row, cell]], "label": CLASSES[labels[row, cell]]}
            for cell in (scores[row] > 0.5).nonzero()[:, 0]
        ]
        true = json.loads(text)
        assert len(found) == len(true)
        for thing in true:
            assert any(
                one["label"] == thing["label"] and np.allclose(one["box"], thing["box"], atol=0.02) for one in found
            )


def test_a_mirrored_grid_is_the_grid_of_mirrored_boxes() -> None:
    box = {"box": [5.0, 11.0, 20.0, 14.0], "label": "cow"}
    other = box | {"box": [64 - 5.0 - 20.0, 11.0, 20.0, 14.0]}
    one, two = (grid.encoded(pl.Series([json.dumps([each])])) for each in (box, other))
    mirrored = one.of(torch.tensor([0]), torch.tensor([True]))
    held = two.there[0, 0] > 0
    assert torch.equal(mirrored.there, two.there)
    torch.testing.assert_close(mirrored.box[0, :, held], two.box[0, :, held])
    assert mirrored.label[0, held] == two.label[0, held]


def test_the_loss_of_the_truth_is_nothing(rows: pl.DataFrame) -> None:
    grids = grid.encoded(rows["things"].head(20))
    assert float(grid.loss(sure(grids), grids)) < 1e-3
    assert float(grid.loss(-sure(grids), grids)) > 10


def test_what_overlaps_is_suppressed_as_torchvision_does() -> None:
    random = np.random.default_rng(3)
    boxes = np.concatenate([random.uniform(0, 40, (7, 60, 2)), random.uniform(5, 25, (7, 60, 2))], axis=2)
    scores, labels = random.uniform(0, 1, (7, 60)), random.integers(0, 3, (7, 60))
    scores[6] = 0.01  # nothing to say
    inputs = [
        helper.make_tensor_value_info("cell_boxes", TensorProto.FLOAT, [None, 60, 4]),
        helper.make_tensor_value_info("cell_scores", TensorProto.FLOAT, [None, 60]),
        helper.make_tensor_value_info("cell_labels", TensorProto.INT64, [None, 60]),
    ]
    made = helper.make_graph(
        suppression.nodes(), "end", inputs, suppression.outputs(), initializer=suppression.constants()
    )
    content = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    feeds = {"cell_boxes": boxes.astype(np.float32), "cell_scores": scores.astype(np.float32), "cell_labels": labels}
    said = graph.run(content, feeds)
    for row in range(7):
        kept = scores[row] > suppression.LEAST
        corners = box_convert(torch.tensor(boxes[row][kept]), "xywh", "xyxy")
        best = batched_nms(
            corners, torch.tensor(scores[row][kept]), torch.tensor(labels[row][kept]), suppression.OVERLAP
        )[: suppression.MOST].numpy()
        count = int((said["scores"][row] > 0).sum())
        assert count == len(best)
        np.testing.assert_allclose(said["scores"][row][:count], scores[row][kept][best], atol=1e-6)
        np.testing.assert_allclose(said["boxes"][row][:count], boxes[row][kept][best], atol=1e-4)
        assert said["labels"][row][:count].tolist() == labels[row][kept][best].tolist()


def test_the_figure_is_torchmetrics(rows: pl.DataFrame) -> None:
    random = np.random.default_rng(5)
    few = rows.head(60)
    truths = [json.loads(text) for text in few["things"]]
    boxes, scores, labels = np.zeros((60, 6, 4), np.float32), np.zeros((60, 6), np.float32), np.zeros((60, 6), np.int64)
    for row, things in enumerate(truths):  # the truth, shaken, with some names exchanged, and boxes of nothing
        for place in range(6):
            thing = things[place % len(things)]
            boxes[row, place] = np.array(thing["box"]) * random.uniform(0.75, 1.3, 4)
            wrong = random.random() < 0.2
            labels[row, place] = CLASSES.index("car" if wrong else thing["label"])
            scores[row, place] = random.uniform(0.05, 1)
    said = {"boxes": boxes.round(2), "scores": scores.round(4), "labels": labels}
    theirs = MeanAveragePrecision(box_format="xywh", iou_thresholds=[0.5])
    theirs.update(
        [
            {"boxes": torch.tensor(b), "scores": torch.tensor(s), "labels": torch.tensor(n)}
            for b, s, n in zip(said["boxes"], said["scores"], labels, strict=True)
        ],
        [
            {
                "boxes": torch.tensor([one["box"] for one in things]),
                "labels": torch.tensor([CLASSES.index(one["label"]) for one in things]),
            }
            for things in truths
        ],
    )
    ours = precision.evaluate(said, few, PROJECT)["mean_average_precision"]
    assert 0.2 < ours < 0.8
    assert ours == pytest.approx(float(theirs.compute()["map_50"]), abs=0.005)


def test_the_baseline_says_the_average_box_of_each_class(rows: pl.DataFrame) -> None:
    said = graph.run(model.constant(rows["things"], PROJECT), graph.feed(rows.head(3), PROJECT.schema))
    assert said["boxes"].shape == (3, 4, 4)
    cars = [one["box"] for text in rows["things"] for one in json.loads(text) if one["label"] == "car"]
    place = said["labels"][0].tolist().index(CLASSES.index("car"))
    np.testing.assert_allclose(said["boxes"][2, place], np.mean(cars, axis=0), rtol=1e-5)
    assert precision.evaluate(said, rows.head(3), PROJECT)["precision"] is None  # it is sure of nothing
