from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import InputError
from resight.metrics import (
    average_precision,
    bootstrap_interval,
    bootstrap_means,
    excluded,
    holm,
    macro_average,
    percentile_interval,
    rounded,
    sign_flip_p,
    summarise,
    top_k,
)
from resight.ranking import Ranking, rank_one_vs_all


def ranking_of(ranks: list[list[int]], n_compared: int = 30) -> Ranking:
    """A ranking in which query i's matches stand at ``ranks[i]``."""
    n = len(ranks)
    is_match = np.zeros((n, 20), dtype=bool)
    for i, mine in enumerate(ranks):
        is_match[i, [r - 1 for r in mine if r <= 20]] = True
    return Ranking(
        neighbours=np.tile(np.arange(20), (n, 1)),
        scores=np.tile(np.linspace(0.9, 0.1, 20, dtype=np.float32), (n, 1)),
        is_match=is_match,
        match_ranks=np.array([r for mine in ranks for r in mine], dtype=np.int64),
        match_offsets=np.cumsum([0] + [len(mine) for mine in ranks]),
        n_compared=np.full(n, n_compared),
        n_excluded=np.ones(n, dtype=np.int64),
    )


def test_by_hand():
    ranking = ranking_of([[1, 3], [2], [], [6, 25], [21]])
    assert top_k(ranking, 1).tolist() == [True, False, False, False, False]
    assert top_k(ranking, 5).tolist() == [True, True, False, False, False]
    assert top_k(ranking, 21).tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(average_precision(ranking), [(1 + 2 / 3) / 2, 1 / 2, 0, (1 / 6 + 2 / 25) / 2, 1 / 21])
    assert excluded(ranking).tolist() == [False, False, True, False, False]

    summary = summarise(ranking, np.array([0, 0, 1, 2, 3]), seen=np.array([True, True, True, False, False]))
    assert (summary.queries, summary.individuals, summary.excluded, summary.unknown) == (4, 3, 1, 0)
    assert (summary.top1, summary.top5, summary.top10, summary.top20) == (25.0, 50.0, 75.0, 75.0)
    assert summary.map == pytest.approx(100 * (5 / 6 + 1 / 2 + (1 / 6 + 2 / 25) / 2 + 1 / 21) / 4)
    assert summary.top1_excluded_as_misses == 20.0
    assert (summary.top1_seen, summary.top1_unseen) == (50.0, 0.0)
    assert (summary.queries_seen, summary.queries_unseen) == (2, 2)


