"""The simulator, its expert, and the evaluation by laps."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.linear_model import Ridge

from phaseflow import discovery
from phaseflow.toolkit import graph
from projects.driving import data, laps, ridge
from projects.driving.simulator import LOOKS, SIDE, TURN, VIEW, Car, drive, road

PROJECT = discovery.get("driving")


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return data.read(data.sample(7))


def test_a_road_that_the_simulator_does_not_know_is_skipped() -> None:
    frame = pl.DataFrame({"road": ["sand-3", None, "my-road", "asphalt-1", "asphalt", "7", ""]})
    assert laps.looks(frame) == ["sand", "asphalt", "asphalt"]
    _, games = laps.rollout(always(0.0), frame.tail(1), PROJECT)
    assert set(games["look"]) == set(LOOKS)  # no known look: all of them are driven


def always(steer: float) -> laps.Predict:
    def predict(features: pl.DataFrame) -> Mapping[str, np.ndarray]:
        return {"action": np.full((features.height, 1), steer, np.float32)}

    return predict


def test_ridge_regression_drives_every_road_and_its_graph_agrees_with_scikit_learn(rows: pl.DataFrame) -> None:
    steer = np.array([json.loads(text) for text in rows["steer"]], np.float32)
    trained = ridge.fit(rows, steer, PROJECT, alpha=10.0)
    session = graph.session(trained.onnx)
    outputs, games = laps.rollout(
        lambda features: graph.run(session, graph.feed(features, PROJECT.schema)), rows, PROJECT
    )
    assert laps.evaluate(outputs, games, PROJECT)["lap"] > 0.9
    subset = rows.head(50)
    pixels = graph.pixels(subset["image"], (VIEW * VIEW * 3,)) / 255
    images = graph.pixels(rows["image"], (VIEW, VIEW, 3)).astype(np.float32) / 255
    both = np.concatenate([images, images[:, :, ::-1]]).reshape(-1, pixels.shape[1])
    expected = Ridge(alpha=10.0).fit(both, np.concatenate([steer, -steer])[:, 0]).predict(pixels)
    action = graph.run(session, graph.feed(subset, PROJECT.schema))["action"]
    np.testing.assert_allclose(action[:, 0], expected.clip(-1, 1), atol=1e-3)


@pytest.mark.parametrize("look", LOOKS)
def test_the_expert_drives_every_road_to_its_end(look: str) -> None:
    cars = [Car.start(road(f"{look}-{seed}")) for seed in range(100, 120)]
    drive(cars, lambda moving: [car.expert() for car in moving])
    assert [car.share for car in cars] == [1.0] * 20


def test_a_car_that_is_not_steered_leaves_the_road() -> None:
    outputs, games = laps.rollout(always(0), pl.DataFrame({"road": ["asphalt-1"]}), PROJECT)
    assert games["look"].to_list() == ["asphalt"] * laps.GAMES
    assert 0 < outputs["lap"].mean() < 0.3
    assert laps.evaluate(outputs, games, PROJECT)["finished"] == 0


def test_only_the_way_forward_counts() -> None:
    car = Car.start(road("asphalt-3"))
    car.heading += np.pi
    while car.away <= car.road.half:
        car.move(0)
    assert car.share == 0


def test_a_name_determines_a_road_and_a_look_does_not_affect_its_course() -> None:
    first = road("asphalt-5")
    road.cache_clear()
    np.testing.assert_array_equal(first.pixels, road("asphalt-5").pixels)
    np.testing.assert_array_equal(first.line, road("sand-5").line)
    assert not np.array_equal(first.line[:50], road("asphalt-6").line[:50])
    np.testing.assert_allclose(np.hypot(*np.diff(first.line, axis=0).T), 1, atol=0.05)


def test_roads_turn_both_ways() -> None:
    def area(line: np.ndarray) -> float:
        x, y = line.T
        return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))

    assert {np.sign(area(road(f"asphalt-{seed}").line)) for seed in range(20)} == {-1.0, 1.0}


def test_a_view_shows_the_road_ahead_upwards() -> None:
    track = road("asphalt-7")
    car = Car.start(track)
    view = car.view().astype(int)
    green = view[..., 1] - view[..., 0]
    assert view.shape == (VIEW, VIEW, 3)
    assert green[20:30, VIEW // 2].max() < 40  # the road under and ahead of the car
    car.heading += TURN
    turned = car.view().astype(int)
    assert not np.array_equal(view, turned)
    # Ten pixels straight ahead of the car are ten rows up.
    ahead = car.position + 10 * np.array([np.cos(car.heading), np.sin(car.heading)])
    across, down = np.rint(ahead).astype(int)
    near = track.pixels[max(down - 1, 0) : down + 2, max(across - 1, 0) : across + 2].reshape(-1, 3).tolist()
    assert car.view()[16, VIEW // 2].tolist() in near


def test_a_turn_to_the_right_is_positive_and_shows_what_was_on_the_right() -> None:
    car = Car.start(road("asphalt-7"))
    car.heading = 0.0  # heading right on the map: the car's right is down
    car.move(1.0)
    assert car.position[1] > road("asphalt-7").line[0][1]


def test_the_sample_shows_how_to_come_back(rows: pl.DataFrame) -> None:
    steer = np.array([json.loads(text)[0] for text in rows["steer"]])
    assert 800 < rows.height < 1400
    assert rows["road"].n_unique() == data.ROADS
    assert steer.std() > 0.2
    assert np.abs(steer).max() <= 1


def test_no_evaluation_road_is_in_the_data(rows: pl.DataFrame) -> None:
    assert max(int(name.partition("-")[2]) for name in rows["road"]) < laps.FIRST
    _, games = laps.rollout(always(0), rows, PROJECT)
    assert not set(games["road"]) & set(rows["road"])


def test_every_look_of_the_data_is_driven() -> None:
    frame = pl.DataFrame({"road": ["asphalt-1", "sand-2", None, "never seen"]})
    _, games = laps.rollout(always(0), frame, PROJECT)
    assert sorted(set(games["look"])) == ["asphalt", "sand"]


def test_a_lap_becomes_a_film() -> None:
    content = laps.film(always(0), road("asphalt-1"))
    film = Image.open(io.BytesIO(content))
    assert film.size == (2 * SIDE, 2 * SIDE)
    assert film.is_animated
    assert len(content) < 5_000_000
