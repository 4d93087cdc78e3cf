"""From scratch: which digit? Four models written by hand, on images of eight by eight pixels."""

from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Schema, Source

project = Project(
    name="from_scratch",
    title="From scratch",
    phase=1,
    description="Linear and logistic regression, a perceptron and nearest neighbours by hand, on handwritten digits.",
    source=Source(
        url="https://archive.ics.uci.edu/ml/machine-learning-databases/optdigits/optdigits.tes",
        sha256="6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
        mirror="optdigits.tes",
        sample="from_scratch.data:sample",
        read="from_scratch.data:read",
        license="CC BY 4.0 (Alpaydin and Kaynak, UCI 1998)",
        minimum_rows=500,
    ),
    schema=Schema(
        features=(Column(name="image", kind="image", shape=(8, 8, 1), description="a digit, bright ink on black"),),
        target=Column(name="digit", kind="category", allowed=tuple("0123456789")),
    ),
    transform="from_scratch.data:transform",
    train="from_scratch.model:train",
    candidates=(
        Candidate(name="linear_regression", params={"epochs": 30, "rate": 0.01}),
        Candidate(name="nearest_neighbours", params={"neighbours": 3}),
        Candidate(name="logistic_regression", params={"epochs": 40, "rate": 0.05}),
        Candidate(name="perceptron", params={"epochs": 40, "rate": 0.05, "hidden": 64}),
    ),
    metrics=(
        Metric(name="accuracy", threshold=0.93),
        Metric(name="log_loss"),
        Metric(name="roc_auc"),
        Metric(name="brier"),
    ),
    gate=Gate(minimum_gain=0.002, latency_ms=25, size_mb=1),
    drift=Drift(scenario="from_scratch.drift:simulate"),
    example={
        "image": "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAARElEQVR42jXGMRGAMBAAsBzHzkuolJeCBHBQB0jAAg4qoRbqoEhgIlNwzB5Q+z4TSvSOxYgyAojW/t3VQs3Mzcp7eU4fVhgPr6U3F5oAAAAASUVORK5CYII="
    },
    tags=("image", "beginner", "by hand"),
)
