from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from resight.errors import InputError
from resight.matching.local.evidence import LocalMatcher, MatchPlan, order_by_evidence
from resight.matching.local.features import LocalFeatures
from resight.matching.local.geometry import GeometrySpec
from resight.matching.local.lightglue import Effort, LightGlue, PairMatches

FIRST, WHOLE = Effort(layers=1), Effort()


def features(name: int) -> LocalFeatures:
    """Twelve points on a line, whose descriptor is the candidate's name."""
    points = np.stack([np.arange(12), np.full(12, name)], axis=1).astype(np.float32)
    return LocalFeatures(points, np.full((12, 1), name, np.float16), np.ones(12, np.float16), (20, 20))


class Scripted:
    """A network whose answers are written down: how many points of candidate ``n`` match at which effort."""

    def __init__(self, first: Sequence[int], whole: Sequence[int]) -> None:
        self.answers = {FIRST: first, WHOLE: whole}
        self.asked: list[tuple[Effort, list[int]]] = []
        self.prepared: list[int] = []

    def prepare(self, given: LocalFeatures) -> int:
        self.prepared.append(int(given.descriptors[0, 0]))
        return self.prepared[-1]

    def match(self, query: int, candidates: Sequence[int], effort: Effort) -> list[PairMatches]:
        self.asked.append((effort, list(candidates)))
        return [self._matches(self.answers[effort][name]) for name in candidates]

    def _matches(self, count: int) -> PairMatches:
        return PairMatches(np.arange(count), np.arange(count)[::-1].copy(), np.full(count, 0.5, np.float32))


def matcher(network: Scripted, plan: MatchPlan | None = None, **settings: Any) -> LocalMatcher:
    return LocalMatcher(cast(LightGlue, network), plan, **settings)


def load(key: str) -> LocalFeatures:
    return features(int(key))


def keys(count: int) -> list[str]:
    return [str(name) for name in range(count)]


def test_every_candidate_goes_through_the_whole_network_where_nothing_else_is_asked() -> None:
    network = Scripted((), (4, 8, 0))
    evidence = matcher(network).compare(features(11), keys(3), load)
    assert network.asked == [(WHOLE, [0, 1, 2])]
    assert [(one.count, one.confidence, one.whole, one.inliers) for one in evidence if one] == [
        (4, 2.0, True, None), (8, 4.0, True, None), (0, 0.0, True, None),
    ]  # fmt: skip
    assert order_by_evidence(evidence) == [1, 0, 2]


def test_evidence_says_where_its_points_are() -> None:
    [one] = matcher(Scripted((), (3,))).compare(features(11), ["0"], load)
    assert one is not None
    assert one.query_points_px.tolist() == [[0, 11], [1, 11], [2, 11]]
    assert one.candidate_points_px.tolist() == [[2, 0], [1, 0], [0, 0]]


def test_only_the_best_of_the_first_look_go_on_and_stand_before_the_others() -> None:
    network = Scripted((3, 9, 2, 7, 5), (0, 4, 0, 6, 0))
    evidence = matcher(network, MatchPlan(WHOLE, FIRST, finished=2)).compare(features(11), keys(5), load)
    assert network.asked == [(FIRST, [0, 1, 2, 3, 4]), (WHOLE, [1, 3])]
    assert [(one.count, one.whole) for one in evidence if one] == [
        (3, False), (4, True), (2, False), (6, True), (5, False),
    ]  # fmt: skip
    assert order_by_evidence(evidence) == [3, 1, 4, 0, 2]  # 5 matches of a first look stand behind 4 of a whole one


def test_decisive_evidence_ends_the_search_after_its_group() -> None:
    counts = (2, 3, 10, 3, 12, 12)
    network = Scripted((), counts)
    plan = MatchPlan(decisive=2.5, group=2)  # the squares of ten confidences of 0.5
    evidence = matcher(network, plan).compare(features(11), keys(6), load)
    assert [names for _, names in network.asked] == [[0, 1], [2, 3]]
    assert [None if one is None else one.count for one in evidence] == [2, 3, 10, 3, None, None]
    assert order_by_evidence(evidence) == [2, 1, 3, 0, 4, 5]
    undecided = matcher(Scripted((), counts), MatchPlan(decisive=3.5, group=2)).compare(features(11), keys(6), load)
    assert None not in undecided


def test_candidates_without_points_are_told_from_those_that_were_not_compared() -> None:
    network = Scripted((), (2, 3, 10, 3))
    plan = MatchPlan(decisive=2.5, group=2)
    candidates = [None, "0", "2", None, "1"]
    evidence = matcher(network, plan, geometry=GeometrySpec()).compare(features(11), candidates, load)
    assert [names for _, names in network.asked] == [[0], [2]]  # a place in its group is taken all the same
    assert [None if one is None else one.count for one in evidence] == [0, 2, 10, 0, None]
    assert [one.inlier_count for one in (evidence[0], evidence[3]) if one is not None] == [0, 0]
    assert matcher(Scripted((), ()), plan).compare(features(11), [None, None], load)[1] is not None


def test_a_candidate_that_comes_again_is_not_loaded_again() -> None:
    network = Scripted((), (1,) * 5)
    loaded: list[str] = []

    def loading(key: str) -> LocalFeatures:
        loaded.append(key)
        return load(key)

    compared = matcher(network, remembered=3)
    compared.compare(features(11), ["0", "1", "2"], loading)
    compared.compare(features(12), ["0", "3"], loading)  # 1 was last asked for longest ago, and goes
    compared.compare(features(13), ["0", "2", "1"], loading)
    assert loaded == ["0", "1", "2", "3", "1"]
    assert network.prepared.count(0) == 1


def test_geometry_is_a_score_of_its_own() -> None:
    [one] = matcher(Scripted((), (2,)), geometry=GeometrySpec()).compare(features(11), ["0"], load)
    assert one is not None
    assert (one.inlier_count, one.inlier_confidence, one.confidence) == (0, 0.0, 1.0)  # two points agree with any map


def test_no_candidates_are_no_evidence() -> None:
    assert matcher(Scripted((), ())).compare(features(11), [], load) == []


def test_wrong_plans_are_refused() -> None:
    for wrong in ({"finished": 0}, {"decisive": 0.0}, {"group": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            MatchPlan(**wrong)
