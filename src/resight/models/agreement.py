"""Whether two ways of running one network give the same answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_COSINE = 0.999
LEAST_SAME_TOP1 = 0.99
# What is asked of the few chips on which a lower precision is tried, for the many that will follow it.
LEAST_COSINE_ON_TRIAL = 0.9998
TIE = 1e-6  # chips whose cosines differ by less are equally near


@dataclass(frozen=True)
class Agreement:
    """How alike the vectors of two ways are.

    Attributes:
        chips: How many chips were embedded in both ways.
        cosine_min: The smallest cosine of a chip's two vectors.
        same_top1: Share of the chips whose nearest other chip is the same in both, or as near; ``None`` for fewer than
            3 chips.
    """

    chips: int
    cosine_min: float
    same_top1: float | None

    @property
    def holds(self) -> bool:
        """Whether no vector is turned by more than 2.6 degrees: its cosine is 0.999 or more."""
        return self.cosine_min >= LEAST_COSINE

    @property
    def holds_with_room(self) -> bool:
        """Whether it may be expected to hold for chips that were not compared: every cosine is 0.9998 or more."""
        return self.cosine_min >= LEAST_COSINE_ON_TRIAL

    @property
    def keeps_ranks(self) -> bool:
        """Whether it holds with room to spare and 99 % of the chips keep their nearest."""
        return self.holds_with_room and (self.same_top1 is None or self.same_top1 >= LEAST_SAME_TOP1)

    def in_words(self) -> str:
        """The figures, for a message."""
        same = "" if self.same_top1 is None else f", {100 * self.same_top1:.1f} % the same nearest"
        return f"smallest cosine {self.cosine_min:.5f} over {self.chips} chips{same}"


def measure_agreement(reference: NDArray[np.floating], vectors: NDArray[np.floating]) -> Agreement:
    """Compare the vectors of the same chips, made in two ways.

    Args:
        reference: (n, dim), n at least 1.
        vectors: (n, dim), the same chips in the same order. NaN or an infinity counts as a cosine of -1.
    """
    first, second = _unit_rows(reference), _unit_rows(vectors)
    cosines = np.nan_to_num((first * second).sum(axis=1), nan=-1.0)
    same = None if len(first) < 3 else _same_nearest(first, second)
    return Agreement(len(first), float(np.clip(cosines.min(), -1.0, 1.0)), same)


def _unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    rows = np.asarray(vectors, np.float64)
    rows = np.where(np.isfinite(rows).all(axis=1, keepdims=True), rows, np.nan)
    unit: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def _same_nearest(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    by_first, by_second = _similarities(first), _similarities(second)
    found = np.take_along_axis(by_first, by_second.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float(np.mean(found >= by_first.max(axis=1) - TIE))


def _similarities(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    similarities: NDArray[np.float64] = np.nan_to_num(rows @ rows.T, nan=-1.0)
    np.fill_diagonal(similarities, -np.inf)
    return similarities
