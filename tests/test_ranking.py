from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import InputError
from resight.ranking import TIE, Ranking, rank, rank_one_vs_all, unit_rows


def naive(query, gallery, query_labels, gallery_labels, query_groups, gallery_groups, self_index):
    """Per query, its list of (cosine, is a match) in order, and how many rows were left out."""
    lists, excluded = [], []
    for i in range(len(query)):
        items = []
        left_out = 0
        for j in range(len(gallery)):
            same_group = query_groups[i] >= 0 and query_groups[i] == gallery_groups[j]
            if same_group or self_index[i] == j:
                left_out += 1
                continue
            match = query_labels[i] >= 0 and query_labels[i] == gallery_labels[j]
            items.append((exact_cosine(query[i].tolist(), gallery[j].tolist()), bool(match)))
        items.sort(key=lambda item: (-item[0], item[1]))
        lists.append(items)
        excluded.append(left_out)
    return lists, excluded


def exact_cosine(a, b):
    """Of small integers: such cosines differ by far more than 1e-7 or not at all, so only true ties are left."""
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return round(product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b)), 7)


def assert_agrees(ranking, sets, k):
    lists, excluded = naive(**sets)
    for i, expected in enumerate(lists):
        width = min(k, len(expected))
        rows = ranking.neighbours[i]
        assert (rows[width:] == -1).all()
        assert len(set(rows[:width].tolist())) == width
        # Rows whose cosines are truly equal may differ in the last bit and stand in any order, so no row is asked for.
        found = [
            (exact_cosine(sets["query"][i].tolist(), sets["gallery"][row].tolist()), bool(match))
            for row, match in zip(rows[:width], ranking.is_match[i], strict=False)
        ]
        assert found == expected[:width]
        for row, match in zip(rows[:width], ranking.is_match[i], strict=False):
            own = sets["query_labels"][i]
            assert match == (own >= 0 and sets["gallery_labels"][row] == own)
            assert sets["query_groups"][i] < 0 or sets["gallery_groups"][row] != sets["query_groups"][i]
            assert row != sets["self_index"][i]
        np.testing.assert_allclose(ranking.scores[i, :width], [cosine for cosine, _ in expected[:width]], atol=1e-6)
        ranks = [place + 1 for place, (_, match) in enumerate(expected) if match]
        assert ranking.match_ranks[ranking.match_offsets[i] : ranking.match_offsets[i + 1]].tolist() == ranks
    assert ranking.n_excluded.tolist() == excluded
    assert ranking.n_compared.tolist() == [len(expected) for expected in lists]


def small_vectors(rng, n):
    # Integers from -2 to 2 in three dimensions: many exact ties, and no two cosines closer than TIE otherwise.
    table = rng.integers(-2, 3, size=(n, 3)).astype(np.float32)
    table[(table == 0).all(axis=1)] = 1
    return table


