"""The local evidence for each candidate of a shortlist, and how much work goes into it.

All candidates of a query go through the same effort, or get a first look before, after which only the best go on. Where
a candidate's evidence is decisive, those that the embedding placed behind its group are left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resight.errors import InputError
from resight.matching.local.features import LocalFeatures
from resight.matching.local.geometry import GeometrySpec, find_inliers
from resight.matching.local.lightglue import WHOLE, Effort, PairMatches
from resight.memory import freed_memory_kept

REMEMBERED = 256  # candidates whose features stay in memory; half a megabyte each at 512 points


@dataclass(frozen=True)
class MatchPlan:
    """How much work goes into the candidates of one query.

    Attributes:
        whole: What the best candidates go through.
        first: What all candidates go through before; ``None``: all of them go through ``whole`` at once.
        finished: How many candidates, the best of the first look, go on.
        decisive: The sum of squared confidences of one candidate's matches that ends the search; ``None`` never ends
            it.
        group: Candidates, in the shortlist's order, between two looks at whether the search is over.
    """

    whole: Effort = WHOLE
    first: Effort | None = None
    finished: int = 5
    decisive: float | None = None
    group: int = 20

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.finished < 1:
            raise InputError(f"finished {self.finished}: expected 1 or more candidates")
        if self.decisive is not None and self.decisive <= 0:
            raise InputError(f"decisive {self.decisive}: expected more than 0, or None to compare every candidate")
        if self.group < 1:
            raise InputError(f"group {self.group}: expected 1 or more candidates")


ADAPTIVE = MatchPlan(Effort(layers=7, keep=((2, 0.5), (4, 0.25))))
"""Seven layers of nine, and of the points those most likely to have a partner: half after two layers, a quarter after
four. ``benchmarks/bench_local.py`` compares it with the whole network."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What two photos have in common.

    Attributes:
        matches: Points that show the same mark, for drawing as well.
        query_points_px: (m, 2) float32, where they are in the query's evidence chip.
        candidate_points_px: (m, 2) float32, and in the candidate's.
        inliers: (m,) bool, which of them agree with one map; ``None`` where that was not asked for.
        whole: False where the pair got a first look only.
    """

    matches: PairMatches
    query_points_px: NDArray[np.float32]
    candidate_points_px: NDArray[np.float32]
    inliers: NDArray[np.bool_] | None
    whole: bool

    @property
    def count(self) -> int:
        """How many points match."""
        return len(self.matches)

    @property
    def confidence(self) -> float:
        """The matches' confidences together: the score of a pair."""
        return float(self.matches.confidences.sum())

    @property
    def squared_confidence(self) -> float:
        """The squares of the matches' confidences together: what is held against ``MatchPlan.decisive``."""
        return float((self.matches.confidences.astype(np.float64) ** 2).sum())

    @property
    def inlier_count(self) -> int | None:
        """How many matches agree with one map."""
        return None if self.inliers is None else int(self.inliers.sum())

    @property
    def inlier_confidence(self) -> float | None:
        """The confidences of these together: the geometric score of a pair."""
        return None if self.inliers is None else float(self.matches.confidences[self.inliers].sum())


def nothing_found() -> Evidence:
    """What a photo without points has in common with any other: that was looked for, and there is none."""
    rows, points = np.empty(0, np.int64), np.empty((0, 2), np.float32)
    return Evidence(PairMatches(rows, rows, np.empty(0, np.float32)), points, points, np.empty(0, np.bool_), whole=True)


class Matcher(Protocol):
    """A network that matches the points of photos; what it prepares is its own."""

    def prepare(self, features: LocalFeatures) -> Any:
        """Do for one photo what does not depend on the other."""
        ...

    def match(self, query: Any, candidates: Sequence[Any], effort: Effort = WHOLE) -> list[PairMatches]:
        """The matches of one photo with each of the others."""
        ...


