"""What a project asks local evidence for: one animal's photos against a shortlist, until something is decisive."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from resight.calibration.stopping import GROUP
from resight.matching.local import comparer as room
from resight.matching.local.comparer import LocalComparer
from resight.matching.local.store import FeatureSet
from resight.settings import LocalRules

from .test_evidence import Scripted, load
from .test_evidence import features as photo

COUNTS = [1] * GROUP + [1, 12] + [1] * 20  # points that match; the twelfth candidate is decisive from 3.0 on


class ByQuery(Scripted):
    """Of query 50 every candidate matches by one point only."""

    def match(self, query: int, candidates: Any, effort: Any) -> Any:
        counts = self.answers[effort]
        self.asked.append((effort, list(candidates)))
        return [self._matches(1 if query == 50 else counts[name]) for name in candidates]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> ByQuery:
    scripted = ByQuery((), COUNTS)
    from resight.matching.local.lightglue import WHOLE

    monkeypatch.setattr(scripted, "answers", {room.ADAPTIVE.whole: COUNTS, WHOLE: COUNTS})
    monkeypatch.setattr(room, "load_extractor", lambda *_, **__: SimpleNamespace())
    monkeypatch.setattr(room, "load_matcher", lambda *_, **__: scripted)
    return scripted


@pytest.fixture
def comparer(network: ByQuery, tmp_path: Path) -> LocalComparer:
    return LocalComparer(LocalRules(shortlist=30), tmp_path, {})


def known(*without: int) -> FeatureSet:
    keys = {str(name): str(name) for name in range(30) if name not in without}
    return cast("FeatureSet", SimpleNamespace(keys=keys, load=load))


def compared(evidence: Any) -> list[int]:
    return [place for place, one in enumerate(evidence) if one is not None]


NAMES = [str(name) for name in range(30)]


def test_the_whole_shortlist_is_compared_where_nothing_is_decisive(comparer: LocalComparer) -> None:
    (found,) = comparer.compare([photo(60)], NAMES, known(3))
    assert compared(found) == list(range(30))
    assert [one.count for one in found[:4] if one is not None] == [1, 1, 1, 0]  # the last has no keypoints


def test_the_search_ends_behind_the_group_of_a_decisive_candidate(comparer: LocalComparer, network: ByQuery) -> None:
    (found,) = comparer.compare([photo(60)], NAMES, known(0, 25), decisive=3.0)
    assert compared(found) == list(range(2 * GROUP))
    assert [names for _, names in network.asked] == [list(range(1, GROUP)), list(range(GROUP, 2 * GROUP))]
    (higher,) = comparer.compare([photo(60)], NAMES, known(), decisive=3.1)
    assert compared(higher) == list(range(30))


def test_what_may_not_end_the_search_does_not(comparer: LocalComparer) -> None:
    unnamed = [name != "11" for name in NAMES]
    (found,) = comparer.compare([photo(60)], NAMES, known(), decisive=3.0, may_end=unnamed)
    assert compared(found) == list(range(30))
    others = [name == "11" for name in NAMES]
    (ended,) = comparer.compare([photo(60)], NAMES, known(), decisive=3.0, may_end=others)
    assert compared(ended) == list(range(2 * GROUP))


def test_no_photo_goes_further_than_one_before_it_had_to(comparer: LocalComparer) -> None:
    first, second = comparer.compare([photo(60), photo(50)], NAMES, known(), decisive=3.0)
    assert compared(first) == compared(second) == list(range(2 * GROUP))
    blind, plain = comparer.compare([photo(50), photo(60)], NAMES, known(), decisive=3.0)
    assert (compared(blind), compared(plain)) == (list(range(30)), list(range(2 * GROUP)))
