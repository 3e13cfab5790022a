from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from resight.demo.fins import FinPose, fin_polygon, trailing_edge
from resight.demo.patterns import FinOutline, Notch, draw_fin_outline, draw_spots, draw_stripes
from resight.demo.shapes import Points, stream

PLAIN = FinOutline(notches=(), tip_cut=0.0, waves=(), rake=0.0, hollow=0.0, bulge=0.0)
UPRIGHT = FinPose(bow=0.0, depth=0.0, light=(0.0, 1.0), light_strength=0.5)


@pytest.mark.parametrize("draw", [draw_stripes, draw_spots])
def test_marks_lie_on_the_flank_and_repeat(draw: Callable[[np.random.Generator], tuple[Points, ...]]) -> None:
    for seed in range(20):
        marks, again = draw(stream(seed)), draw(stream(seed))
        assert len(marks) >= 5
        for mark, same in zip(marks, again, strict=True):
            np.testing.assert_array_equal(mark, same)
            assert mark[:, 0].min() > -0.35
            assert mark[:, 0].max() < 1.35
            assert mark[:, 1].min() > -0.2
            assert mark[:, 1].max() < 1.2


@pytest.mark.parametrize("draw", [draw_stripes, draw_spots])
def test_individuals_differ(draw: Callable[[np.random.Generator], tuple[Points, ...]]) -> None:
    first = {tuple(np.round(draw(stream(seed))[0].mean(axis=0), 4)) for seed in range(30)}
    assert len(first) == 30


def test_spots_do_not_overlap() -> None:
    for seed in range(10):
        solid = [mark for mark in draw_spots(stream(seed)) if len(mark) == 32]  # rings are drawn as arcs
        centres = np.array([mark.mean(axis=0) for mark in solid]) * (1, 0.5)
        apart = np.linalg.norm(centres[:, None] - centres[None, :], axis=-1)
        assert apart[~np.eye(len(solid), dtype=bool)].min() > 0.04


def test_notches_stay_apart_and_leave_half_the_fin() -> None:
    for seed in range(50):
        notches = draw_fin_outline(stream(seed)).notches
        assert notches
        assert [notch.at for notch in notches] == sorted(notch.at for notch in notches)
        for left, right in itertools.pairwise(notches):
            assert right.at - left.at >= 0.9 * (left.half_width + right.half_width)
        assert all(notch.depth <= 0.17 for notch in notches)


@pytest.mark.parametrize("squareness", [0.0, 1.0])
def test_a_notch_is_as_deep_and_as_wide_as_it_says(squareness: float) -> None:
    cut = FinOutline((Notch(0.5, 0.1, 0.07, squareness, 0.0),), 0.0, (), 0.0, 0.0, 0.0)
    missing = np.linalg.norm(trailing_edge(cut, 201) - trailing_edge(PLAIN, 201), axis=1)
    assert missing[100] == pytest.approx(0.07)
    assert missing[:80].max() == pytest.approx(0, abs=1e-9)
    assert missing[121:].max() == pytest.approx(0, abs=1e-9)
    # Half-way down its flank a V has half its depth; a square bite has nearly all of it.
    assert missing[90] == pytest.approx(0.07 * 0.5 ** (1 - 0.65 * squareness))
    # It is cut into the fin, towards the leading edge.
    assert trailing_edge(cut, 201)[100, 0] < trailing_edge(PLAIN, 201)[100, 0]


def test_tip_cut_shortens_the_fin() -> None:
    whole = fin_polygon(PLAIN, UPRIGHT)[:, 1].min()
    cut = fin_polygon(FinOutline((), 0.1, (), 0.0, 0.0, 0.0), UPRIGHT)[:, 1].min()
    assert cut - whole > 0.03