class LocalMatcher:
    """Compares the photo of a query with those of its shortlist.

    Args:
        network: The matcher of the extractor that made the features.
        plan: How much work goes into it; ``None``: the whole network for every candidate.
        geometry: How matches are checked; ``None`` leaves that out.
        remembered: Candidates whose features stay in memory for the queries to come.
    """

    def __init__(
        self,
        network: Matcher,
        plan: MatchPlan | None = None,
        *,
        geometry: GeometrySpec | None = None,
        remembered: int = REMEMBERED,
    ) -> None:
        self._network = network
        self._plan = plan or MatchPlan()
        self._geometry = geometry
        self._remembered = remembered
        self._known: OrderedDict[str, tuple[LocalFeatures, Any]] = OrderedDict()

    @freed_memory_kept()
    def compare(
        self,
        query: LocalFeatures,
        candidates: Sequence[str | None],
        load: Callable[[str], LocalFeatures],
        *,
        may_end: Sequence[bool] | None = None,
    ) -> list[Evidence | None]:
        """Compare one photo with the candidates of its shortlist.

        Args:
            query: Its features.
            candidates: Keys of the candidates, the nearest by the embedding first; ``None`` is one without features, in
                which nothing is found, and which has its place in its group all the same.
            load: Gives the features of a key, whose content never changes.
            may_end: For each candidate whether it can be decisive at all; ``None``: each can.

        Returns:
            One a candidate; ``None`` for those behind the group in which the evidence was decisive.
        """
        prepared = self._network.prepare(query)
        found: list[Evidence | None] = []
        for start in range(0, len(candidates), self._plan.group):
            keys = candidates[start : start + self._plan.group]
            there = [self._candidate(key, load) for key in keys if key is not None]
            compared = iter(self._compare_group(query, prepared, there) if there else ())
            group = [nothing_found() if key is None else next(compared) for key in keys]
            found += group
            ending = [True] * len(group) if may_end is None else may_end[start : start + self._plan.group]
            if any(may and self._is_decisive(one) for may, one in zip(ending, group, strict=True)):
                break
        return found + [None] * (len(candidates) - len(found))

    def _is_decisive(self, evidence: Evidence) -> bool:
        return self._plan.decisive is not None and evidence.squared_confidence >= self._plan.decisive

    def _compare_group(
        self, query: LocalFeatures, prepared: Any, candidates: Sequence[tuple[LocalFeatures, Any]]
    ) -> list[Evidence]:
        plan = self._plan
        if plan.first is None:
            matches = self._network.match(prepared, [one for _, one in candidates], plan.whole)
            return self._as_evidence(query, candidates, matches, set(range(len(candidates))))
        matches = self._network.match(prepared, [one for _, one in candidates], plan.first)
        by_first_look = sorted(range(len(candidates)), key=lambda row: -float(matches[row].confidences.sum()))
        chosen = by_first_look[: plan.finished]
        whole = self._network.match(prepared, [candidates[row][1] for row in chosen], plan.whole)
        for row, better in zip(chosen, whole, strict=True):
            matches[row] = better
        return self._as_evidence(query, candidates, matches, set(chosen))

    def _as_evidence(
        self,
        query: LocalFeatures,
        candidates: Sequence[tuple[LocalFeatures, Any]],
        matches: Sequence[PairMatches],
        whole: set[int],
    ) -> list[Evidence]:
        evidence = []
        for row, ((features, _), found) in enumerate(zip(candidates, matches, strict=True)):
            here, there = query.keypoints[found.query_points], features.keypoints[found.candidate_points]
            inliers = None if self._geometry is None else find_inliers(here, there, features.size, self._geometry)
            evidence.append(Evidence(found, here, there, inliers, row in whole))
        return evidence

    def _candidate(self, key: str, load: Callable[[str], LocalFeatures]) -> tuple[LocalFeatures, Any]:
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        features = load(key)
        made = features, self._network.prepare(features)
        self._known[key] = made
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)
        return made


def order_by_evidence(evidence: Sequence[Evidence | None]) -> list[int]:
    """The candidates' rows, the best first: those that went through the whole effort, then the others, by confidence.

    Those that were not compared come last; of equal ones, what the shortlist had first stays first.
    """

    def place(row: int) -> tuple[int, float]:
        one = evidence[row]
        return (2, 0.0) if one is None else (0 if one.whole else 1, -one.confidence)

    return sorted(range(len(evidence)), key=place)
