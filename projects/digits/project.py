"""Digits: classification of handwritten digits with a convolutional network in PyTorch, on images of 28 x 28 pixels."""

from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Resources, Schema, Source
from phaseflow.contract import File

HOST = "https://ossci-datasets.s3.amazonaws.com/mnist"

project = Project(
    name="digits",
    title="Digits",
    phase=3,
    environment="torch",
    description="A convolutional network reads handwritten digits, against logistic regression and nearest neighbours: MNIST.",
    source=Source(
        url=f"{HOST}/train-images-idx3-ubyte.gz",
        sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        mirror="train-images-idx3-ubyte.gz",
        more=(
            File(
                url=f"{HOST}/train-labels-idx1-ubyte.gz",
                sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                mirror="train-labels-idx1-ubyte.gz",
            ),
            File(
                url=f"{HOST}/t10k-images-idx3-ubyte.gz",
                sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                mirror="t10k-images-idx3-ubyte.gz",
                mirror_sha256=("167310007f03058885c7e95e6c0b19c20de5c7fd3031f4cbdadc9014a523d80b",),  # compressed again
            ),
            File(
                url=f"{HOST}/t10k-labels-idx1-ubyte.gz",
                sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                mirror="t10k-labels-idx1-ubyte.gz",
                mirror_sha256=("fc607395669ec21321ea83e4b82c0544b7e8e63ff5b34337c06bc0a17cc0da3c",),  # compressed again
            ),
        ),
        sample="digits.data:sample",
        read="digits.data:read",
        license="CC BY-SA 3.0 (LeCun, Cortes and Burges); sample: CC BY 4.0 (Alpaydin and Kaynak, UCI 1998)",
        minimum_rows=500,
    ),
    schema=Schema(
        features=(Column(name="image", kind="image", shape=(28, 28, 1), description="a digit, bright ink on black"),),
        target=Column(name="digit", kind="category", allowed=tuple("0123456789")),
    ),
    transform="digits.data:transform",
    train="digits.model:train",
    candidates=(
        Candidate(name="logistic_regression", params={"network": "linear", "epochs": 10, "rate": 0.01}),
        Candidate(name="nearest_neighbours", params={"neighbours": 3}),
        Candidate(
            name="convolutional_network",
            params={"network": "convolutional", "epochs": 10, "rate": 0.005, "augment": True},
        ),
    ),
    metrics=(
        Metric(name="accuracy", threshold={"sample": 0.95, "package": 0.93, "public": 0.95}),
        Metric(name="log_loss"),
        Metric(name="roc_auc"),
        Metric(name="brier"),
    ),
    gate=Gate(minimum_gain=0.001, latency_ms=25, size_mb=2),
    drift=Drift(scenario="digits.drift:simulate"),
    resources=Resources(cpu=1, memory_mb=3000),
    example={
        "image": "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAABf0lEQVR42sWRzU7CQBSFb+mP0EKhlAZoG5TEn2BMMNa4YOcz+KA+gbrShBDdKAkoIYgBFCgghUJLO+OCNhQfQO9qMt+cM+feC/D3RfiHjHZR0gSA4ePNdcO7o/xHrJjcWYSRM6OjHInwFqTTxVNBb/ecrLindg0LAwCQnjmvXWmoXrmtCkeh3mhh442SiKSycnj6Uqnh/IGVVKeGu4GhuJyOQLP8NKZqmSi7+9UN/EnElRQY7/U20PqnRPFhIgBJISfMRj0dACJ8xPDy+LZ8hvseDpYAjKgyQ91cw9C6E5LC5tRcAeBYVmKQGxwCXi1MaoUIAJdXcZT0mveUq6XlYgxAJUSRdU17yxYwQZKOBVIhx1md5sQN2jpLh2ZJgs6fKVhvNRcooETjtk5LsrKvaYnhR3+OgoHcLiWVlEJRvDxxG/UxbK0MTXBnFt47l46l12pt4kM/tcMrMVbOx/Xy3XPf/gUxl4qrh9Ls7eG+5Q1vs2y8NOYMB4Q5Gtjwn/UDo4afDL3u/y4AAAAASUVORK5CYII="
    },
    tags=("image", "PyTorch"),
)
