"""How far local evidence goes along a shortlist: far enough to meet the right animal, and no further once it has.

Two numbers a species, both found on the test side of a split. The *length* of its shortlist is the smallest that holds
the right animal as often as somebody asked for. *Decisive* is the local evidence from which a candidate was practically
always right: candidates are compared group by group, and those behind a group with a decisive one are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from resight.calibration.evidence import Bools, Doubles, Ints
from resight.errors import InputError

GROUP = 10  # candidates that are compared between two looks at whether one is decisive
SHORTEST = 5  # candidates: P(same) and P(new) are read from how far a name leads the next, so there have to be some
SURELY_RIGHT = 0.99  # share of the queries whose best candidate is decisive that must have the right one
LEAST_QUERIES, LEAST_INDIVIDUALS = 50, 10  # what a stop has to rest on


@dataclass(frozen=True)
class Length:
    """How long the shortlist of one species is.

    Attributes:
        candidates: So many are compared.
        wanted: Share of the queries whose shortlist should hold the right animal; ``None`` where nobody asked.
        reached: For how many it does; ``None`` where no query can match.
        queries: Test queries that can match, on which this rests.
        gallery: Annotations that these were compared among (the median): among more, the same length reaches less.
    """

    candidates: int
    wanted: float | None
    reached: float | None
    queries: int
    gallery: int

    @property
    def falls_short(self) -> bool:
        """Whether even the longest shortlist reaches less than was asked for."""
        return self.wanted is not None and self.reached is not None and self.reached < self.wanted


@dataclass(frozen=True)
class Stop:
    """From which local evidence on a candidate of one species is decisive.

    Attributes:
        decisive: Sum of squared confidences (``local_sum``).
        queries: Test queries whose best candidate reaches it.
        right: The share of these whose best candidate is right.
        individuals: Those whose queries leave candidates out.
        saved: Share of all the species' pairs that need no comparing then.
    """

    decisive: float
    queries: int
    right: float
    individuals: int
    saved: float


def require_recall(recall: float) -> None:
    """Refuse what is no share.

    Raises:
        InputError: not above 0 and at most 1.
    """
    if not 0 < recall <= 1:
        raise InputError(f"--recall {recall:g}: expected a share above 0 and at most 1, such as 0.9")


def length_for(same: Bools, gallery: Ints, *, wanted: float | None, longest: int) -> Length:
    """The smallest shortlist that holds the right animal often enough; the longest where none does.

    Args:
        same: (n, at least longest) whether each candidate is the query's animal, the nearest first; of the queries
            that can match.
        gallery: (n,) how many annotations each query is compared with.
        wanted: Share of the queries; ``None`` takes the longest.
        longest: Candidates at most.
    """
    n = len(same)
    if n == 0:
        return Length(longest, wanted, None, 0, 0)
    near = same[:, :longest]
    places = np.where(near.any(axis=1), near.argmax(axis=1) + 1, longest + 1)
    candidates = longest
    if wanted is not None:
        enough = math.ceil(wanted * n - 1e-9)  # so many queries; 0.7 × 10 is no more than 7
        candidates = min(max(int(np.sort(places)[enough - 1]), SHORTEST), longest)
    return Length(candidates, wanted, float((places <= candidates).mean()), n, int(np.median(gallery)))


def looked_at(local_sum: Doubles, held: Bools, decisive: Doubles) -> Bools:
    """Which candidates are compared where one that is decisive ends the search behind its group.

    Args:
        local_sum: (n, k) sums of squared confidences, the nearest candidate first; NaN is never decisive.
        held: (n, k) which places hold a candidate.
        decisive: (n,) from which sum on; infinity compares all.
    """
    reaches = held & (np.nan_to_num(local_sum, nan=-np.inf) >= decisive[:, None]) & np.isfinite(decisive[:, None])
    group = np.arange(held.shape[1]) // GROUP
    last = np.where(reaches.any(axis=1), reaches.argmax(axis=1) // GROUP, held.shape[1])
    found: Bools = held & (group <= last[:, None])
    return found


def find_stop(
    local_sum: Doubles, same: Bools, held: Bools, identity: Ints, *, surely: float = SURELY_RIGHT
) -> Stop | None:
    """The lowest sum from which on a query's best candidate, of those compared then, is right as good as always.

    Args:
        local_sum: (n, k) of one species' queries, also of those that cannot match; the nearest candidate first.
        same: (n, k) whether each candidate is the query's animal.
        held: (n, k) which places hold a candidate.
        identity: (n,) int64 code of the query's identity.
        surely: Share of the queries that must have the right candidate.

    Returns:
        ``None`` where no sum is that telling for ``LEAST_QUERIES``, or where it would leave out next to nothing.
    """
    sums = np.where(held, np.nan_to_num(local_sum, nan=-np.inf), -np.inf)
    best = sums.max(axis=1, initial=-np.inf)
    is_right = np.isfinite(best) & _leads(sums, same)
    order = np.argsort(-best, kind="stable")
    reached = np.arange(1, len(order) + 1)
    right = np.cumsum(is_right[order])
    is_last_of_equals = np.append(best[order][1:] < best[order][:-1], True)[: len(order)]
    telling = is_last_of_equals & (right >= surely * reached) & (reached >= LEAST_QUERIES) & (best[order] > 0)
    for place in np.flatnonzero(telling)[::-1]:
        decisive, queries = float(best[order[place]]), int(reached[place])
        looked = looked_at(local_sum, held, np.full(len(held), decisive))
        # A wrong candidate of an earlier group that is decisive too hides the right one behind it.
        first_right = _leads(np.where(looked, sums, -np.inf), same)[order[:queries]].mean()
        if first_right < surely:
            continue
        left_out = held & ~looked
        individuals = len(np.unique(identity[left_out.any(axis=1)]))
        if individuals >= LEAST_INDIVIDUALS:
            return Stop(decisive, queries, float(first_right), individuals, float(left_out.sum() / held.sum()))
    return None


def _leads(sums: Doubles, same: Bools) -> Bools:
    """(n,) whether the best candidate is the query's animal; of equal sums the wrong one counts as the best."""
    right = np.where(same, sums, -np.inf).max(axis=1, initial=-np.inf)
    found: Bools = right > np.where(~same, sums, -np.inf).max(axis=1, initial=-np.inf)
    return found
