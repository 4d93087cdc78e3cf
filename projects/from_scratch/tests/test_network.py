"""The lesson's own arithmetic, against numerical differences and against scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier

from phaseflow import registry
from phaseflow.toolkit import graph
from phaseflow.toolkit.model import Trained
from projects.from_scratch import data, model, network

RANDOM = np.random.default_rng(3)
INPUTS = RANDOM.normal(size=(60, 5))
TRUTH = np.eye(3)[RANDOM.integers(0, 3, 60)]


@pytest.mark.parametrize("loss", [network.squared_error, network.cross_entropy])
@pytest.mark.parametrize("sizes", [[5, 3], [5, 7, 3], [5, 6, 4, 3]])
def test_every_gradient_is_the_slope_that_small_steps_show(loss: network.Loss, sizes: list[int]) -> None:
    layers = network.start(sizes, np.random.default_rng(1))
    # Away from exactly 0, where a unit that is cut off has no slope but two.
    layers = [(weights, RANDOM.normal(size=bias.shape)) for weights, bias in layers]
    flows = network.forward(layers, INPUTS)
    gradients = network.backward(layers, flows, loss(flows[-1], TRUTH)[1])
    for layer, gradient in zip(layers, gradients, strict=True):
        for values, slopes in zip(layer, gradient, strict=True):
            for place in np.ndindex(values.shape):
                kept, ends = values[place], []
                for step in (1e-6, -1e-6):
                    values[place] = kept + step
                    ends.append(loss(network.forward(layers, INPUTS)[-1], TRUTH)[0])
                values[place] = kept
                assert slopes[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


def descend(loss: network.Loss, decay: float) -> network.Layers:
    """All rows at once, so that it comes to rest."""
    start = network.start([5, 3], np.random.default_rng(1))
    settled, history = network.descend(
        start, INPUTS, TRUTH, loss, epochs=3000, rate=0.1, random=np.random.default_rng(1), batch=60, decay=decay
    )
    assert history[-1] < history[0]
    return settled


def test_linear_regression_comes_to_rest_where_scikit_learns_does() -> None:
    ((weights, bias),) = descend(network.squared_error, decay=0.1)
    theirs = Ridge(alpha=0.1 * len(INPUTS)).fit(INPUTS, TRUTH)
    np.testing.assert_allclose(weights, theirs.coef_.T, atol=1e-6)
    np.testing.assert_allclose(bias, theirs.intercept_, atol=1e-6)


def test_logistic_regression_comes_to_rest_where_scikit_learns_does() -> None:
    ((weights, bias),) = descend(network.cross_entropy, decay=0.1)
    theirs = LogisticRegression(C=1 / (0.1 * len(INPUTS)), tol=1e-10, max_iter=1000).fit(INPUTS, TRUTH.argmax(axis=1))
    mine = network.softmax(INPUTS @ weights + bias)
    np.testing.assert_allclose(mine, theirs.predict_proba(INPUTS), atol=1e-5)


def test_the_perceptron_learns_digits_as_well_as_scikit_learns(digits: tuple[np.ndarray, np.ndarray]) -> None:
    images, names = digits
    cut = len(images) * 3 // 4
    truth = (names[:, None] == np.array(model.CLASSES)).astype(float)
    random = np.random.default_rng(1)
    layers, _ = network.descend(
        network.start([64, 32, 10], random),
        images[:cut],
        truth[:cut],
        network.cross_entropy,
        epochs=20,
        rate=0.05,
        random=random,
    )
    mine = (network.forward(layers, images[cut:])[-1].argmax(axis=1) == names[cut:].astype(int)).mean()
    theirs = MLPClassifier((32,), solver="sgd", learning_rate_init=0.05, batch_size=32, max_iter=20, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is stopped before it has settled, as ours is
        score = theirs.fit(images[:cut], names[:cut]).score(images[cut:], names[cut:])
    assert mine > score - 0.02


def test_the_graph_says_what_the_network_says(digits: tuple[np.ndarray, np.ndarray]) -> None:
    project = registry.get("from_scratch")
    layers = network.start([64, 16, 10], np.random.default_rng(5))
    rows = data.read(data.sample(0)).head(100)
    said = graph.run(model.to_onnx(layers, project), graph.feed(rows, project.schema))
    expected = network.softmax(network.forward(layers, digits[0][:100])[-1])
    np.testing.assert_allclose(said["probabilities"], expected, atol=1e-6)
    assert said["label"].tolist() == [str(place) for place in expected.argmax(axis=1)]


def test_softmax_survives_large_scores() -> None:
    assert network.softmax(np.array([[1000.0, 0.0, -1000.0]])).tolist() == [[1.0, 0.0, 0.0]]


def test_pictures_are_small_enough_to_look_at(digits: tuple[np.ndarray, np.ndarray]) -> None:
    project = registry.get("from_scratch")
    trained: Trained = model.train(data.read(data.sample(0)).head(200), project, project.candidates[-1])
    for content in trained.pictures.values():
        assert content.startswith(b"\x89PNG")
        assert len(content) < 100_000


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels of 0 to 1 [N, 64], and the digits' names [N]."""
    rows = data.read(data.sample(0))
    return graph.pixels(rows["image"], (64,)) / 255.0, rows["digit"].to_numpy()
