from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.demo.shapes import as_fill, blob, fractal_noise, limb, smooth_curve, stream, to_image


def test_streams_are_their_own_for_each_key() -> None:
    assert stream(1, 2, 3).random() == stream(1, 2, 3).random()
    assert stream(1, 2, 3).random() != stream(1, 3, 2).random()


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=8), st.booleans())
def test_a_smooth_curve_goes_through_its_points(points: list[tuple[float, float]], closed: bool) -> None:
    curve = smooth_curve(points, steps=4, closed=closed)
    assert curve.shape == (4 * len(points) if closed else 4 * (len(points) - 1) + 1, 2)
    np.testing.assert_allclose(curve[::4][: len(points)], points, atol=1e-9)


def test_a_straight_limb_is_as_wide_as_asked() -> None:
    outline = limb([(0.0, 0.0), (10.0, 0.0)], [2.0, 2.0])
    assert outline[:, 1].min() == pytest.approx(-1)
    assert outline[:, 1].max() == pytest.approx(1)
    # Round ends reach half a width beyond the spine.
    assert outline[:, 0].min() == pytest.approx(-1)
    assert outline[:, 0].max() == pytest.approx(11)


def test_an_even_blob_keeps_to_its_ellipse() -> None:
    outline = blob((3.0, 4.0), 2.0, 1.0, [1.0] * 12)
    reach = ((outline[:, 0] - 3) / 2) ** 2 + (outline[:, 1] - 4) ** 2
    np.testing.assert_allclose(reach, 1, atol=0.02)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(0, 9))
def test_noise_has_its_size_and_range(height: int, width: int, octaves: int, seed: int) -> None:
    field = fractal_noise(stream(seed), height, width, (2, 3), octaves)
    assert field.shape == (height, width)
    assert field.dtype == np.float32
    assert 0 <= field.min() <= field.max() <= 1
    np.testing.assert_array_equal(field, fractal_noise(stream(seed), height, width, (2, 3), octaves))


def test_colours_and_pictures_are_clipped() -> None:
    assert as_fill((-4.0, 12.7, 300.0)) == (0, 12, 255)
    picture = np.array([[[-4.0, 12.7, 300.0]]], dtype=np.float32)
    assert to_image(picture).getpixel((0, 0)) == (0, 12, 255)
