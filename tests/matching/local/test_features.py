from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resight.errors import ImageError, InputError
from resight.matching.local.features import (
    ExtractorSpec,
    chip_size,
    cut_evidence_chip,
    in_photo,
    keep_best,
    on_animal,
)
from resight.outlines import outline_of_box
from resight.types import Box

from ...made_up import encoded, noise

SPEC = ExtractorSpec(longest_px=100)


@pytest.mark.parametrize(
    ("box", "changes", "size"),
    [
        (Box(0, 0, 200, 100), {}, (100, 50)),  # reduced, proportions kept
        (Box(0, 0, 60, 50), {}, (60, 50)),  # smaller than asked for: as it is
        (Box(0, 0, 60, 40), {"most_enlarged": 1.5}, (90, 60)),
        (Box(0, 0, 60, 40), {"most_enlarged": 4.0}, (100, 67)),  # never beyond the longest side
        (Box(0, 0, 80, 4), {}, (80, 32)),  # no network takes less than 32
    ],
)
def test_the_evidence_chip_has_the_boxs_own_resolution(
    box: Box, changes: dict[str, Any], size: tuple[int, int]
) -> None:
    assert chip_size(box, replace(SPEC, **changes)) == size


@pytest.mark.parametrize("theta_rad", [0.0, 0.5, -2.0])
@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, longest_px=512, most_enlarged=2.0)])
def test_a_point_of_the_chip_is_found_in_the_photo(theta_rad: float, spec: ExtractorSpec) -> None:
    y, x = np.mgrid[0:150, 0:200]
    box = Box(40, 30, 110, 80)
    for dot in ((80.5, 60.5), (110.5, 80.5)):  # the middle of a pixel
        blob = 255 * np.exp(-((x + 0.5 - dot[0]) ** 2 + (y + 0.5 - dot[1]) ** 2) / 18)
        content = encoded(Image.fromarray(blob.astype(np.uint8)))
        chip = cut_evidence_chip(content, "dot", box, theta_rad, spec)
        assert chip.shape[:2] == chip_size(box, spec)[::-1]
        brightness = chip[..., 0].astype(float) ** 2
        rows, columns = np.mgrid[0 : chip.shape[0], 0 : chip.shape[1]]
        middle = np.array([[(brightness * columns).sum(), (brightness * rows).sum()]]) / brightness.sum()
        found = in_photo(middle, (chip.shape[1], chip.shape[0]), box, theta_rad)
        assert np.abs(found - dot).max() < 0.3


def test_a_turned_boxs_corner_lies_where_hand_work_puts_it() -> None:
    # A box of 40 x 20 about (50, 50), a quarter turn clockwise: its top left corner comes to the right, at (60, 30).
    corner = np.array([[-0.5, -0.5]])  # pixels have their middle at whole numbers
    assert in_photo(corner, (40, 20), Box(30, 40, 40, 20), math.pi / 2) == pytest.approx(np.array([[60.0, 30.0]]))


def test_points_off_the_animal_are_told_from_those_on_it() -> None:
    mask = outline_of_box(Box(10, 10, 10, 10), 0.0, 40, 30).mask()
    points = np.array([[12, 12], [12, 25], [25, 12], [35, 5], [-50, 3], [12, 300], [42, 12]], np.float32)
    on = on_animal(points, (40, 30), Box(0, 0, 40, 30), 0.0, mask)
    assert on.tolist() == [True] + [False] * 6
    enlarged = on_animal(points * 2, (80, 60), Box(0, 0, 40, 30), 0.0, mask)
    assert enlarged.tolist() == on.tolist()
    moved = on_animal(points, (20, 20), Box(2, 2, 20, 20), 0.0, mask)  # (12, 12) of the chip is (14, 14) of the photo
    assert moved.tolist() == [True] + [False] * 6
    assert not on_animal(points[:1], (20, 20), Box(20, 2, 20, 20), 0.0, mask).any()


def test_the_surest_points_on_the_animal_are_kept_in_their_order() -> None:
    keypoints = np.arange(10, dtype=np.float32).reshape(5, 2)
    descriptors = np.arange(5, dtype=np.float32)[:, None]
    scores = np.array([0.1, 0.9, 0.5, 0.9, 0.7], np.float32)
    inside = np.array([True, True, True, True, False])
    kept = keep_best(keypoints, descriptors, scores, (9, 9), 3, inside)
    assert kept.descriptors[:, 0].tolist() == [1, 3, 2]
    assert kept.keypoints.tolist() == [[2, 3], [6, 7], [4, 5]]
    assert (kept.keypoints.dtype, kept.descriptors.dtype, kept.scores.dtype) == (np.float32, np.float16, np.float16)
    assert kept.best(1).descriptors[:, 0].tolist() == [1]
    assert len(keep_best(keypoints, descriptors, scores, (9, 9), 8)) == 5
    assert len(keep_best(keypoints, descriptors, scores, (9, 9), 8, np.zeros(5, np.bool_))) == 0


def test_a_key_changes_with_all_that_changes_the_points_and_nothing_else() -> None:
    outline = outline_of_box(Box(1, 2, 3, 4), 0.0, 20, 20)
    same = [("h", Box(1, 2, 3, 4), 0.0, None), ("h", Box(1.0, 2.0, 3.0, 4.0), 0, None)]
    others = [
        ("g", Box(1, 2, 3, 4), 0.0, None),
        ("h", Box(1, 2, 3, 5), 0.0, None),
        ("h", None, 0.0, None),
        ("h", Box(1, 2, 3, 4), 0.1, None),
        ("h", Box(1, 2, 3, 4), 0.0, outline),
        ("h", Box(1, 2, 3, 4), 0.0, outline_of_box(Box(1, 2, 3, 4), 0.3, 20, 20)),
    ]
    assert len({SPEC.key(*place) for place in same}) == 1
    assert len({SPEC.key(*place) for place in same + others}) == 1 + len(others)
    specs = [SPEC, ExtractorSpec("disk", longest_px=100), replace(SPEC, points=100), replace(SPEC, asked=512),
             replace(SPEC, longest_px=101), replace(SPEC, most_enlarged=2.0)]  # fmt: skip
    assert len({spec.key(*same[0]) for spec in specs}) == len({spec.folder_name for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "sift"}, {"points": 0}, {"asked": 100}, {"longest_px": 10}, {"most_enlarged": 0.5}],
)
def test_an_impossible_setting_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="extractor" if "name" in wrong else next(iter(wrong))):
        ExtractorSpec(**wrong)


def test_a_box_outside_the_photo_is_refused() -> None:
    with pytest.raises(ImageError, match="does not fit"):
        cut_evidence_chip(encoded(noise(1)), "photo", Box(500, 500, 10, 10), 0.0, SPEC)
