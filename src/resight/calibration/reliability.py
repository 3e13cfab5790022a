"""Whether probabilities hold: reliability, calibration error, Brier score and log loss of held-out pairs.

The expected calibration error is Σ (n_b / n) · |mean p − share right| over bins of equally many pairs (Naeini, Cooper &
Hauskrecht 2015, with the bins by rank of Nguyen & O'Connor 2015). Ten bins, or fewer where one would hold under 20
pairs; pairs of equal p are never parted, so the order of the pairs does not matter. The error of few pairs is never
0, not even of perfect probabilities; ``ece_by_chance`` is what these would show on average.

Among all pairs most are easily told apart, which makes any error small. So it is given three times: over all pairs,
over those shown first, which is what people look at, and over those that are neither clear one way nor the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold

from resight.calibration.evidence import Bools, Doubles, Ints
from resight.errors import InputError

ALL, FIRST, UNCLEAR = "all pairs", "pairs at rank 1", "pairs with P(same) between 0.05 and 0.95"
_BINS, _LEAST_IN_BIN = 10, 20
_CLEAR = (0.05, 0.95)
_Z = 1.959963984540054  # of a two-sided 95 % interval
_CHANCE_DRAWS = 200
_CLIP = 1e-12


@dataclass(frozen=True)
class Bin:
    """Some pairs of about equal probability.

    Attributes:
        mean: Their mean P(same).
        share: How many of them show one animal, from 0 to 1; ``low`` and ``high`` its 95 % interval (Wilson 1927),
            which takes pairs for independent and so is too narrow where few individuals bring many.
        count: How many they are.
    """

    mean: float
    share: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Reliability:
    """How true the probabilities of some pairs are; figures are ``None`` where there are no pairs.

    Attributes:
        pairs: How many.
        same: How many show one animal.
        ece: Expected calibration error, from 0 to 1.
        ece_by_chance: What perfect probabilities would show on so few pairs, on average.
        brier: Mean squared error, from 0 to 1.
        log_loss: Mean, in nats.
        bins: By rising probability.
    """

    pairs: int
    same: int
    ece: float | None
    ece_by_chance: float | None
    brier: float | None
    log_loss: float | None
    bins: tuple[Bin, ...]


def reliability(p: Doubles, right: Bools, *, seed: int = 0) -> Reliability:
    """Hold probabilities against what turned out.

    Args:
        p: (n,) from 0 to 1.
        right: (n,) bool.
        seed: Of the perfect outcomes that ``ece_by_chance`` averages.

    Raises:
        InputError: arrays that do not fit together, or p outside 0 to 1.
    """
    _check(p, right)
    if not len(p):
        return Reliability(0, 0, None, None, None, None, ())
    bins = equal_bins(p)
    rng = np.random.default_rng(seed)
    order = np.sort(p)  # the chance level must not depend on the order of the pairs
    sorted_bins = equal_bins(order)
    by_chance = [_error(order, rng.random(len(p)) < order, sorted_bins) for _ in range(_CHANCE_DRAWS)]
    table = []
    for place in range(int(bins.max()) + 1):
        mine = bins == place
        low, high = wilson(int(right[mine].sum()), int(mine.sum()))
        table.append(Bin(float(p[mine].mean()), float(right[mine].mean()), low, high, int(mine.sum())))
    return Reliability(
        len(p),
        int(right.sum()),
        _error(p, right, bins),
        float(np.mean(by_chance)),
        float(((p - right) ** 2).mean()),
        log_loss(p, right),
        tuple(table),
    )


def reliability_views(p: Doubles, same: Bools, rank: Ints, *, seed: int = 0) -> dict[str, Reliability]:
    """The three views of one calibration: ``ALL``, ``FIRST`` and ``UNCLEAR``.

    Args:
        p: (n,) P(same) of each pair, by fits without its query's identity; NaN where there is none: left out.
        same: (n,) bool.
        rank: (n,) int64, the pair's place among its query's candidates, from 1.
        seed: Of the chance level.
    """
    there = ~np.isnan(p)
    low, high = _CLEAR
    with np.errstate(invalid="ignore"):
        views = {ALL: there, FIRST: there & (rank == 1), UNCLEAR: there & (p > low) & (p < high)}
    return {name: reliability(p[rows], same[rows], seed=seed) for name, rows in views.items()}


def calibration_error(p: Doubles, right: Bools) -> float | None:
    """Expected calibration error as the top of this file defines it; ``None`` without pairs."""
    _check(p, right)
    return _error(p, right, equal_bins(p)) if len(p) else None


def equal_bins(p: Doubles) -> Ints:
    """(n,) int64 bin of each probability, from 0 by rising probability; equal ones share a bin."""
    n = len(p)
    wanted = max(1, min(_BINS, n // _LEAST_IN_BIN))
    values, of_value, counts = np.unique(p, return_inverse=True, return_counts=True)
    # A run of equal values goes where its middle lies.
    middle = np.cumsum(counts) - counts / 2
    bins = np.minimum((middle * wanted / max(1, n)).astype(np.int64), wanted - 1)
    used: Ints = np.unique(bins, return_inverse=True)[1].reshape(len(values))
    found: Ints = used[of_value].astype(np.int64)
    return found


def log_loss(p: Doubles, right: Bools, weights: Doubles | None = None) -> float:
    """Mean of −log of the probability of what turned out, in nats; a certain error counts as −log(10⁻¹²)."""
    chance = np.clip(np.where(right, p, 1 - p), _CLIP, 1.0)
    return float(np.average(-np.log(chance), weights=weights))


def wilson(right: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if not count:
        return 0.0, 1.0
    share, z2 = right / count, _Z**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * float(np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)))
    return max(0.0, centre - half), min(1.0, centre + half)


def cosine_readings(cosine: Doubles) -> dict[str, Doubles]:
    """The uncalibrated cosine read as a probability, both ways: the peers that a calibration is held against.

    ``cosine, at least 0`` takes a right angle for 0, as strangers mostly are to each other in a trained space;
    ``(1 + cosine) / 2`` uses the whole range.
    """
    return {"cosine, at least 0": np.clip(cosine, 0.0, 1.0), "(1 + cosine) / 2": np.clip((1 + cosine) / 2, 0.0, 1.0)}


def identity_folds(identity: Ints, folds: int, seed: int) -> list[tuple[Ints, Ints]]:
    """Split rows so that every identity's are on one side.

    Args:
        identity: (n,) int64 codes.
        folds: How many; as many as identities where these are fewer.
        seed: Of the draw.

    Returns:
        For each fold the rows to fit on and the rows held out, rising; every row is held out once. Nothing for fewer
        than two identities.
    """
    count = min(folds, len(np.unique(identity)))
    if count < 2:
        return []
    splitter = GroupKFold(n_splits=count, shuffle=True, random_state=seed)
    return [(fitted, held) for fitted, held in splitter.split(np.zeros(len(identity)), groups=identity)]


def _error(p: Doubles, right: Bools, bins: Ints) -> float:
    count = np.bincount(bins)
    gap = np.abs(np.bincount(bins, p) - np.bincount(bins, right))
    return float(gap.sum() / count.sum())


def _check(p: Doubles, right: Bools) -> None:
    if p.ndim != 1 or p.shape != right.shape:
        raise InputError(f"probabilities and outcomes must be (n,) each, got shapes {p.shape} and {right.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError("a probability lies outside 0 to 1, or is NaN: leave pairs without one out")
