from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from resight.errors import ImageError
from resight.images import perceptual_hash
from resight.quality.near_duplicates import COPY_BITS
from resight.quality.numbers import contrast, cut_share, numbers_of, sharpness
from resight.types import Box

from ..made_up import encoded, noise, stored, waves


def checkerboard(square: int, side: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side]
    return (255 * ((x // square + y // square) % 2)).astype(np.float32)


# Sharpness


def naive_sharpness(grey: np.ndarray) -> float:
    """The definition, pixel by pixel."""
    lesser = math.inf
    height, width = grey.shape
    for values, rows, columns in ((grey, height, width), (grey.T, width, height)):
        first = [float(values[y, x + 1] - values[y, x]) for y in range(rows) for x in range(columns - 1)]
        second = [
            float(values[y, x + 2] - 2 * values[y, x + 1] + values[y, x])
            for y in range(rows)
            for x in range(columns - 2)
        ]
        energy = sum(d**2 for d in first) / len(first)
        if energy > 0:
            lesser = min(lesser, 25 * sum(d**2 for d in second) / len(second) / energy)
    return 0.0 if lesser == math.inf else min(100.0, lesser)


@pytest.mark.parametrize("seed", range(5))
def test_sharpness_is_what_its_definition_says(seed: int) -> None:
    grey = np.random.default_rng(seed).integers(0, 256, (7 + seed, 9)).astype(np.float32)
    assert sharpness(grey) == pytest.approx(naive_sharpness(grey))
    assert sharpness(grey, np.ones_like(grey, bool)) == pytest.approx(naive_sharpness(grey))


def test_sharpness_by_hand() -> None:
    assert sharpness(checkerboard(1)) == 100
    assert sharpness(np.full((8, 8), 90, np.float32)) == 0
    assert sharpness(np.tile(np.arange(64, dtype=np.float32), (64, 1))) == 0  # a ramp has no edge
    assert sharpness(np.zeros((1, 1), np.float32)) == 0
    assert sharpness(np.random.default_rng(0).normal(0, 40, (400, 400)).astype(np.float32)) == pytest.approx(75, abs=2)
    # One step of 255 in three pixels: differences 0 and 255, and their difference.
    assert sharpness(np.array([[0, 0, 255]] * 2, np.float32)) == pytest.approx(25 * 255**2 / (255**2 / 2))


def blurred(picture: Image.Image, radius: float) -> np.ndarray:
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32)


def test_the_more_blurred_the_less_sharp_whatever_the_light() -> None:
    picture = Image.fromarray(checkerboard(8, 128).astype(np.uint8))
    found = [sharpness(blurred(picture, radius)) for radius in (0, 0.7, 1, 1.5, 2, 3)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0] / 5
    fog = [sharpness(100 + 0.2 * blurred(picture, radius)) for radius in (0, 0.7, 1, 1.5, 2, 3)]
    assert fog == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("axis", [0, 1])
def test_motion_along_one_axis_is_blur(axis: int) -> None:
    grey = checkerboard(8)
    moved = np.mean([np.roll(grey, shift, axis) for shift in range(5)], axis=0).astype(np.float32)
    # A step in one pixel becomes one in five; at both of its ends the difference changes.
    assert sharpness(grey) == pytest.approx(50, rel=0.03)
    assert sharpness(moved) == pytest.approx(10, rel=0.05)


def test_a_large_animal_and_a_small_one_compare() -> None:
    large = waves(1600, 1200).filter(ImageFilter.GaussianBlur(1))
    small = large.resize((256, 192), Image.Resampling.BILINEAR)
    found = [numbers_of(encoded(picture), "x", None, 0) for picture in (large, small)]
    assert found[0].sharpness == pytest.approx(found[1].sharpness, rel=0.05)
    assert [numbers.side_px for numbers in found] == [1200, 192]


# Contrast


def test_contrast_by_hand() -> None:
    assert contrast(np.full((10, 10), 77, np.float32)) == 0
    assert contrast(np.arange(101, dtype=np.float32).reshape(1, 101)) == 90
    spots = np.full((10, 10), 50, np.float32)
    spots[0, :4] = 255  # 4 pixels of 100 are not the picture
    assert contrast(spots) == 0
    shown = np.zeros((10, 10), bool)
    shown[0, :5] = True
    assert contrast(spots, shown) == pytest.approx(
        np.percentile([255] * 4 + [50], 95) - np.percentile([255] * 4 + [50], 5)
    )
    assert contrast(spots, np.zeros((10, 10), bool)) == 0


def test_the_black_outside_of_the_photo_counts_neither_for_contrast_nor_for_sharpness() -> None:
    content = encoded(Image.new("RGB", (200, 100), (200, 200, 200)))
    for box, theta in ((Box(-50, -20, 150, 100), 0.0), (Box(10, 0, 180, 100), 0.3), (Box(150.5, 40.5, 90, 90), 1.0)):
        numbers = numbers_of(content, "x", box, theta)
        assert (numbers.contrast, numbers.sharpness) == (0, 0)
        assert numbers.cut_share > 0
    inside = numbers_of(encoded(waves(200, 100)), "x", Box(0, 0, 100, 100), 0)
    half = numbers_of(encoded(waves(200, 100)), "x", Box(-100, 0, 200, 100), 0)
    assert half.contrast == pytest.approx(inside.contrast, rel=0.1)
    assert half.sharpness == pytest.approx(inside.sharpness, rel=0.2)


# What the frame cuts


ONE_SIDE, A_CORNER, OPPOSITE = 0.1 / 1.1, 1 - 1 / 1.21, 0.2 / 1.2


@pytest.mark.parametrize(
    ("box", "theta", "share"),
    [
        (None, 0, 0),
        (Box(100, 100, 200, 100), 0, 0),
        (Box(6, 100, 200, 100), 0, 0),  # 6 pixels away of 1000: not on the border
        (Box(5, 100, 200, 100), 0, 20 / 225),
        (Box(0, 100, 200, 100), 0, ONE_SIDE),
        (Box(795, 100, 200, 100), 0, 20 / 225),
        (Box(-10, 100, 200, 100), 0, 20 / (190 + 20)),  # 10 outside count as the tenth
        (Box(-100, 100, 200, 100), 0, 0.5),
        (Box(900, 100, 200, 100), 0, 0.5),
        (Box(100, 750, 200, 100), 0, 0.5),
        (Box(0, 0, 200, 100), 0, A_CORNER),
        (Box(0, 100, 1000, 100), 0, OPPOSITE),
        (Box(-50, -50, 100, 100), 0, 0.75),
        (Box(0, 0, 1000, 800), 0, 0),  # the whole photo is no box
        (Box(-100, -100, 1200, 1000), 0, 1 - 0.8 / 1.2),  # but what lies outside does
        (Box(3, 300, 30, 30), 0, 0),  # small, and a tenth of itself away
        (Box(1, 300, 30, 30), 0, 3 / (31 + 3)),
        (Box(-50, 350, 200, 100), math.pi / 2, ONE_SIDE),  # turned, it is [0, 300, 100, 200]
        (Box(-100, 350, 200, 100), math.pi, 0.5),
        (Box(-50, 350, 100, 100), math.pi / 4, 0.5),
        (Box(0, 350, 100, 100), math.pi / 4, (50 * math.sqrt(2) - 50) ** 2 / 100**2),  # a corner looks out
    ],
)
def test_the_share_that_is_cut(box: Box | None, theta: float, share: float) -> None:
    assert cut_share(box, theta, 1000, 800) == pytest.approx(share, abs=1e-9)


@settings(max_examples=60)
@given(
    st.floats(-90, 290), st.floats(-90, 190), st.floats(20, 150), st.floats(20, 150), st.floats(-7, 7),
)  # fmt: skip
def test_a_turned_box_is_cut_by_what_a_grid_of_points_says(
    x: float, y: float, w: float, h: float, theta: float
) -> None:
    quarters = theta / (math.pi / 2)
    if abs(quarters - round(quarters)) < 2e-3:
        return
    steps = (np.arange(200) + 0.5) / 200 - 0.5
    across, down = np.meshgrid(steps * w, steps * h)
    at_x = x + w / 2 + math.cos(theta) * across - math.sin(theta) * down
    at_y = y + h / 2 + math.sin(theta) * across + math.cos(theta) * down
    outside = (at_x < 0) | (at_x > 300) | (at_y < 0) | (at_y > 200)
    assert cut_share(Box(x, y, w, h), theta, 300, 200) == pytest.approx(outside.mean(), abs=0.02)


@settings(max_examples=60)
@given(st.floats(0, 0.9), st.floats(0, 0.9))
def test_the_further_out_the_more_is_cut(one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert cut_share(Box(-100 * less, 50, 100, 60), 0, 400, 300) <= cut_share(
        Box(-100 * more, 50, 100, 60), 0, 400, 300
    )


# All numbers of a photo


def test_boxes_are_in_pixels_of_the_upright_photo() -> None:
    upright = waves(300, 200)
    box = Box(0, 20, 150, 80)
    found = {numbers_of(stored(upright, orientation, "PNG"), "x", box, 0) for orientation in range(1, 9)}
    assert len(found) == 1
    (numbers,) = found
    assert (numbers.side_px, numbers.cut_share) == (80, round(ONE_SIDE, 4))


def test_the_hash_is_that_of_the_other_room_but_for_a_few_bits() -> None:
    content = encoded(waves(900, 700), "JPEG", quality=90)
    box = Box(100, 50, 500, 600)
    mine = numbers_of(content, "x", box, 0.2).phash
    assert (mine ^ perceptual_hash(content, "x", box, 0.2)).bit_count() <= COPY_BITS


def test_a_box_outside_of_its_photo_is_an_error() -> None:
    with pytest.raises(ImageError, match="does not fit"):
        numbers_of(encoded(noise(0)), "x", Box(500, 500, 10, 10), 0)
