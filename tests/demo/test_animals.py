from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from resight.demo.animals import ANTELOPE, CAT, BodyPlan, Coat, Pose, draw_animal
from resight.demo.fins import FinPose, draw_fin
from resight.demo.patterns import draw_fin_outline, draw_spots, draw_stripes
from resight.demo.shapes import stream

POSE = Pose((0.05, -0.05, 0.1, 0.0), 0.1, 0.0, 0.3, 0.0, 1.0, 0.0, 0.0, (0.6, 0.8), 0.6)
COAT = Coat((150, 94, 54), (172, 122, 82), (244, 236, 220), 0.9)


@pytest.mark.parametrize("plan", [ANTELOPE, CAT])
def test_the_right_side_is_drawn_as_a_mirror_image(plan: BodyPlan) -> None:
    marks = draw_stripes(stream(1))
    left = draw_animal(plan, marks, POSE, COAT, "left", stream(2))
    mirrored_light = replace(POSE, light=(-0.6, 0.8))
    right = draw_animal(plan, marks, mirrored_light, COAT, "right", stream(2))
    np.testing.assert_array_equal(left.rgb[:, ::-1], right.rgb)
    np.testing.assert_array_equal(left.alpha[:, ::-1], right.alpha)
    assert left.ground_y == right.ground_y


def test_the_individual_is_in_the_flank_pattern_only() -> None:
    one = draw_animal(CAT, draw_spots(stream(1)), POSE, COAT, "left", stream(2))
    other = draw_animal(CAT, draw_spots(stream(3)), POSE, COAT, "left", stream(2))
    np.testing.assert_array_equal(one.alpha, other.alpha)
    differs = (one.rgb != other.rgb).any(axis=2)
    assert 0.02 < differs.mean() < 0.4
    head = np.flatnonzero(one.alpha.any(axis=0))[:30]
    assert not differs[:, head].any()


def test_light_brightens_the_side_it_comes_from() -> None:
    from_right = draw_animal(CAT, (), replace(POSE, light=(1.0, 0.0)), COAT, "left", stream(2)).rgb.astype(float)
    from_left = draw_animal(CAT, (), replace(POSE, light=(-1.0, 0.0)), COAT, "left", stream(2)).rgb.astype(float)
    half = from_right.shape[1] // 2
    gain = from_right - from_left
    assert gain[:, half:].mean() > 0 > gain[:, :half].mean()


def test_both_sides_of_a_fin_are_mirror_images() -> None:
    outline = draw_fin_outline(stream(5))
    pose = FinPose(0.02, 0.03, (0.5, 0.8), 0.6)
    left = draw_fin(outline, pose, (90, 95, 100), "left", stream(6))
    right = draw_fin(outline, replace(pose, light=(-0.5, 0.8)), (90, 95, 100), "right", stream(6))
    np.testing.assert_array_equal(left.rgb[:, ::-1], right.rgb)
    np.testing.assert_array_equal(left.boxed[:, ::-1], right.boxed)


def test_the_box_of_a_fin_leaves_out_the_back_and_what_is_under_water() -> None:
    sprite = draw_fin(draw_fin_outline(stream(5)), FinPose(0.0, 0.0, (0.5, 0.8), 0.6), (90, 95, 100), "left", stream(6))
    assert not sprite.boxed[int(sprite.ground_y) :].any()
    assert sprite.alpha[int(sprite.ground_y) :].any()
    assert not (sprite.boxed > sprite.alpha).any()


def test_fins_differ_in_outline() -> None:
    pose = FinPose(0.0, 0.0, (0.5, 0.8), 0.6)
    masks = [draw_fin(draw_fin_outline(stream(seed)), pose, (90, 95, 100), "left", stream(0)).boxed for seed in (1, 2)]
    assert (masks[0] != masks[1]).mean() > 0.005
