from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from resight.calibration.open_figures import auroc, baks, baus, open_figures, operating_point, oscr
from resight.errors import InputError


@st.composite
def queries(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(2, 60))
    is_new = rng.random(n) < 0.4
    is_new[:2] = [True, False]
    p = rng.integers(0, 12, n) / 12 if draw(st.booleans()) else rng.random(n)
    return p, is_new, ~is_new & (rng.random(n) < 0.6), rng.integers(0, 9, n)


@given(queries())
def test_auroc_agrees_with_scikit_learn(one):
    p, is_new, _, _ = one
    assert auroc(p, is_new) == pytest.approx(roc_auc_score(is_new, p))


@given(queries())
def test_oscr_agrees_with_a_loop(one):
    p, is_new, right, _ = one
    points = [(0.0, 0.0)]
    for threshold in sorted(set(p.tolist())):
        accepted = [i for i in range(len(p)) if p[i] <= threshold]
        false_rate = sum(is_new[i] for i in accepted) / is_new.sum()
        points.append((false_rate, sum(right[i] for i in accepted) / (~is_new).sum()))
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))
    assert oscr(p, is_new, right) == pytest.approx(area)
    assert oscr(p, is_new, right) <= right[~is_new].mean() + 1e-12
    assert oscr(p, is_new, ~is_new) == pytest.approx(auroc(p, is_new))  # all names right: nothing else to lose


def test_oscr_by_hand():
    # Accepted in this order: a right name, a new animal, a wrong name, a right name, a new animal.
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    is_new = np.array([False, True, False, False, True])
    right = np.array([True, False, False, True, False])
    # From 0 to 1/2 of the new at a rate of 1/3, from 1/2 to 1 at 2/3.
    assert oscr(p, is_new, right) == pytest.approx(0.5 / 3 + 0.5 * 2 / 3)
    assert auroc(p, is_new) == pytest.approx(4 / 6)


def test_balanced_accuracies_by_hand():
    identity = np.array([1, 1, 1, 2, 3, 3, 4])
    is_new = np.array([False, False, False, False, True, True, True])
    right = np.array([True, True, False, True, False, False, False])
    called = np.array([False, True, False, False, True, False, True])
    assert baks(called, is_new, right, identity) == pytest.approx((1 / 3 + 1) / 2)
    assert baus(called, is_new, identity) == pytest.approx((1 / 2 + 1) / 2)
    assert baus(called[:4], is_new[:4], identity[:4]) is None
    assert auroc(np.zeros(2), np.array([True, True])) is None
    assert oscr(np.zeros(2), np.array([False, False]), np.array([True, True])) is None


def test_figures_are_means_over_parts():
    rng = np.random.default_rng(0)
    p, is_new, identity = rng.random(80), rng.random(80) < 0.5, rng.integers(0, 10, 80)
    right = ~is_new & (rng.random(80) < 0.7)
    part = np.repeat([0, 5], [30, 50])
    # Scores of the parts are on scales that cannot be compared.
    shifted = np.where(part == 0, p / 2, p / 2 + 0.5)
    found = open_figures(shifted, is_new, right, identity, part, threshold=0.4)
    halves = [part == 0, part == 5]
    assert found.auroc == pytest.approx(np.mean([auroc(p[mine], is_new[mine]) for mine in halves]))
    assert found.oscr == pytest.approx(np.mean([oscr(p[mine], is_new[mine], right[mine]) for mine in halves]))
    called = shifted > 0.4
    assert found.baus == pytest.approx(np.mean([baus(called[m], is_new[m], identity[m]) for m in halves]))
    assert found.geometric_mean == pytest.approx(np.sqrt(found.baks * found.baus))
    nothing = open_figures(p, np.zeros(80, bool), right, identity, part)
    assert (nothing.auroc, nothing.baus, nothing.geometric_mean) == (None, None, None)
    with pytest.raises(InputError, match="one entry a query"):
        open_figures(p, is_new, right, identity, part[1:])
    with pytest.raises(InputError, match="no P"):
        open_figures(np.full(80, np.nan), is_new, right, identity, part)


@given(queries(), st.floats(0.05, 0.95), st.floats(0.1, 10), st.floats(0.1, 10))
def test_no_threshold_is_cheaper(one, share, missed, false):
    p, is_new, right, _ = one
    point = operating_point(p, is_new, right, share=share, cost_missed=missed, cost_false=false)

    def cost(threshold):
        called = p > threshold
        known = missed * called[~is_new].mean() + false * (~called & ~right)[~is_new].mean()
        return (1 - share) * known + share * false * (~called)[is_new].mean()

    assert point.expected_cost == pytest.approx(cost(point.threshold))
    for threshold in (-1.0, *np.unique(p), 2.0):
        assert point.expected_cost <= cost(threshold) + 1e-9 or (threshold == -1.0 and (p == 0).any())


def test_operating_point_by_hand():
    # Known at 0.1 (right), 0.3 (wrong), 0.6 (right); new at 0.5 and 0.9.
    p = np.array([0.1, 0.3, 0.6, 0.5, 0.9])
    is_new, right = np.array([0, 0, 0, 1, 1], bool), np.array([1, 0, 1, 0, 0], bool)
    careful = operating_point(p, is_new, right, share=0.5, cost_missed=1, cost_false=10)
    # At 0.2 two of three known are missed, no wrong name is accepted: 0.5 · 2/3.
    assert careful.threshold == pytest.approx(0.2)
    assert careful.expected_cost == pytest.approx(1 / 3)
    assert (careful.missed, careful.false_known, careful.false_new) == (pytest.approx(2 / 3), 0.0, 0.0)
    bold = operating_point(p, is_new, right, share=0.1, cost_missed=10, cost_false=1)
    # At 0.75 nothing is missed; one of three names is wrong and one of two new animals accepted.
    assert bold.threshold == pytest.approx(0.75)
    assert bold.expected_cost == pytest.approx(0.9 / 3 + 0.1 / 2)
    for wrong in ({"share": 0.0}, {"cost_missed": 0.0}, {"cost_false": float("inf")}):
        with pytest.raises(InputError):
            operating_point(p, is_new, right, **{"share": 0.5, "cost_missed": 1, "cost_false": 1, **wrong})
    with pytest.raises(InputError, match="known and of new"):
        operating_point(p, np.ones(5, bool), np.zeros(5, bool), share=0.5, cost_missed=1, cost_false=1)
