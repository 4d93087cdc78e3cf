"""The network against numerical derivatives and scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from phaseflow import discovery
from phaseflow.toolkit import graph
from phaseflow.toolkit.model import Trained
from projects.from_scratch import data, model, network

RANDOM = np.random.default_rng(3)
INPUTS = RANDOM.normal(size=(60, 5))
LABELS = np.eye(3)[RANDOM.integers(0, 3, 60)]


@pytest.mark.parametrize("loss", [network.squared_error, network.cross_entropy])
@pytest.mark.parametrize("sizes", [[5, 3], [5, 7, 3], [5, 6, 4, 3]])
def test_gradients_match_numerical_derivatives(loss: network.Loss, sizes: list[int]) -> None:
    layers = network.start(sizes, np.random.default_rng(1))
    # Random biases keep units away from exactly 0, where the derivative is undefined.
    layers = [(weights, RANDOM.normal(size=bias.shape)) for weights, bias in layers]
    flows = network.forward(layers, INPUTS)
    gradients = network.backward(layers, flows, loss(flows[-1], LABELS)[1])
    for layer, gradient in zip(layers, gradients, strict=True):
        for values, slopes in zip(layer, gradient, strict=True):
            for index in np.ndindex(values.shape):
                original, ends = values[index], []
                for step in (1e-6, -1e-6):
                    values[index] = original + step
                    ends.append(loss(network.forward(layers, INPUTS)[-1], LABELS)[0])
                values[index] = original
                assert slopes[index] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


def train_loop(loss: network.Loss, decay: float) -> network.Layers:
    """Train on all rows in one batch, so that training converges."""
    start = network.start([5, 3], np.random.default_rng(1))
    settled, history = network.train_loop(
        start, INPUTS, LABELS, loss, epochs=3000, rate=0.1, random=np.random.default_rng(1), batch=60, decay=decay
    )
    assert history[-1] < history[0]
    return settled


def test_linear_regression_converges_to_scikit_learns_solution() -> None:
    ((weights, bias),) = train_loop(network.squared_error, decay=0.1)
    ridge = Ridge(alpha=0.1 * len(INPUTS)).fit(INPUTS, LABELS)
    np.testing.assert_allclose(weights, ridge.coef_.T, atol=1e-6)
    np.testing.assert_allclose(bias, ridge.intercept_, atol=1e-6)


def test_logistic_regression_converges_to_scikit_learns_solution() -> None:
    ((weights, bias),) = train_loop(network.cross_entropy, decay=0.1)
    classifier = LogisticRegression(C=1 / (0.1 * len(INPUTS)), tol=1e-10, max_iter=1000).fit(
        INPUTS, LABELS.argmax(axis=1)
    )
    probabilities = network.softmax(INPUTS @ weights + bias)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(INPUTS), atol=1e-5)


def test_the_perceptron_learns_digits_as_well_as_scikit_learns(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, names = digits
    cut = len(images) * 3 // 4
    labels = (names[:, None] == np.array(model.CLASSES)).astype(float)
    random = np.random.default_rng(1)
    layers, _ = network.train_loop(
        network.start([64, 32, 10], random),
        images[:cut],
        labels[:cut],
        network.cross_entropy,
        epochs=20,
        rate=0.05,
        random=random,
    )
    accuracy = (network.forward(layers, images[cut:])[-1].argmax(axis=1) == names[cut:].astype(int)).mean()
    classifier = MLPClassifier((32,), solver="sgd", learning_rate_init=0.05, batch_size=32, max_iter=20, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops before convergence, like ours
        sklearn_accuracy = classifier.fit(images[:cut], names[:cut]).score(images[cut:], names[cut:])
    assert accuracy > sklearn_accuracy - 0.02


def test_the_graph_matches_the_network(digits: tuple[np.ndarray, np.ndarray]) -> None:
    project = discovery.get("from_scratch")
    layers = network.start([64, 16, 10], np.random.default_rng(5))
    rows = data.read(data.sample(0)).head(100)
    outputs = graph.run(model.to_onnx(layers, project), graph.feed(rows, project.schema))
    expected = network.softmax(network.forward(layers, digits[0][:100])[-1])
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    assert outputs["label"].tolist() == [str(index) for index in expected.argmax(axis=1)]


def test_neighbours_beat_linear_regression_and_match_scikit_learn(digits: tuple[np.ndarray, np.ndarray]) -> None:
    project = discovery.get("from_scratch")
    rows = data.read(data.sample(0))
    train, rest = rows.head(1300), rows.tail(497)
    predictions = {}
    for name in ("linear_regression", "nearest_neighbours"):
        (candidate,) = (candidate for candidate in project.candidates if candidate.name == name)
        content = model.train(train, project, candidate).onnx
        predictions[name] = graph.run(content, graph.feed(rest, project.schema))["label"]
    accuracy = {name: (labels == rest["digit"].to_numpy()).mean() for name, labels in predictions.items()}
    assert accuracy["nearest_neighbours"] > accuracy["linear_regression"] + 0.02
    expected = (
        KNeighborsClassifier(3, algorithm="brute").fit(digits[0][:1300], digits[1][:1300]).predict(digits[0][1300:])
    )
    assert (predictions["nearest_neighbours"] == expected).mean() > 0.99  # a tie between three digits goes either way


def test_softmax_survives_large_scores() -> None:
    assert network.softmax(np.array([[1000.0, 0.0, -1000.0]])).tolist() == [[1.0, 0.0, 0.0]]


def test_pictures_are_small(digits: tuple[np.ndarray, np.ndarray]) -> None:
    project = discovery.get("from_scratch")
    trained: Trained = model.train(data.read(data.sample(0)).head(200), project, project.candidates[-1])
    for content in trained.pictures.values():
        assert content.startswith(b"\x89PNG")
        assert len(content) < 100_000


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels of 0 to 1 [N, 64], and the digits as text [N]."""
    rows = data.read(data.sample(0))
    return graph.pixels(rows["image"], (64,)) / 255.0, rows["digit"].to_numpy()
