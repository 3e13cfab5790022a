from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.errors import InputError
from resight.metrics import average_precision, top_k
from resight.ranking import TIE, Ranking, rank_one_vs_all
from resight.reranking import rerank


def small_ranking() -> Ranking:
    """One query, five of eight rows kept; its matches stand at ranks 2, 4 and 7."""
    return Ranking(
        neighbours=np.array([[10, 11, 12, 13, 14]]),
        scores=np.array([[0.9, 0.8, 0.7, 0.6, 0.5]], dtype=np.float32),
        is_match=np.array([[False, True, False, True, False]]),
        match_ranks=np.array([2, 4, 7]),
        match_offsets=np.array([0, 3]),
        n_compared=np.array([8]),
        n_excluded=np.array([1]),
    )


def test_by_hand():
    old = small_ranking()
    new = rerank(old, np.array([[0.1, 0.2, 0.0, 0.9]]))
    assert new.neighbours.tolist() == [[13, 11, 10, 12, 14]]
    assert new.is_match.tolist() == [[True, True, False, False, False]]
    assert new.match_ranks.tolist() == [1, 2, 7]
    np.testing.assert_allclose(new.scores[0, :4], [0.9, 0.2, 0.1, 0.0], atol=1e-7)
    assert new.scores[0, 4] == pytest.approx(0.0, abs=1e-6)  # 0.5 would stand above the last of the shortlist
    assert (new.match_offsets.tolist(), new.n_compared.tolist(), new.n_excluded.tolist()) == ([0, 3], [8], [1])
    assert top_k(new, 1).tolist() == [True]
    assert top_k(old, 1).tolist() == [False]


def test_scores_behind_the_shortlist_stay_where_they_do_not_stand_above_it():
    new = rerank(small_ranking(), np.array([[3.0, 4.0]]))
    assert new.neighbours.tolist() == [[11, 10, 12, 13, 14]]
    np.testing.assert_array_equal(new.scores[0, 2:], small_ranking().scores[0, 2:])


def test_evidence_that_tells_nothing_does_not_favour_matches():
    new = rerank(small_ranking(), np.full((1, 5), 7.0))
    assert new.is_match.tolist() == [[False, False, False, True, True]]
    assert new.neighbours.tolist() == [[10, 12, 14, 11, 13]]
    assert new.match_ranks.tolist() == [4, 5, 7]
    closer_than_a_tie = np.array([[0.0, float(TIE) / 2, 0.0, float(TIE) * 2, 0.0]])
    assert rerank(small_ranking(), closer_than_a_tie).neighbours.tolist() == [[13, 10, 12, 14, 11]]


def naive(ranking: Ranking, scores: np.ndarray) -> list[tuple[list[int], list[int]]]:
    """Neighbours and match ranks of every query, with Python's own sort."""
    width, found = scores.shape[1], []
    for query in range(len(ranking.neighbours)):
        rows = [p for p in range(width) if ranking.neighbours[query, p] >= 0]
        match = ranking.is_match[query]

        def key(place, query=query, match=match):
            score = np.float32(scores[query, place])
            return (-(score - TIE) if match[place] else -score, bool(match[place]), place)

        order = sorted(rows, key=key)
        everything = order + [p for p in range(ranking.neighbours.shape[1]) if p not in order]
        mine = ranking.match_ranks[ranking.match_offsets[query] : ranking.match_offsets[query + 1]]
        ranks = [place + 1 for place, old in enumerate(order) if match[old]] + [int(r) for r in mine if r > width]
        found.append(([int(ranking.neighbours[query, p]) for p in everything], ranks))
    return found


@st.composite
def one_set(draw):
    n, k = draw(st.integers(2, 25)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    table = rng.integers(-2, 3, size=(n, 3)).astype(np.float32)
    table[(table == 0).all(axis=1)] = 1
    ranking = rank_one_vs_all(table, labels=rng.integers(-1, 5, n), groups=rng.integers(-1, 6, n), k=k)
    # Many ties, near ties, and scores so large that a float32 is coarser than TIE.
    scale = draw(st.sampled_from([0.01, 1.0, 37.0, 3e4]))
    scores = rng.integers(-3, 4, size=(n, draw(st.integers(1, k)))) * scale
    return ranking, scores + rng.integers(0, 3, size=scores.shape) * float(TIE) / 2


@given(one_set())
def test_agrees_with_a_loop(one):
    ranking, scores = one
    new = rerank(ranking, scores)  # a ranking that is out of order is refused when it is built
    for query, (neighbours, ranks) in enumerate(naive(ranking, scores)):
        assert new.neighbours[query].tolist() == neighbours
        assert new.match_ranks[new.match_offsets[query] : new.match_offsets[query + 1]].tolist() == ranks
    assert new.is_match.sum() == ranking.is_match.sum()
    assert (average_precision(new) <= 1).all()


def test_what_stands_behind_a_shortlist_of_low_scores_stays_in_order():
    rng = np.random.default_rng(0)
    ranking = rank_one_vs_all(rng.standard_normal((400, 4)).astype(np.float32), labels=rng.integers(0, 40, 400), k=12)
    scores = (rng.standard_normal((400, 5)) * 37 - 50).astype(np.float32)
    new = rerank(ranking, scores)  # far from 0 a rounding is larger than what a ranking forgives
    np.testing.assert_array_equal(new.neighbours[:, 5:], ranking.neighbours[:, 5:])
    assert (new.scores[:, 5] <= new.scores[:, 4] + 1e-5).all()


@given(one_set())
def test_old_scores_change_nothing(one):
    ranking, _ = one
    same = rerank(ranking, ranking.scores)
    np.testing.assert_array_equal(same.neighbours, ranking.neighbours)
    np.testing.assert_array_equal(same.match_ranks, ranking.match_ranks)


def test_empty_and_short_rows():
    table = np.eye(3, dtype=np.float32)
    ranking = rank_one_vs_all(table, labels=np.array([0, 0, 1]), k=5)
    scores = np.full((3, 4), np.nan)
    scores[:, :2] = [[0, 1], [0, 1], [0, 1]]
    new = rerank(ranking, scores)
    assert (new.neighbours[:, 2:] == -1).all()
    assert np.isneginf(new.scores[:, 2:]).all()


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (np.zeros((2, 3)), "got shape"),
        (np.zeros((1, 6)), "1 to 5"),
        (np.zeros(5), "got shape"),
        (np.array([[0.0, np.nan, 0.0]]), "query 0, neighbour 1"),
        (np.array([[0.0, np.inf, 0.0]]), "finite"),
    ],
)
def test_refuses_scores_that_do_not_fit(scores, told):
    with pytest.raises(InputError, match=told):
        rerank(small_ranking(), scores)


def test_refuses_a_ranking_whose_ranks_are_not_its_neighbours():
    with pytest.raises(InputError, match="match ranks up to 4"):
        rerank(replace(small_ranking(), match_ranks=np.array([3, 4, 7])), np.zeros((1, 4)))