@st.composite
def two_sets(draw):
    n_query, n_gallery, n_label = draw(st.integers(1, 12)), draw(st.integers(1, 25)), draw(st.integers(0, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {
        "query": small_vectors(rng, n_query),
        "gallery": small_vectors(rng, n_gallery),
        "query_labels": rng.integers(-1, n_label + 1, n_query),
        "gallery_labels": rng.integers(-1, n_label + 1, n_gallery),
        "query_groups": rng.integers(-1, 5, n_query),
        "gallery_groups": rng.integers(-1, 5, n_gallery),
        "self_index": rng.integers(-1, n_gallery, n_query),
    }


@settings(max_examples=200, deadline=None)
@given(two_sets(), st.integers(1, 30), st.sampled_from([1, 3, 7, 64]))
def test_agrees_with_a_triple_loop(sets, k, block_rows):
    ranking = rank(**sets, k=k, block_rows=block_rows)
    assert_agrees(ranking, sets, k)


@st.composite
def one_set(draw):
    n, n_label = draw(st.integers(1, 30)), draw(st.integers(0, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return small_vectors(rng, n), rng.integers(-1, n_label + 1, n), rng.integers(-1, 7, n)


@settings(max_examples=150, deadline=None)
@given(one_set(), st.integers(1, 12), st.sampled_from([1, 4, 9, 64]))
def test_one_vs_all_uses_half_of_the_tiles_and_agrees_with_a_triple_loop(one, k, block_rows):
    vectors, labels, groups = one
    ranking = rank_one_vs_all(vectors, labels=labels, groups=groups, k=k, block_rows=block_rows)
    sets = {
        "query": vectors,
        "gallery": vectors,
        "query_labels": labels,
        "gallery_labels": labels,
        "query_groups": groups,
        "gallery_groups": groups,
        "self_index": np.arange(len(vectors)),
    }
    assert_agrees(ranking, sets, k)


def test_among_equals_the_lower_row_comes_first():
    gallery = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    ranking = rank(gallery[:1], gallery, query_labels=np.array([0]), gallery_labels=np.array([1, 0, 1, 0, 0]), k=5)
    assert ranking.neighbours.tolist() == [[0, 3, 2, 1, 4]]


def test_by_hand():
    # Cosines to the query along x: 1.0, 0.8, 0.6, 0.0, -1.0; row 1 shares the query's encounter.
    gallery = np.array([[2, 0], [4, 3], [3, 4], [0, 1], [-1, 0]], dtype=np.float64)
    ranking = rank(
        np.array([[5.0, 0.0]]),
        gallery,
        query_labels=np.array([7]),
        gallery_labels=np.array([1, 7, 7, 2, 7]),
        query_groups=np.array([3]),
        gallery_groups=np.array([-1, 3, 4, 5, -1]),
        k=5,
    )
    assert ranking.neighbours.tolist() == [[0, 2, 3, 4, -1]]
    np.testing.assert_allclose(ranking.scores[0], [1.0, 0.6, 0.0, -1.0, -np.inf], atol=2e-7)
    assert ranking.is_match.tolist() == [[False, True, False, True, False]]
    assert ranking.match_ranks.tolist() == [2, 4]
    assert ranking.match_offsets.tolist() == [0, 2]
    assert (ranking.n_compared.tolist(), ranking.n_excluded.tolist()) == ([4], [1])
    assert (ranking.n_possible.tolist(), ranking.first_match_rank.tolist()) == ([2], [2])


@pytest.mark.parametrize(("lead", "first"), [(0.4, False), (3.0, True)])
def test_a_match_must_lead_by_more_than_the_tie(lead, first):
    match = np.float64(0.5) + lead * float(TIE)
    gallery = np.array([[match, np.sqrt(1 - match**2)], [0.5, np.sqrt(0.75)]])
    ranking = rank(np.array([[1.0, 0.0]]), gallery, query_labels=np.array([0]), gallery_labels=np.array([0, 1]), k=2)
    assert ranking.is_match[0, 0] == first
    assert ranking.match_ranks.tolist() == [1 if first else 2]


@pytest.mark.parametrize("n_matches", [1, 60])
def test_exactly_at_the_tie_the_non_match_comes_first(n_matches):
    # Matches at a cosine of 0 and one non-match at -TIE, both without rounding; few and many matches are counted by
    # different code.
    gallery = np.array([[0.0, 1.0]] * n_matches + [[-TIE, 1.0]], dtype=np.float32)
    labels = np.array([0] * n_matches + [1])
    ranking = rank(np.array([[1.0, 0.0]]), gallery, query_labels=np.array([0]), gallery_labels=labels, k=3)
    assert ranking.neighbours[0, 0] == n_matches
    assert ranking.match_ranks.tolist() == list(range(2, n_matches + 2))


def test_a_collapsed_model_finds_nothing():
    rng = np.random.default_rng(0)
    vectors = np.ones((60, 64)) + rng.normal(size=(60, 64)) * 1e-4  # cosines differ by about 1e-8
    ranking = rank_one_vs_all(vectors.astype(np.float16), labels=np.arange(60) // 3, k=20)
    assert not ranking.is_match.any()
    assert ranking.first_match_rank.min() == 58  # after all 57 non-matches


@settings(max_examples=30, deadline=None)
@given(one_set(), st.randoms(use_true_random=False))
def test_the_order_of_the_gallery_does_not_matter(one, random):
    vectors, labels, groups = one
    order = np.array(random.sample(range(len(vectors)), len(vectors)))
    given_order = rank_one_vs_all(vectors, labels=labels, groups=groups, block_rows=8)
    mixed = rank_one_vs_all(vectors[order], labels=labels[order], groups=groups[order], block_rows=8)
    np.testing.assert_array_equal(mixed.is_match, given_order.is_match[order])
    np.testing.assert_array_equal(mixed.first_match_rank, given_order.first_match_rank[order])
    np.testing.assert_allclose(mixed.scores, given_order.scores[order], atol=3e-6)


def test_many_matches_and_many_tiles_agree_with_sorting():
    # One identity with more matches than are compared singly, beside small ones, in real-valued vectors.
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(400, 16)).astype(np.float32)
    labels = np.concatenate([np.zeros(120, dtype=np.int64), 1 + np.arange(280) // 4])
    ranking = rank_one_vs_all(vectors, labels=labels, block_rows=96)
    unit = unit_rows(vectors)
    standing = unit @ unit.T
    np.fill_diagonal(standing, -np.inf)
    standing[labels[:, None] == labels] -= TIE
    order = np.argsort(-standing, axis=1)[:, :-1]
    np.testing.assert_array_equal(ranking.neighbours, order[:, :20])
    match = labels[order] == labels[:, None]
    np.testing.assert_array_equal(ranking.match_ranks, np.nonzero(match)[1] + 1)


def test_float16_from_disk_and_large_entries():
    rng = np.random.default_rng(1)
    half = (rng.normal(size=(50, 32)) * 20_000).clip(-60_000, 60_000).astype(np.float16)
    labels = np.arange(50) // 5
    from_half = rank_one_vs_all(half, labels=labels)
    from_double = rank_one_vs_all(half.astype(np.float64) * 1e200, labels=labels)
    np.testing.assert_array_equal(from_half.neighbours, from_double.neighbours)
    np.testing.assert_array_equal(from_half.match_ranks, from_double.match_ranks)


def test_everything_left_out_and_nothing_at_all():
    vectors = np.eye(3)
    ranking = rank_one_vs_all(vectors, labels=np.zeros(3, np.int64), groups=np.zeros(3, np.int64), k=4)
    assert (ranking.neighbours == -1).all()
    assert ranking.n_excluded.tolist() == [3, 3, 3]
    empty = rank_one_vs_all(np.empty((0, 8)), labels=np.empty(0, np.int64))
    assert empty.neighbours.shape == (0, 20)


@pytest.mark.parametrize(
    ("value", "says"), [(0.0, "row 2 of gallery is zero"), (np.nan, "row 2 of gallery holds NaN"), (np.inf, "row 2")]
)
def test_a_vector_without_direction_is_named(value, says):
    vectors = np.ones((4, 3), dtype=np.float32)
    vectors[2] = value
    with pytest.raises(InputError, match=says):
        rank_one_vs_all(vectors, labels=np.zeros(4, np.int64))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"k": 0}, "k and block_rows"),
        ({"gallery": np.ones((2, 4))}, "3 dimensions and the gallery 4"),
        ({"gallery": np.ones((2, 3), dtype=np.int64)}, "array of floats"),
        ({"query_labels": np.array([0, 1])}, "query_labels must be 1 integer codes"),
        ({"gallery_labels": np.array([0.0, 1.0])}, "gallery_labels must be 2 integer codes"),
        ({"gallery_groups": np.array([0, -2])}, "gallery_groups must be -1 or above, got -2 in row 1"),
        ({"self_index": np.array([2])}, "self_index names row 2 of a gallery of 2 rows"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, says):
    arguments = {
        "query": np.ones((1, 3)),
        "gallery": np.ones((2, 3)),
        "query_labels": np.array([0]),
        "gallery_labels": np.array([0, 1]),
    }
    with pytest.raises(InputError, match=says):
        rank(**(arguments | change))


def good() -> Ranking:
    return Ranking(
        neighbours=np.array([[4, 2, -1], [0, 1, 3]]),
        scores=np.array([[0.9, 0.5, -np.inf], [0.3, 0.2, 0.1]], dtype=np.float32),
        is_match=np.array([[True, False, False], [False, False, True]]),
        match_ranks=np.array([1, 3, 4]),
        match_offsets=np.array([0, 1, 3]),
        n_compared=np.array([2, 4]),
        n_excluded=np.array([3, 1]),
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scores": np.zeros((2, 2), np.float32)}, "one shape"),
        ({"match_offsets": np.array([0, 3])}, "needs 3 offsets"),
        ({"match_offsets": np.array([0, 1, 2])}, "offsets must run"),
        ({"match_offsets": np.array([0, 3, 3])}, "more possible matches"),
        ({"neighbours": np.array([[-1, 2, 4], [0, 1, 3]])}, "at the end"),
        ({"n_compared": np.array([3, 4])}, "min"),
        ({"scores": np.array([[0.4, 0.5, -np.inf], [0.3, 0.2, 0.1]], np.float32)}, "falling order"),
        ({"match_ranks": np.array([1, 3, 5])}, "between 1 and"),
        ({"match_ranks": np.array([1, 3, 3])}, "ascending"),
    ],
)
def test_a_ranking_checks_itself(change, says):
    assert good().n_possible.tolist() == [1, 2]
    with pytest.raises(InputError, match=says):
        replace(good(), **change)
