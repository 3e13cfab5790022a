from __future__ import annotations

import numpy as np
import pytest
import torch

from resight.errors import InputError
from resight.matching.local.geometry import LEAST_MATCHES, GeometrySpec, MapKind, find_inliers

SIZE = (300, 400)  # its diagonal is 500


def pairs(good: int, bad: int, *, off: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Points under one affine map, the first of them exactly, ``bad`` ones anywhere."""
    rng = np.random.default_rng(3)
    here = rng.uniform(0, 300, (good + bad, 2))
    there = here @ np.array([[1.1, 0.2], [-0.1, 0.9]]) + [20, 30]
    there[:good, 0] += off * rng.choice([-1, 1], good)
    there[good:] = rng.uniform(-2000, 2000, (bad, 2))
    return here, there


@pytest.mark.parametrize("kind", ["affine", "homography"])
def test_what_one_map_explains_is_told_from_the_rest(kind: MapKind) -> None:
    here, there = pairs(20, 15)
    inliers = find_inliers(here, there, SIZE, GeometrySpec(kind, tolerance=0.01))
    assert inliers.tolist() == [True] * 20 + [False] * 15


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    here, there = pairs(30, 0, off=8.0)  # 1.6 % of it
    assert find_inliers(here, there, SIZE, GeometrySpec(tolerance=0.03)).all()
    assert not find_inliers(here, there, SIZE, GeometrySpec(tolerance=0.005)).all()


def test_points_anywhere_agree_with_no_map() -> None:
    here, there = pairs(0, 40)
    assert find_inliers(here, there, SIZE, GeometrySpec(tolerance=0.004)).sum() < 8


@pytest.mark.parametrize("kind", list(LEAST_MATCHES))
def test_too_few_matches_are_no_evidence(kind: MapKind) -> None:
    here, there = pairs(LEAST_MATCHES[kind] - 1, 0)
    assert not find_inliers(here, there, SIZE, GeometrySpec(kind)).any()
    assert len(find_inliers(here[:0], there[:0], SIZE, GeometrySpec(kind))) == 0


def test_the_same_input_gives_the_same_answer_and_torchs_random_numbers_stay() -> None:
    here, there = pairs(10, 30)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = find_inliers(here, there, SIZE)
    assert torch.rand(1) == expected
    torch.manual_seed(2)
    assert (find_inliers(here, there, SIZE) == first).all()


def test_points_in_one_place_are_no_failure() -> None:
    same = np.full((10, 2), 7.0)
    assert find_inliers(same, same, SIZE).shape == (10,)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="shapes"):
        find_inliers(np.zeros((3, 2)), np.zeros((4, 2)), SIZE)
    for wrong in ({"kind": "rigid"}, {"tolerance": 0}, {"samples": 0}):
        with pytest.raises(InputError, match="expected"):
            GeometrySpec(**wrong)
