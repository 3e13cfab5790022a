"""Logistic regression with signs and a prior, and its bootstrap over clusters: pure functions on arrays.

The coefficients minimise Σ w·(log loss) + ½ Σ strength·(coefficient − towards)². A strength is an inverse variance: 1
says that coefficients some 1 away from ``towards`` are to be expected, and the n pairs of a fit outweigh it as soon
as their information, Σ w·p·(1 − p)·x², does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def fit_logistic(
    design: Doubles, truth: Doubles, weights: Doubles, *, signed: Bools, towards: Doubles, strength: Doubles
) -> Doubles:
    """Fit (L-BFGS-B, Byrd et al. 1995, whose bounds keep the signs).

    Args:
        design: (n, p), a column of ones among them where an intercept is wanted.
        truth: (n,) from 0 to 1.
        weights: (n,) at least 0.
        signed: (p,) coefficients that must not be negative.
        towards: (p,) where the coefficients are drawn to; not negative where ``signed``.
        strength: (p,) how strongly.

    Returns:
        (p,) coefficients.
    """
    total = float(weights.sum()) or 1.0

    def loss(coefficients: Doubles) -> tuple[float, Doubles]:
        logit = design @ coefficients
        # log(1 + e^z) − t·z is the log loss of a target t, without overflow.
        data = float(weights @ (np.logaddexp(0.0, logit) - truth * logit))
        slope = design.T @ (weights * (expit(logit) - truth))
        away = coefficients - towards
        value = data + 0.5 * float(strength @ away**2)
        return value / total, (slope + strength * away) / total

    found = minimize(
        loss,
        np.where(signed, np.maximum(towards, 0.0), towards),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None) if positive else (None, None) for positive in signed],
        options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-9},
    )
    coefficients: Doubles = np.asarray(found.x, dtype=np.float64)
    return coefficients


def bootstrap_logistic(
    design: Doubles,
    truth: Doubles,
    weights: Doubles,
    coefficients: Doubles,
    *,
    clusters: Ints,
    counts: Doubles,
    signed: Bools,
    towards: Doubles,
    strength: Doubles,
) -> Doubles:
    """Coefficients of resamples of whole clusters: one Newton step from the fit to each (Moulton & Zeger 1991).

    A cluster's gradient and curvature are summed once, so that a draw costs a solution of p equations whatever the
    number of rows. A coefficient whose step would turn its sign is held at 0 and the others are solved again.

    Args:
        design: As fitted, like the next three.
        truth: (n,).
        weights: (n,).
        coefficients: (p,) as :func:`fit_logistic` found them.
        clusters: (n,) int64 code of each row's cluster, from 0.
        counts: (draws, n_cluster) how often each cluster is in each draw.
        signed: (p,), as fitted.
        towards: (draws, p), where each draw's coefficients are drawn to.
        strength: (p,), as fitted.

    Returns:
        (draws, p).
    """
    draws, n_cluster = counts.shape
    p = len(coefficients)
    chance = expit(design @ coefficients)
    slopes = np.stack(
        [np.bincount(clusters, weights * (truth - chance) * design[:, i], n_cluster) for i in range(p)], axis=1
    )
    bend = weights * chance * (1.0 - chance)
    upper = [(i, j) for i in range(p) for j in range(i, p)]
    bends = np.stack([np.bincount(clusters, bend * design[:, i] * design[:, j], n_cluster) for i, j in upper], axis=1)
    slope = counts @ slopes - strength * (coefficients - towards)  # (draws, p)
    curvature = np.empty((draws, p, p))
    summed = counts @ bends
    for at, (i, j) in enumerate(upper):
        curvature[:, i, j] = curvature[:, j, i] = summed[:, at]
    curvature += np.diag(strength)
    held = np.zeros((draws, p), dtype=np.bool_)
    for _ in range(int(signed.sum()) + 1):
        step = _solve(curvature, slope, held, coefficients)
        turned = signed & (coefficients + step < -1e-12) & ~held
        if not turned.any():
            break
        held |= turned
    moved: Doubles = coefficients + step
    return np.where(held | (signed & (moved < 0)), 0.0, moved)


def _solve(curvature: Doubles, slope: Doubles, held: Bools, coefficients: Doubles) -> Doubles:
    """(draws, p) Newton steps; held coefficients go to 0 and take the others along."""
    fixed = np.where(held, -coefficients, 0.0)
    right = np.where(held, fixed, slope - np.einsum("dij,dj->di", curvature, fixed))
    left = np.where(held[:, :, None] | held[:, None, :], 0.0, curvature)
    diagonal = np.arange(left.shape[1])
    left[:, diagonal, diagonal] = np.where(held, 1.0, left[:, diagonal, diagonal])
    solved: Doubles = np.linalg.solve(left, right[:, :, None])[:, :, 0]
    return solved


def resampled(strata: Ints, draws: int, seed: int) -> Doubles:
    """How often each cluster is drawn, with replacement and within its stratum.

    Args:
        strata: (n_cluster,) int64 code of each cluster's stratum, such as its species.
        draws: How many resamples.
        seed: Of the draw.

    Returns:
        (draws, n_cluster) float64 whole numbers; in each draw a stratum's add up to its number of clusters.
    """
    counts = np.zeros((draws, len(strata)))
    rng = np.random.default_rng(seed)
    for stratum in np.unique(strata):
        mine = np.flatnonzero(strata == stratum)
        counts[:, mine] = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=draws)
    return counts


def softened(truth: Bools, weights: Doubles) -> Doubles:
    """(n,) targets that so few rows can bear: (m + 1)/(m + 2) for the m true ones, 1/(k + 2) for the k others.

    Platt 1999, section 2.2: without it, pairs that happen to be told apart without a slip would ask for infinite
    coefficients, and a probability of 1 would rest on a handful of pairs.
    """
    m, k = float(weights[truth].sum()), float(weights[~truth].sum())
    return np.where(truth, (m + 1) / (m + 2), 1 / (k + 2))
