from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as peer_log_loss

from resight.calibration.reliability import (
    ALL,
    FIRST,
    UNCLEAR,
    calibration_error,
    cosine_readings,
    equal_bins,
    identity_folds,
    log_loss,
    reliability,
    reliability_views,
    wilson,
)
from resight.errors import InputError


def test_by_hand():
    # Two bins of twenty: 0.2 said and 5 of 20 right, 0.8 said and 20 of 20 right.
    p = np.repeat([0.2, 0.8], 20)
    right = np.concatenate([np.arange(20) < 5, np.ones(20, bool)])
    found = reliability(p, right)
    assert found.ece == pytest.approx((0.05 + 0.2) / 2)
    assert [one.count for one in found.bins] == [20, 20]
    np.testing.assert_allclose([(one.mean, one.share) for one in found.bins], [(0.2, 0.25), (0.8, 1.0)])
    assert (found.pairs, found.same) == (40, 25)
    assert found.brier == pytest.approx((5 * 0.64 + 15 * 0.04 + 20 * 0.04) / 40)
    assert found.log_loss == pytest.approx(-(5 * np.log(0.2) + 15 * np.log(0.8) + 20 * np.log(0.8)) / 40)


def test_nothing_to_judge():
    found = reliability(np.zeros(0), np.zeros(0, bool))
    assert (found.pairs, found.ece, found.bins) == (0, None, ())
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) is None


@given(st.integers(0, 2**32), st.integers(1, 400))
def test_bins_hold_about_as_many_each_and_do_not_part_equals(seed, n):
    rng = np.random.default_rng(seed)
    different = rng.permutation(n) / n
    bins = equal_bins(different)
    count = np.bincount(bins)
    assert len(count) == max(1, min(10, n // 20))
    assert count.max() - count.min() <= 1
    assert (np.diff(bins[np.argsort(different)]) >= 0).all()
    few = rng.integers(0, 3, n) / 2
    bins = equal_bins(few)
    assert all(len(np.unique(bins[few == value])) == 1 for value in np.unique(few))
    assert set(bins.tolist()) == set(range(bins.max() + 1))


def test_a_run_of_equals_goes_where_its_middle_lies():
    p = np.concatenate([np.arange(15) / 100, np.full(25, 0.5)])
    assert np.bincount(equal_bins(p)).tolist() == [15, 25]


@given(st.integers(0, 2**32))
def test_the_order_of_pairs_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    p, right = rng.integers(0, 30, 150) / 30, rng.random(150) < 0.4
    order = rng.permutation(150)
    one, other = reliability(p, right), reliability(p[order], right[order])
    assert one.ece == pytest.approx(other.ece)
    assert one.ece_by_chance == pytest.approx(other.ece_by_chance)
    assert [b.count for b in one.bins] == [b.count for b in other.bins]


def test_the_chance_level_is_what_perfect_probabilities_show():
    rng = np.random.default_rng(0)
    p = rng.random(300)
    shown = [calibration_error(p, rng.random(300) < p) for _ in range(300)]
    assert reliability(p, p > 0.5).ece_by_chance == pytest.approx(np.mean(shown), rel=0.1)
    assert reliability(p, rng.random(300) < p**3).ece > 2 * np.mean(shown)


def test_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    p, right = rng.random(200), rng.random(200) < 0.3
    found = reliability(p, right)
    assert found.brier == pytest.approx(brier_score_loss(right, p))
    assert found.log_loss == pytest.approx(peer_log_loss(right, p))
    weights = rng.random(200)
    assert log_loss(p, right, weights) == pytest.approx(peer_log_loss(right, p, sample_weight=weights))
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), np.array([True, False])))


def test_views():
    p = np.array([0.99, 0.5, np.nan, 0.01, 0.05, 0.94])
    same = np.array([True, False, True, False, False, True])
    views = reliability_views(p, same, np.array([1, 2, 1, 3, 1, 2]))
    assert {name: one.pairs for name, one in views.items()} == {ALL: 5, FIRST: 2, UNCLEAR: 2}
    assert views[FIRST].same == 1


def test_wilson_by_hand():
    # Of 10, 8: centre (0.8 + 1.92073/10) / 1.384146, half width 1.95996/1.384146 · √(0.016 + 0.0096036).
    np.testing.assert_allclose(wilson(8, 10), (0.49016, 0.94332), atol=2e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0


def test_cosine_readings():
    found = cosine_readings(np.array([-1.0, -0.5, 0.0, 0.5, 1.0000001]))
    np.testing.assert_allclose(found["cosine, at least 0"], [0, 0, 0, 0.5, 1])
    np.testing.assert_allclose(found["(1 + cosine) / 2"], [0, 0.25, 0.5, 0.75, 1])


def test_folds_keep_identities_whole():
    identity = np.random.default_rng(0).integers(0, 23, 200)
    folds = identity_folds(identity, 5, 0)
    assert len(folds) == 5
    np.testing.assert_array_equal(np.sort(np.concatenate([held for _, held in folds])), np.arange(200))
    for fitted, held in folds:
        assert not set(identity[fitted]) & set(identity[held])
        assert len(fitted) + len(held) == 200
    assert len(identity_folds(np.array([1, 1, 2]), 5, 0)) == 2
    assert identity_folds(np.array([1, 1]), 5, 0) == []


@pytest.mark.parametrize(
    ("p", "right"), [([0.5, 1.2], [True, False]), ([0.5, np.nan], [True, False]), ([0.5], [True, False])]
)
def test_refuses_what_is_no_probability(p, right):
    with pytest.raises(InputError):
        reliability(np.array(p), np.array(right))
