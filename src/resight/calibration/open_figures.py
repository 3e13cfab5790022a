"""How well known animals are told from new ones, and where to draw the line: pure functions on arrays.

A query is *called new* where its P(new) is above a threshold, and else *accepted* with its best name. A name that is
wrong is a false match; a known animal that is called new is a missed match. No figure but BAKS and BAUS depends on a
threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import rankdata

from resight.calibration.evidence import Bools, Doubles, Ints
from resight.errors import InputError


@dataclass(frozen=True)
class OpenFigures:
    """Figures from 0 to 1, means over the parts; ``None`` where one side has no queries.

    Attributes:
        auroc: :func:`auroc`; ``oscr``, ``baks`` and ``baus`` likewise.
        threshold: Of P(new), for ``baks`` and ``baus``.
    """

    auroc: float | None
    oscr: float | None
    baks: float | None
    baus: float | None
    threshold: float

    @property
    def geometric_mean(self) -> float | None:
        """√(BAKS · BAUS), by which AnimalCLEF 2025 ranks."""
        return None if self.baks is None or self.baus is None else float(np.sqrt(self.baks * self.baus))


def open_figures(
    p_new: Doubles, is_new: Bools, right: Bools, identity: Ints, part: Ints, *, threshold: float = 0.5
) -> OpenFigures:
    """All figures of some queries.

    Args:
        p_new: (n,) P(new), or any score that rises with it.
        is_new: (n,) bool, whether the animal is none of those compared.
        right: (n,) bool, whether the best name is the animal's own.
        identity: (n,) int64 codes.
        part: (n,) int64: rows of different simulated draws, or by different fits, are not compared with each other.
        threshold: From where on a query is called new.

    Raises:
        InputError: arrays that do not fit together.
    """
    _check(p_new, is_new, right, identity, part)

    def mean(figure: Callable[[Bools], float | None]) -> float | None:
        found = [value for code in np.unique(part) if (value := figure(part == code)) is not None]
        return float(np.mean(found)) if found else None

    called = p_new > threshold
    return OpenFigures(
        mean(lambda rows: auroc(p_new[rows], is_new[rows])),
        mean(lambda rows: oscr(p_new[rows], is_new[rows], right[rows])),
        mean(lambda rows: baks(called[rows], is_new[rows], right[rows], identity[rows])),
        mean(lambda rows: baus(called[rows], is_new[rows], identity[rows])),
        threshold,
    )


def auroc(score: Doubles, is_new: Bools) -> float | None:
    """Chance that a new animal has a higher score than a known one, equal ones counting half.

    Args:
        score: (n,) that rises with the chance of a new animal: P(new), or the best cosine turned negative.
        is_new: (n,) bool.

    Returns:
        ``None`` where there are no new animals, or no others.
    """
    new, known = int(is_new.sum()), int((~is_new).sum())
    if not new or not known:
        return None
    return float((rankdata(score)[is_new].sum() - new * (new + 1) / 2) / (new * known))


def oscr(score: Doubles, is_new: Bools, right: Bools) -> float | None:
    """Area under the correct classification rate over the false positive rate.

    At each threshold: the share of known queries that are accepted with the right name, over the share of new ones
    that are accepted (Dhamija, Günther & Boult 2018, section 4.2). At best it is the share of known queries whose best
    name is right, however well new ones are told.

    Args:
        score: (n,) that rises with the chance of a new animal.
        is_new: (n,) bool.
        right: (n,) bool, whether the best name is the animal's own.

    Returns:
        ``None`` where there are no new animals, or no others.
    """
    new, known = int(is_new.sum()), int((~is_new).sum())
    if not new or not known:
        return None
    values = np.unique(score)  # rising: accepted first are those that look least new
    accepted_new = np.searchsorted(np.sort(score[is_new]), values, side="right") / new
    accepted_right = np.searchsorted(np.sort(score[~is_new & right]), values, side="right") / known
    return float(trapezoid(np.append(0.0, accepted_right), np.append(0.0, accepted_new)))


def baks(called_new: Bools, is_new: Bools, right: Bools, identity: Ints) -> float | None:
    """Balanced accuracy on known samples, as AnimalCLEF 2025 has it.

    The mean, over known identities, of the share of its queries that are not called new and have the right name.
    """
    return _by_identity((~called_new & right)[~is_new], identity[~is_new])


def baus(called_new: Bools, is_new: Bools, identity: Ints) -> float | None:
    """Balanced accuracy on unknown samples: the mean, over new identities, of the share of queries called new."""
    return _by_identity(called_new[is_new], identity[is_new])


@dataclass(frozen=True)
class OperatingPoint:
    """Where to call a query new.

    Attributes:
        threshold: Of P(new): a query above it is called new. 1 never calls one new, 0 always.
        share: The share of new animals it is meant for.
        cost_missed: Cost of a missed match, ``cost_false`` of a false one.
        expected_cost: Of one query.
        missed: Share of known queries called new.
        false_known: Share of known queries accepted with a wrong name.
        false_new: Share of new queries accepted.
    """

    threshold: float
    share: float
    cost_missed: float
    cost_false: float
    expected_cost: float
    missed: float
    false_known: float
    false_new: float


def operating_point(
    p_new: Doubles, is_new: Bools, right: Bools, *, share: float, cost_missed: float, cost_false: float
) -> OperatingPoint:
    """The threshold with the least expected cost.

    Cost = (1 − share) · [cost_missed · missed + cost_false · false_known] + share · cost_false · false_new. Thresholds
    between two neighbouring queries cost the same: the one half way is taken; of equally cheap ones, the one that
    calls more new, since a missed match can be found later and a false one spreads.

    Args:
        p_new: (n,) P(new) for ``share``, of queries that it was not fitted on.
        is_new: (n,) bool.
        right: (n,) bool, whether the best name is the animal's own.
        share: The share of new animals that is expected, above 0 and below 1; that among the queries does not matter.
        cost_missed: Cost of a known animal called new.
        cost_false: Cost of a wrong name.

    Raises:
        InputError: a share or cost that cannot be, or no queries of known or of new animals.
    """
    _check(p_new, is_new, right)
    if not 0 < share < 1:
        raise InputError(f"share of new animals {share}: expected a number above 0 and below 1")
    if not (0 < cost_missed < np.inf and 0 < cost_false < np.inf):
        raise InputError(f"costs {cost_missed}:{cost_false}: expected two numbers above 0, missed:false, such as 1:5")
    known, new = p_new[~is_new], np.sort(p_new[is_new])
    if not len(known) or not len(new):
        raise InputError("an operating point needs queries of known and of new animals")
    values = np.unique(p_new)
    thresholds = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [1.0]])
    wrong = np.sort(p_new[~is_new & ~right])
    missed = 1 - np.searchsorted(np.sort(known), thresholds, side="right") / len(known)
    false_known = np.searchsorted(wrong, thresholds, side="right") / len(known)
    false_new = np.searchsorted(new, thresholds, side="right") / len(new)
    cost = (1 - share) * (cost_missed * missed + cost_false * false_known) + share * cost_false * false_new
    at = int(np.argmax(cost <= cost.min() * (1 + 1e-12)))  # the first, and so the lowest threshold
    return OperatingPoint(
        float(thresholds[at]),
        share,
        cost_missed,
        cost_false,
        float(cost[at]),
        float(missed[at]),
        float(false_known[at]),
        float(false_new[at]),
    )


def _by_identity(right: Bools, identity: Ints) -> float | None:
    if not len(right):
        return None
    _, codes = np.unique(identity, return_inverse=True)
    return float((np.bincount(codes, right) / np.bincount(codes)).mean())


def _check(p_new: Doubles, *others: Bools | Ints) -> None:
    if p_new.ndim != 1 or any(other.shape != p_new.shape for other in others):
        shapes = ", ".join(str(other.shape) for other in others)
        raise InputError(f"expected one entry a query in every array, got shapes {p_new.shape} and {shapes}")
    if np.isnan(p_new).any():
        raise InputError("a query has no P(new): leave it out")
