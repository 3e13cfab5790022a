"""Confidences that mean what they say: temperature, expected calibration error, and the threshold. Pure functions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

LEAST_CONFIDENCE = 0.8
"""No threshold is lower: where nearly all are right, each single one is still to be likely."""

_TEMPERATURES = (0.02, 50.0)
_BINS = 10

Floats = NDArray[np.float64]


def probabilities(logits: NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Softmax of ``logits / temperature``.

    Args:
        logits: (n, classes); minus infinity where a class is impossible.
        temperature: Above 1 makes the classes more alike.

    Returns:
        (n, classes), rows that add up to 1.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    found: Floats = np.exp(scaled - logsumexp(scaled, axis=1, keepdims=True))
    return found


def log_loss(logits: NDArray[np.floating], truth: NDArray[np.integer], temperature: float = 1.0) -> float:
    """Mean cross-entropy, in nats, with the truth softened by what so few rows can tell.

    The true class counts ``1 - 1 / (n + 2)`` and the others share the rest, as in Platt's scaling (Platt 1999,
    section 2.2): without it, rows that are all right would ask for a temperature of 0 and a confidence of 1.

    Args:
        logits: (n, classes), finite.
        truth: (n,) row of the true class.
        temperature: See :func:`probabilities`.
    """
    rows, classes = logits.shape
    scaled = np.asarray(logits, np.float64) / temperature
    logs = scaled - logsumexp(scaled, axis=1, keepdims=True)
    soft = 1.0 / (rows + 2)
    true = logs[np.arange(rows), truth]
    others = (logs.sum(axis=1) - true) / (classes - 1)
    return float(-((1.0 - soft) * true + soft * others).mean())


def fit_temperature(logits: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """The temperature with the smallest :func:`log_loss` (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    Args:
        logits: (n, classes), finite, of rows that the head was not fitted on.
        truth: (n,) row of the true class.
    """
    lowest, highest = (math.log(bound) for bound in _TEMPERATURES)
    found = minimize_scalar(
        lambda logarithm: log_loss(logits, truth, math.exp(logarithm)), bounds=(lowest, highest), method="bounded"
    )
    return math.exp(float(found.x))


def calibration_error(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """Expected calibration error over ten bins with as many rows each (Naeini et al. 2015; bins by rank).

    Args:
        confidence: (n,) from 0 to 1.
        right: (n,).

    Returns:
        The mean distance between how sure the head was and how often it was right, from 0 to 1.
    """
    if not len(confidence):
        return 0.0
    bins = np.array_split(np.argsort(confidence, kind="stable"), _BINS)
    gaps = [abs(confidence[mine].mean() - right[mine].mean()) * len(mine) for mine in bins if len(mine)]
    return float(sum(gaps) / len(confidence))


def choose_threshold(confidence: Floats, right: NDArray[np.bool_], wanted: float) -> float | None:
    """The lowest confidence from which on a share ``wanted`` of the values may be expected to be right.

    Of n values at or above it, k right, the next one is right with probability ``(k + 1) / (n + 2)`` (Laplace's rule
    of succession), which is what somebody who accepts it wants to know. It keeps a handful of labels that happen to be
    right from promising much: 0.98 asks for at least 48 of 48. A lower confidence bound of 95 % would ask for 149 of
    149, and nothing would be proposed where few are labelled.

    Args:
        confidence: (n,) from 0 to 1, of rows that the head was not fitted on.
        right: (n,).
        wanted: Such as 0.98.

    Returns:
        At least 0.8; ``None`` where no confidence is enough.
    """
    order = np.argsort(-confidence, kind="stable")
    sure, good = confidence[order], np.cumsum(right[order])
    expected = (good + 1) / (np.arange(len(order)) + 3)
    last_of_its_confidence = np.append(sure[1:] != sure[:-1], True) if len(sure) else np.zeros(0, bool)
    enough = (expected >= wanted) & last_of_its_confidence & (sure >= LEAST_CONFIDENCE)
    if not enough.any():
        return None
    return float(sure[np.flatnonzero(enough)[-1]])
