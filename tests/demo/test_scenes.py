from __future__ import annotations

import numpy as np
import pytest

from resight.demo.scenes import Light, Place, draw_scene, light_curve
from resight.demo.shapes import stream


@pytest.mark.parametrize("place", ["savanna", "forest", "sea"])
def test_a_place_has_its_size_and_repeats(place: Place) -> None:
    for seed in range(4):
        scene = draw_scene(place, 61, 90, stream(seed))
        assert scene.picture.shape == (61, 90, 3)
        assert scene.picture.dtype == np.float32
        assert 0 <= scene.picture.min() <= scene.picture.max() <= 255
        assert scene.picture.std() > 5
        assert 0 <= scene.ground_y < 61
        np.testing.assert_array_equal(scene.picture, draw_scene(place, 61, 90, stream(seed)).picture)


def test_grass_grows_on_land_only() -> None:
    assert draw_scene("savanna", 60, 80, stream(0)).growth
    assert not draw_scene("sea", 60, 80, stream(0)).growth


def test_plain_light_changes_nothing() -> None:
    assert light_curve(Light(1.0, 0.0, 1.0, 0.0)) == list(range(256)) * 3


def test_warm_light_lifts_red_and_lowers_blue() -> None:
    curve = light_curve(Light(1.0, 0.1, 1.0, 0.0))
    assert curve[100] == 110
    assert curve[512 + 100] == 90


def test_exposure_contrast_and_haze_by_hand() -> None:
    # 100 × 1.2 = 120; (120 − 118) × 0.5 + 118 = 119; 119 × 0.9 + 214 × 0.1 = 128.5
    assert light_curve(Light(1.2, 0.0, 0.5, 0.1))[100] == 128
