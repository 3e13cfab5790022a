from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from resight.calibration.logistic import bootstrap_logistic, fit_logistic, resampled, softened


def drawn(n, coefficients, seed=0, clusters=40):
    rng = np.random.default_rng(seed)
    design = np.concatenate([np.ones((n, 1)), rng.standard_normal((n, len(coefficients) - 1))], axis=1)
    truth = (rng.random(n) < expit(design @ np.array(coefficients))).astype(float)
    return design, truth, np.ones(n), rng.integers(0, clusters, n)


FREE = {"signed": np.zeros(3, bool), "towards": np.zeros(3), "strength": np.full(3, 1e-9)}


def test_agrees_with_scikit_learn():
    design, truth, _, _ = drawn(400, [-1.0, 2.0, 0.5])
    weights = np.random.default_rng(1).random(400)
    found = fit_logistic(design, truth, weights, signed=np.zeros(3, bool), towards=np.zeros(3), strength=np.ones(3))
    peer = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, max_iter=1000)
    peer.fit(design, truth, sample_weight=weights)
    np.testing.assert_allclose(found, peer.coef_[0], atol=1e-4)


def test_recovers_the_truth():
    design, truth, weights, _ = drawn(40_000, [-1.0, 2.0, 0.5])
    np.testing.assert_allclose(fit_logistic(design, truth, weights, **FREE), [-1.0, 2.0, 0.5], atol=0.06)


def test_signs_are_kept_and_what_is_held_is_left_out():
    design, truth, weights, _ = drawn(2000, [0.0, 1.5, -1.0])
    signed = np.array([False, True, True])
    found = fit_logistic(design, truth, weights, signed=signed, towards=np.zeros(3), strength=np.full(3, 1e-9))
    assert found[2] == 0
    alone = fit_logistic(
        design[:, :2], truth, weights, signed=signed[:2], towards=np.zeros(2), strength=np.full(2, 1e-9)
    )
    np.testing.assert_allclose(found[:2], alone, atol=1e-5)


def test_a_prior_is_outweighed_as_pairs_become_many():
    towards, away = np.array([0.0, 4.0, 0.0]), []
    for n in (10, 100, 1000, 10_000):
        design, truth, weights, _ = drawn(n, [0.0, 1.0, 0.0], seed=3)
        found = fit_logistic(
            design, truth, weights, signed=np.zeros(3, bool), towards=towards, strength=np.full(3, 4.0)
        )
        away.append(abs(found[1] - 4.0))
    assert away == sorted(away)
    assert away[0] < 1.2
    assert away[-1] > 2.8
    nothing = fit_logistic(np.zeros((0, 3)), np.zeros(0), np.zeros(0), **{**FREE, "towards": towards})
    np.testing.assert_allclose(nothing, towards)


def test_what_is_told_apart_without_a_slip_stays_finite():
    design = np.stack([np.ones(20), np.repeat([-1.0, 1.0], 10)], axis=1)
    same = design[:, 1] > 0
    targets = softened(same, np.ones(20))
    np.testing.assert_allclose(targets[[0, -1]], [1 / 12, 11 / 12])
    found = fit_logistic(
        design, targets, np.ones(20), signed=np.zeros(2, bool), towards=np.zeros(2), strength=np.full(2, 1e-9)
    )
    np.testing.assert_allclose(expit(design @ found)[[0, -1]], [1 / 12, 11 / 12], atol=1e-5)


def test_one_step_comes_close_to_fitting_every_resample():
    design, truth, weights, clusters = drawn(1500, [-2.0, 1.5, 0.05], seed=5)
    prior = {"signed": np.array([False, True, True]), "strength": np.full(3, 0.1)}
    fit = fit_logistic(design, truth, weights, towards=np.zeros(3), **prior)
    counts = resampled(np.zeros(40, dtype=np.int64), 200, 0)
    draws = bootstrap_logistic(
        design, truth, weights, fit, clusters=clusters, counts=counts, towards=np.zeros((200, 3)), **prior
    )
    full = np.array(
        [
            fit_logistic(design, truth, weights * counts[draw][clusters], towards=np.zeros(3), **prior)
            for draw in range(200)
        ]
    )
    assert np.abs(draws - full).max() < 0.15 * np.abs(full[:, :2]).std(axis=0).max() + 0.05
    np.testing.assert_allclose(draws.std(axis=0), full.std(axis=0), rtol=0.1)
    assert (draws[:, 1:] >= 0).all()
    assert (draws[:, 2] == 0).any()  # an effect of nearly nothing is nothing in some resamples
    np.testing.assert_allclose(draws[:, 0], full[:, 0], atol=0.06)


def test_a_coefficient_held_at_zero_takes_the_others_along():
    rng = np.random.default_rng(2)
    first = rng.standard_normal(400)
    second = 0.9 * first + 0.45 * rng.standard_normal(400)
    design = np.stack([np.ones(400), first, second], axis=1)
    truth = (rng.random(400) < expit(1.5 * first - 1 + 0.5 * second)).astype(float)
    weights, clusters = np.ones(400), rng.integers(0, 40, 400)
    prior = {"signed": np.array([False, True, True]), "strength": np.full(3, 0.1)}
    fit = fit_logistic(design, truth, weights, towards=np.zeros(3), **prior)
    counts = resampled(np.zeros(40, dtype=np.int64), 100, 0)
    draws = bootstrap_logistic(
        design, truth, weights, fit, clusters=clusters, counts=counts, towards=np.zeros((100, 3)), **prior
    )
    held = np.flatnonzero(draws[:, 2] == 0)
    assert 5 < len(held) < 95
    assert fit[2] > 0.05
    full = np.array(
        [fit_logistic(design, truth, weights * counts[draw][clusters], towards=np.zeros(3), **prior) for draw in held]
    )
    np.testing.assert_allclose(draws[held, 1], full[:, 1], atol=0.15)


def test_draws_follow_those_of_the_prior():
    design, truth, weights, clusters = drawn(30, [0.0, 1.0, 0.0])
    towards = np.array([[0.0, 1.0, 0.0], [0.0, 5.0, 0.0]])
    prior = {"signed": np.zeros(3, bool), "strength": np.full(3, 1e6)}
    draws = bootstrap_logistic(
        design,
        truth,
        weights,
        np.array([0.0, 1.0, 0.0]),
        clusters=clusters,
        counts=np.ones((2, 40)),
        towards=towards,
        **prior,
    )
    np.testing.assert_allclose(draws, towards, atol=1e-3)


def test_resamples_keep_the_size_of_every_stratum():
    strata = np.array([0, 0, 0, 1, 1, 2])
    counts = resampled(strata, 50, 7)
    for stratum, size in ((0, 3), (1, 2), (2, 1)):
        assert (counts[:, strata == stratum].sum(axis=1) == size).all()
    assert len(np.unique(counts, axis=0)) > 5
    np.testing.assert_array_equal(counts, resampled(strata, 50, 7))
    assert resampled(strata, 0, 7).shape == (0, 6)
    assert pytest.approx(1.0, abs=0.3) == counts[:, 0].mean()
