"""Detection: which objects does an image show, and where? A small single-shot detector in PyTorch, on 64 x 64 pixels."""

from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Resources, Schema, Source

SHAPE = (64, 64, 3)
"""Shape of the model's input images; larger images and their boxes are scaled down to it."""
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

project = Project(
    name="detection",
    title="Detection",
    phase=4,
    environment="torch",
    description="A small single-shot detector names the things on an image and draws a box around each: Pascal VOC.",
    source=Source(
        url="http://host.robots.ox.ac.uk/pascal/VOC/voc2007/VOCtrainval_06-Nov-2007.tar",
        sha256="7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        mirror="VOCtrainval_06-Nov-2007.tar",
        sample="detection.sample:sample",
        read="detection.data:read",
        license="Flickr's terms of use (Everingham et al. 2007)",
        minimum_rows=200,
    ),
    schema=Schema(
        features=(Column(name="image", kind="image", shape=SHAPE, description="a photo, shrunk to 64 x 64"),),
        target=Column(name="things", kind="boxes", allowed=CLASSES, unit="pixels"),
    ),
    transform="detection.data:transform",
    train="detection.model:train",
    evaluate="detection.precision:evaluate",
    candidates=(
        Candidate(name="always_the_same"),
        Candidate(name="edges", params={"alpha": 3.0}),
        Candidate(name="single_shot", params={"epochs": 30, "rate": 0.006}),
    ),
    metrics=(
        Metric(name="mean_average_precision", threshold={"sample": 0.5, "public": 0.01}),
        Metric(name="recall"),
        Metric(name="precision"),
    ),
    gate=Gate(minimum_gain=0.005, latency_ms=50, size_mb=2),
    drift=Drift(scenario="detection.drift:simulate"),
    resources=Resources(cpu=1, memory_mb=3000),
    example={
        "image": "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAoHBwgHBgoICAgLCgoLDhgQDg0NDh0VFhEYIx8lJCIfIiEmKzcvJik0KSEiMEExNDk7Pj4+JS5ESUM8SDc9Pjv/2wBDAQoLCw4NDhwQEBw7KCIoOzs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozv/wAARCABAAEADASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/9oADAMBAAIRAxEAPwCovylcYAq8Dt6LUfy/d9Pan7uCMqB9a9I90XcGHUZNRDOS3OD0x3rmfn3j7w5rvyV2AZGcdT2oA58NuYZwSPQ1qgnYcc8YGa5Ug7jznnB4q+AxwMkj+tAFPaRJ90gdK6cEYGM+xFR8FOAPfFZmT0weBnNAD+sZX8MZ61gfMOCO/atog9vqDQFGeB1NAD0jIHCj8RVwcLk5Prk9a0dUumsdIuLuNVJhi3BW6E15wPE1yG3CCLP1NZzqxg7MiU1Hc74R99o6elZ7KMg5OfSsD/hO73bj7Hb/AJtWpoWqPq0Ekk0ax7H2jZ9KUa0JOyFGpGTsjVGQBwxNL1HYEehrRJULkYJx1Fc5jbIQeBnrWpoavGOFBz6VFnKnpxUDHAO0844rKLE5zu/H0pANvr4PbSRXMiJE4KnnGay49JsJkDxuzqe4fNSeI9IubjyZbSN5VUEMo6j3qbw5pE1tayveK0e8gomeR715UqFaWjeplzp1eVx07lc6LZgZJkAHctVnSp7azEkNlMr5OWBOTU2o2TXNjLDASHdePf2rM0DwvqZ1aN7m2eCCJsuzEDI9B60Rw9aPXUU5qE0oxOltpGlXe/Utj61rYHGRyOOlVoIUhARAQM55Oatglct2xzXp01JQSlubPcxsjjJ/Gpl6gnt1zVEe4x6CtfI2k7fzqwLhxt5PboK5jPzfxde9PLcEg8ikXBZc0AbarlhwQcccVGT82c4A75rWPKgdARXNkHOM5znFAEhI6E1ZJJPyknIrm/myMHI9a7MAFVIOeO1AH//Z"
    },
    tags=("image", "PyTorch"),
)
