"""How long a shortlist is and when the search along it ends, by hand and against naive loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.calibration.stopping import (
    GROUP,
    LEAST_INDIVIDUALS,
    LEAST_QUERIES,
    SHORTEST,
    find_stop,
    length_for,
    looked_at,
    require_recall,
)
from resight.errors import InputError


def found_at(*places: int, depth: int = 30) -> Any:
    """One query a place, from 1, at which its animal is first found; 0 is nowhere."""
    same = np.zeros((len(places), depth), np.bool_)
    for row, place in enumerate(places):
        same[row, place - 1 :: 7] = place > 0
    return same


def galleries(n: int) -> Any:
    return np.full(n, 99)


def test_a_shortlist_is_as_long_as_the_recall_needs() -> None:
    same = found_at(1, 2, 6, 6, 7, 9, 12, 20, 25, 0)
    lengths = {wanted: length_for(same, galleries(10), wanted=wanted, longest=20) for wanted in (0.3, 0.6, 0.7, 0.8)}
    assert {wanted: (one.candidates, one.reached) for wanted, one in lengths.items()} == {
        0.3: (6, 0.4), 0.6: (9, 0.6), 0.7: (12, 0.7), 0.8: (20, 0.8),
    }  # fmt: skip
    assert not any(one.falls_short for one in lengths.values())
    assert (lengths[0.3].queries, lengths[0.3].gallery) == (10, 99)


def test_where_even_the_longest_reaches_less_it_says_so() -> None:
    short = length_for(found_at(1, 2, 0, 25), galleries(4), wanted=0.9, longest=20)
    assert (short.candidates, short.reached, short.falls_short) == (20, 0.5, True)
    unasked = length_for(found_at(1, 2, 0, 25), galleries(4), wanted=None, longest=20)
    assert (unasked.candidates, unasked.reached, unasked.falls_short) == (20, 0.5, False)
    nobody = length_for(found_at(), galleries(0), wanted=0.9, longest=20)
    assert (nobody.candidates, nobody.reached, nobody.queries) == (20, None, 0)


def test_a_shortlist_keeps_other_names_and_never_grows_past_the_longest() -> None:
    assert length_for(found_at(1, 1, 1), galleries(3), wanted=1.0, longest=20).candidates == SHORTEST
    assert length_for(found_at(1, 1, 1), galleries(3), wanted=1.0, longest=2).candidates == 2
    shallow = length_for(found_at(1, 3, depth=4), galleries(2), wanted=1.0, longest=20)
    assert shallow.reached == 1.0  # galleries smaller than the shortlist


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 100), st.integers(1, 30))
def test_lengths_agree_with_counting(places: list[int], percent: int, longest: int) -> None:
    wanted = percent / 100
    found = length_for(found_at(*places), galleries(len(places)), wanted=wanted, longest=longest)
    enough = math.ceil(percent * len(places) / 100)

    def held(k: int) -> int:
        return sum(0 < place <= k for place in places)

    expected = next((k for k in range(min(SHORTEST, longest), longest + 1) if held(k) >= enough), longest)
    assert found.candidates == expected
    assert found.reached == pytest.approx(held(expected) / len(places))
    assert found.falls_short == (held(expected) < enough)


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.01, 90.0, math.nan])
def test_what_is_no_share_is_refused(wrong: float) -> None:
    with pytest.raises(InputError, match="expected a share above 0 and at most 1"):
        require_recall(wrong)


def naive_looked_at(sums: Any, held: Any, decisive: Any) -> Any:
    looked = np.zeros_like(held)
    for query in range(len(sums)):
        for start in range(0, sums.shape[1], GROUP):
            group = range(start, min(start + GROUP, sums.shape[1]))
            for place in group:
                looked[query, place] = held[query, place]
            if any(held[query, place] and sums[query, place] >= decisive[query] for place in group):
                break
    return looked


@given(st.integers(0, 10_000), st.integers(1, 35))
def test_what_is_looked_at_agrees_with_going_group_by_group(seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    sums = rng.choice([0.0, 1.0, 4.0, 5.0, np.nan], p=[0.5, 0.3, 0.05, 0.05, 0.1], size=(6, depth))
    held = np.arange(depth) < rng.integers(0, depth + 1, size=(6, 1))
    decisive = rng.choice([4.0, 5.0, np.inf], size=6)
    looked = looked_at(sums, held, decisive)
    np.testing.assert_array_equal(looked, naive_looked_at(sums, held, decisive))
    assert (looked == held)[~np.isfinite(decisive)].all()


def herd_of_sums(wrong_at: dict[int, float], *, queries: int = 200, depth: int = 20) -> tuple[Any, Any, Any, Any]:
    """Queries whose right candidate comes first with sums of 1000, 999, 998 …, and a wrong one behind, or before it."""
    sums, same = np.ones((queries, depth)), np.zeros((queries, depth), np.bool_)
    sums[:, 0] = 1000 - np.arange(queries)
    same[:, 0] = True
    for row, value in wrong_at.items():
        sums[row, 3] = value
    return sums, same, np.ones_like(same), np.arange(queries) // 2


def test_the_stop_is_the_lowest_sum_that_is_right_99_times_of_100() -> None:
    stop = find_stop(*herd_of_sums({120: 1000 - 120 + 0.5, 150: 1000 - 150, 151: 900}))
    # The wrong candidate of query 151 stands beside the right one of query 100: 1 wrong of 102 there. That of query 120
    # is the second, of 122. All 200 queries would bear both, but for the third.
    assert stop is not None
    assert (stop.decisive, stop.queries) == (1000 - 119, 121)
    assert stop.right == pytest.approx(120 / 121)
    assert stop.saved == pytest.approx(121 * 10 / (200 * 20))  # all but the first of two groups
    assert stop.individuals == 61  # queries 0 to 119, and 151


def test_equal_sums_count_together_and_of_two_best_the_wrong_one() -> None:
    sums, same, held, identity = herd_of_sums({})
    sums[:, 0] = np.where(np.arange(200) < 60, 9.0, 5.0)
    sums[60:63, 3] = 5.0  # as high as the right one: 3 wrong of all 200, which 1 in 100 does not allow
    stop = find_stop(sums, same, held, identity)
    assert stop is not None
    assert (stop.decisive, stop.queries, stop.right) == (9.0, 60, 1.0)


def test_too_little_to_rest_on_gives_no_stop() -> None:
    few = [array[: LEAST_QUERIES - 1] for array in herd_of_sums({})]
    assert find_stop(*few) is None
    enough = [array[:LEAST_QUERIES] for array in herd_of_sums({})]
    assert find_stop(*enough) is not None
    sums, same, held, identity = enough
    assert find_stop(sums, same, held, identity % (LEAST_INDIVIDUALS - 1)) is None
    assert find_stop(sums, ~same, held, identity) is None  # always wrong
    assert find_stop(np.zeros_like(sums), same, held, identity) is None
    assert find_stop(sums * np.nan, same, held, identity) is None
    assert find_stop(sums[:, :GROUP], same[:, :GROUP], held[:, :GROUP], identity) is None  # one group: nothing to save
    nothing = np.zeros((0, 20), np.bool_)
    assert find_stop(nothing.astype(float), nothing, nothing, np.zeros(0, np.int64)) is None


def test_queries_whose_animal_is_not_there_count_as_wrong() -> None:
    sums, same, held, identity = herd_of_sums({})
    same[:5, 0] = False  # the strongest evidence of all, for another animal
    stop = find_stop(sums, same, held, identity)
    assert stop is None  # 195 of 200 at best


def test_a_wrong_candidate_that_would_end_the_search_first_counts() -> None:
    sums, same, held, identity = herd_of_sums({})
    sums[:, 0] = 35.0
    sums[:3, 0], same[:3, 0] = 40.0, False  # of another animal, and decisive where 35 is
    sums[:3, GROUP + 5], same[:3, GROUP + 5] = 45.0, True  # never compared then
    assert find_stop(sums, same, held, identity) is None  # 3 of 200
    sums[:3, 0] = 34.0  # the search goes on past it
    stop = find_stop(sums, same, held, identity)
    assert stop is not None
    assert (stop.decisive, stop.right) == (35.0, 1.0)