@st.composite
def one_set(draw):
    n, n_label = draw(st.integers(1, 30)), draw(st.integers(0, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Integers from -2 to 2: many exact ties, and no two cosines closer than the tie otherwise.
    table = rng.integers(-2, 3, size=(n, 3)).astype(np.float32)
    table[(table == 0).all(axis=1)] = 1
    return table, rng.integers(-1, n_label + 1, n), rng.integers(-1, 7, n)


@settings(max_examples=150, deadline=None)
@given(one_set())
def test_agrees_with_loops(one):
    vectors, labels, groups = one
    n = len(vectors)
    hits = {1: [], 5: [], 10: [], 20: []}
    precisions, n_excluded = [], 0
    for i in range(n):
        if labels[i] < 0:
            continue
        items = []
        for j in range(n):
            if j != i and not (groups[i] >= 0 and groups[i] == groups[j]):
                a, b = vectors[i].astype(float), vectors[j].astype(float)
                items.append((-round(a @ b / np.sqrt((a @ a) * (b @ b)), 7), labels[j] == labels[i], j))
        items.sort()
        found = [match for _, match, _ in items]
        if not any(found):
            n_excluded += 1
            continue
        for k, list_of_hits in hits.items():
            list_of_hits.append(any(found[:k]))
        at = [place + 1 for place, match in enumerate(found) if match]
        precisions.append(sum((j + 1) / rank for j, rank in enumerate(at)) / len(at))

    summary = summarise(rank_one_vs_all(vectors, labels=labels, groups=groups), labels, draws=20)
    assert (summary.queries, summary.excluded) == (len(precisions), n_excluded)
    assert summary.unknown == int((labels < 0).sum())
    if not precisions:
        assert summary.top1 is None
        assert summary.map is None
        return
    assert summary.top1 == pytest.approx(100 * np.mean(hits[1]))
    assert summary.top5 == pytest.approx(100 * np.mean(hits[5]))
    assert summary.top10 == pytest.approx(100 * np.mean(hits[10]))
    assert summary.top20 == pytest.approx(100 * np.mean(hits[20]))
    assert summary.map == pytest.approx(100 * np.mean(precisions))
    assert summary.top1_excluded_as_misses == pytest.approx(100 * sum(hits[1]) / (len(precisions) + n_excluded))


@settings(max_examples=25, deadline=None)
@given(one_set())
def test_accuracy_never_falls_with_k(one):
    vectors, labels, groups = one
    ranking = rank_one_vs_all(vectors, labels=labels, groups=groups)
    for k in range(1, 25):
        assert (top_k(ranking, k) <= top_k(ranking, k + 1)).all()
        if k <= 20:
            np.testing.assert_array_equal(top_k(ranking, k), ranking.is_match[:, :k].any(axis=1))
    np.testing.assert_array_equal(top_k(ranking, len(vectors)), ~excluded(ranking))


def test_a_collapsed_model_scores_about_zero():
    vectors = np.ones((300, 32)) + np.random.default_rng(0).normal(size=(300, 32)) * 1e-4
    labels = np.arange(300) // 3
    summary = summarise(rank_one_vs_all(vectors, labels=labels), labels)
    assert (summary.top1, summary.top20) == (0.0, 0.0)
    assert summary.map is not None
    assert summary.map < 0.6


def test_the_interval_moves_all_queries_of_an_identity_together():
    # Ten identities of 40 queries, each all right or all wrong: as uncertain as ten queries, not as four hundred.
    values = np.repeat([100.0, 0.0] * 5, 40)
    identities = np.repeat(np.arange(10), 40)
    low, high = bootstrap_interval(values, identities)
    assert (low, high) == (20.0, 80.0)  # the 2.5 and 97.5 % quantiles of a binomial of 10 draws at 1/2
    alone_low, alone_high = bootstrap_interval(values, np.arange(400))
    assert alone_high - alone_low < 12


def test_the_interval_weighs_identities_by_their_queries():
    # Two identities, of 1 and 3 queries: the four draws give means 100, 25, 25, 0.
    values, identities = np.array([100.0, 0, 0, 0]), np.array([5, 9, 9, 9])
    assert bootstrap_interval(values, identities) == (0.0, 100.0)
    assert bootstrap_interval(values, identities, draws=1, seed=3)[0] in (0.0, 25.0, 100.0)


def test_the_interval_is_the_same_from_the_same_seed_and_in_any_order():
    rng = np.random.default_rng(0)
    values, identities = rng.integers(0, 2, 200) * 100.0, rng.integers(0, 30, 200)
    expected = bootstrap_interval(values, identities, seed=4)
    order = rng.permutation(200)
    assert bootstrap_interval(values[order], identities[order], seed=4) == expected
    assert bootstrap_interval(values, 1000 - identities, seed=4) == expected
    assert bootstrap_interval(values, identities, seed=5) != expected


def test_nothing_to_average_is_none_and_json_has_no_nan():
    nothing = summarise(ranking_of([[], []]), np.array([3, 4]), seen=np.array([True, False]))
    assert (nothing.queries, nothing.excluded, nothing.individuals) == (0, 2, 0)
    assert (nothing.top1, nothing.map, nothing.top1_ci95, nothing.top1_seen) == (None,) * 4
    assert nothing.top1_excluded_as_misses == 0.0
    json.dumps([asdict(nothing), asdict(macro_average([nothing])), asdict(macro_average([]))], allow_nan=False)
    unknown = summarise(ranking_of([[], []]), np.array([-1, -1]))
    assert (unknown.unknown, unknown.excluded, unknown.top1_excluded_as_misses) == (2, 0, None)
    one = summarise(ranking_of([[1], [2]]), np.array([0, 0]))
    assert (one.top1, one.top1_ci95) == (50.0, None)


def test_macro_counts_every_species_once():
    large = summarise(ranking_of([[1]] * 8 + [[2]] * 2), np.arange(10))
    small = summarise(ranking_of([[2], [3]]), np.arange(2))
    none = summarise(ranking_of([[]]), np.arange(1))
    macro = macro_average([large, small, none])
    assert (macro.species, macro.without_queries) == (2, 1)
    assert (macro.top1, macro.top5) == (40.0, 100.0)
    assert macro.top1_excluded_as_misses == pytest.approx((80 + 0 + 0) / 3)
    assert macro.top1_seen is None
    assert macro_average([replace(large, top1_seen=60.0), small]).top1_seen == 60.0


def test_input_that_does_not_fit_is_refused():
    ranking = ranking_of([[1], [2]])
    with pytest.raises(InputError, match="labels must be 2 codes"):
        summarise(ranking, np.array([0]))
    with pytest.raises(InputError, match="seen must be 2 booleans"):
        summarise(ranking, np.array([0, 1]), seen=np.array([True]))
    with pytest.raises(InputError, match="k of at least 1, got 0"):
        top_k(ranking, 0)
    with pytest.raises(InputError, match="at least 1 draw"):
        bootstrap_interval(np.zeros(2), np.arange(2), draws=0)
    with pytest.raises(InputError, match="at least 1 draw"):
        bootstrap_means(np.zeros((2, 1)), np.arange(2), draws=0)
    with pytest.raises(InputError, match="at least 1 draw"):
        sign_flip_p(np.zeros(2), np.arange(2), draws=0)


def test_resampled_means_have_the_interval_of_the_bootstrap_and_move_figures_together():
    # Twelve identities of one query, half of them 100: binomial, the 2.5 and 97.5 % quantiles are 3 and 9 of 12.
    values, identities = np.array([100.0, 0.0] * 6), np.arange(12)
    means = bootstrap_means(np.stack([values, -values, 100 - values], axis=1), identities)
    assert means.shape == (2000, 3)
    assert percentile_interval(means[:, 0]) == (25.0, 75.0)
    np.testing.assert_array_equal(means[:, 1], -means[:, 0])
    np.testing.assert_allclose(means[:, 2], 100 - means[:, 0])
    alone = bootstrap_means(values[:, None], identities)
    np.testing.assert_array_equal(alone[:, 0], means[:, 0])
    assert (bootstrap_means(values[:, None], identities, seed=[1, 2]) != alone).any()
    # An identity of one query and one of three: the means of the four draws.
    few = bootstrap_means(np.array([[100.0], [0], [0], [0]]), np.array([5, 9, 9, 9]))
    assert set(few[:, 0]) == {100.0, 25.0, 0.0}
    np.testing.assert_array_equal(bootstrap_means(np.array([[4.0], [6]]), np.array([3, 3]), draws=5), [[5.0]] * 5)


def test_resampled_means_do_not_depend_on_the_order_of_the_queries():
    rng = np.random.default_rng(0)
    values, identities = rng.integers(-1, 2, (200, 2)) * 100.0, rng.integers(0, 30, 200)
    order = rng.permutation(200)
    np.testing.assert_array_equal(
        bootstrap_means(values[order], identities[order]), bootstrap_means(values, identities)
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_p_value_is_that_of_all_ways_of_turning_identities_over(queries):
    differences, identities = np.array([float(d) for d, _ in queries]), np.array([i for _, i in queries])
    sums = [differences[identities == i].sum() for i in np.unique(identities)]
    turns = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=len(sums))]
    exact = np.mean([turned >= abs(sum(sums)) for turned in turns])
    assert sign_flip_p(differences, identities) == pytest.approx(exact, abs=0.02)
    assert sign_flip_p(-differences, identities) == sign_flip_p(differences, identities)


def test_the_p_value_by_hand():
    assert sign_flip_p(np.full(6, -100.0), np.arange(6)) == pytest.approx(2 / 64, abs=0.006)
    assert sign_flip_p(np.full(6, -100.0), np.zeros(6, int)) == 1.0  # one identity tells nothing
    assert sign_flip_p(np.zeros(6), np.arange(6)) == 1.0
    assert sign_flip_p(np.full(40, 0.1), np.arange(40)) == 1 / 10_000


def test_holm_by_hand():
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_reports_show_two_decimals_and_no_negative_zero():
    assert json.dumps(rounded({"a": -0.001, "b": (1.005, -2.349), "c": None, "d": 3})) == (
        '{"a": 0.0, "b": [1.0, -2.35], "c": null, "d": 3}'
    )
