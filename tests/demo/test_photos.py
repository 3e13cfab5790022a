from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.demo.animals import Sprite
from resight.demo.photos import (
    Camera,
    Cover,
    Framing,
    expose,
    fit_framing,
    grow_cover,
    on_land,
    place_sprite,
    tight_box,
)
from resight.demo.scenes import Light, Scene
from resight.demo.shapes import stream

STRAIGHT = Framing(x=60.0, y=40.0, scale=1.0, squeeze=1.0, keystone=0.0, turn_rad=0.0)


def block(width: int = 30, height: int = 20) -> Sprite:
    """A plain grey block that fills its sprite."""
    alpha = np.full((height, width), 255, dtype=np.uint8)
    return Sprite(
        rgb=np.full((height, width, 3), 90, dtype=np.uint8),
        alpha=alpha,
        boxed=alpha,
        centre=(width / 2, height / 2),
        ground_y=float(height),
    )


def test_an_upright_box_by_hand() -> None:
    mask = np.zeros((20, 30), dtype=np.float32)
    mask[5:9, 10:17] = 1
    assert tight_box(mask, 0.0) == (10, 5, 7, 4)
    assert tight_box(mask * 0.4, 0.0) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(-0.6, 0.6))
def test_every_pixel_lies_in_the_turned_box(seed: int, theta: float) -> None:
    mask = (stream(seed).random((25, 40)) > 0.97).astype(np.float32)
    mask[12, 20] = 1
    box = tight_box(mask, theta)
    assert box is not None
    x, y, w, h = box
    centre_x, centre_y = x + w / 2, y + h / 2
    for row, column in zip(*np.nonzero(mask), strict=True):
        away_x, away_y = column + 0.5 - centre_x, row + 0.5 - centre_y
        # Turned back by theta (clockwise with y down), the pixel lies in the box as it stands.
        along = away_x * np.cos(theta) + away_y * np.sin(theta)
        across = -away_x * np.sin(theta) + away_y * np.cos(theta)
        assert abs(along) <= w / 2 + 0.51
        assert abs(across) <= h / 2 + 0.51


def test_a_turned_block_gets_its_own_size_back() -> None:
    turned = Framing(x=60.0, y=40.0, scale=1.0, squeeze=1.0, keystone=0.0, turn_rad=0.4)
    mask = place_sprite(block(40, 16), turned, 80, 120).alpha
    box = tight_box(mask, 0.4)
    assert box is not None
    x, y, w, h = box
    assert w == pytest.approx(40, abs=2)
    assert h == pytest.approx(16, abs=2)
    assert x + w / 2 == pytest.approx(60, abs=1.5)
    assert y + h / 2 == pytest.approx(40, abs=1.5)
    upright = tight_box(mask, 0.0)
    assert upright is not None
    assert upright[3] > 25  # far from tight


def test_a_sprite_is_placed_by_its_centre() -> None:
    placed = place_sprite(block(), STRAIGHT, 80, 120)
    assert tight_box(placed.boxed, 0.0) == (45, 30, 30, 20)
    assert placed.ground == pytest.approx((60, 50))
    squeezed = place_sprite(block(), Framing(60.0, 40.0, 2.0, 0.5, 0.0, 0.0), 80, 120)
    assert tight_box(squeezed.boxed, 0.0) == (45, 20, 30, 40)


def test_keystone_makes_one_end_taller() -> None:
    mask = place_sprite(block(60, 30), Framing(60.0, 40.0, 1.0, 1.0, 0.3, 0.0), 80, 120).alpha > 0.5
    columns = np.flatnonzero(mask.any(axis=0))
    assert mask[:, columns[-3]].sum() > mask[:, columns[2]].sum() + 4


@settings(max_examples=40, deadline=None)
@given(st.floats(-50, 150), st.floats(-50, 150), st.floats(0.2, 8), st.floats(-0.3, 0.3), st.floats(-0.2, 0.2))
def test_a_fitted_sprite_lies_inside_the_photo(x: float, y: float, scale: float, turn: float, keystone: float) -> None:
    fitted = fit_framing(block(), Framing(x, y, scale, 0.8, keystone, turn), 80, 120)
    mask = place_sprite(block(), fitted, 80, 120).alpha > 0.5
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()
    assert fitted.scale <= scale


def test_fitting_leaves_alone_what_fits() -> None:
    assert fit_framing(block(), STRAIGHT, 80, 120) == STRAIGHT


def test_an_animal_hides_the_ground_and_darkens_it_beside_itself() -> None:
    ground = np.full((80, 120, 3), 160, dtype=np.float32)
    placed = place_sprite(block(), STRAIGHT, 80, 120)
    picture = on_land(ground, placed, 0.0, 0.0, stream(0))
    assert picture[40, 60].tolist() == [90, 90, 90]
    assert picture[51, 60].max() < 120
    assert picture[5, 5].tolist() == [160, 160, 160]
    assert (ground == 160).all()


def test_grass_stands_at_the_feet_and_nowhere_at_sea() -> None:
    picture = np.full((80, 120, 3), 160, dtype=np.float32)
    cover = Cover(grass=60, grass_px=20.0, branch=False)
    meadow = grow_cover(picture, Scene(picture, ((10.0, 200.0, 10.0),), 30), cover, 60.0, stream(0))
    changed = (meadow != 160).any(axis=(1, 2))
    assert changed[50:].any()
    assert not changed[:35].any()
    np.testing.assert_array_equal(grow_cover(picture, Scene(picture, (), 30), cover, 60.0, stream(0)), picture)


def test_a_perfect_camera_in_plain_light_keeps_the_picture() -> None:
    picture = stream(0).integers(0, 256, (20, 30, 3)).astype(np.float32)
    image = expose(picture, Light(1.0, 0.0, 1.0, 0.0), Camera(0.0, 0.0, 0.0), stream(1))
    np.testing.assert_array_equal(np.asarray(image), picture.astype(np.uint8))
