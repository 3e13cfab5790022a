from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.calibration.evidence import PairFeatures, best_names, candidates_of, standing_out
from resight.errors import InputError

from .made_pairs import drawn_pairs


def test_by_hand():
    # One shortlist: name 7 twice, name 3 twice, an unnamed one.
    scores, name = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([7, 3, 7, -1, 3])
    out = standing_out(scores, np.zeros(5, np.int64), name)
    np.testing.assert_allclose(out.gap, [0.1, -0.1, 0.1, -0.3, -0.1])
    assert out.photos.tolist() == [2, 2, 2, 1, 2]
    best = best_names(scores, np.zeros(5, np.int64), name, 2)
    assert (best.name.tolist(), best.best.tolist()) == ([7, -1], [0.9, -np.inf])
    np.testing.assert_allclose(best.gap, [0.1, 0.0])


def test_a_name_without_rivals_stands_above_the_lowest_of_the_others():
    scores, query = np.array([0.9, 0.4, 0.3, 0.2]), np.array([4, 4, 4, 9])
    out = standing_out(scores, query, np.array([5, 5, -1, -1]))
    np.testing.assert_allclose(out.gap, [0.6, 0.6, -0.6, 0.0])
    np.testing.assert_allclose(standing_out(scores, query, np.array([5, 5, 5, 5])).gap, [0.6, 0.6, 0.5, 0.0])
    np.testing.assert_allclose(standing_out(scores, query, np.array([-1, -1, -1, -1])).gap, [0.6, 0.1, -0.1, 0.0])


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_agrees_with_a_loop(seed, n):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, n) / 4
    query, name = rng.integers(0, 4, n), rng.integers(-1, 4, n)
    out, best = standing_out(scores, query, name), best_names(scores, query, name, 5)
    for row in range(n):
        mine = [i for i in range(n) if query[i] == query[row]]
        own = [i for i in mine if i == row or (name[i] >= 0 and name[i] == name[row])]
        rivals = [scores[i] for i in mine if name[i] >= 0 and i not in own]
        lowest = min((scores[i] for i in mine if i != row), default=scores[row])
        expected = max(scores[i] for i in own) - (max(rivals) if rivals else lowest)
        assert (out.gap[row], out.photos[row]) == (expected, len(own))
    for one in range(5):
        named = [i for i in range(n) if query[i] == one and name[i] >= 0]
        if not named:
            assert (best.name[one], best.best[one], best.gap[one]) == (-1, -np.inf, 0)
            continue
        top = max(scores[i] for i in named)
        assert best.best[one] == top
        row = next(i for i in named if scores[i] == top)
        assert (best.name[one], best.gap[one]) == (name[row], out.gap[row])


@given(st.integers(0, 2**32), st.floats(0.01, 1.0))
def test_more_evidence_never_brings_a_name_down(seed, more):
    rng = np.random.default_rng(seed)
    scores, query, name = rng.random(20), rng.integers(0, 3, 20), rng.integers(-1, rng.integers(1, 5), 20)
    raised = scores.copy()
    raised[4] += more
    assert standing_out(raised, query, name).gap[4] >= standing_out(scores, query, name).gap[4]


def test_candidates_are_the_held_places_row_by_row():
    held = np.array([[True, True, False], [True, False, False]])
    cosine = np.array([[0.5, 0.25, -np.inf], [0.75, -np.inf, -np.inf]], dtype=np.float32)
    names = np.array([[1, -1, -1], [2, -1, -1]])
    local = {"local_inliers": np.array([[3, np.nan, 0], [0, 0, 0.0]])}
    found = candidates_of(cosine, names, held, local, query=np.array([50, 60]))
    assert found.features.names == ("cosine", "local_inliers")
    np.testing.assert_array_equal(found.features.values, [[0.5, 3], [0.25, np.nan], [0.75, 0]])
    assert (found.query.tolist(), found.name.tolist()) == ([50, 50, 60], [1, -1, 2])
    np.testing.assert_allclose(found.features.column("local_inliers"), [3, np.nan, 0])
    assert np.isnan(found.features.column("local_sum")).all()


@pytest.mark.parametrize(
    ("names", "values", "told"),
    [
        (("local_sum",), [[1.0]], "expected cosine"),
        (("cosine", "gap"), [[1.0, 1.0]], "expected cosine"),
        (("cosine",), [[np.nan]], "cosine of pair 0 is nan"),
        (("cosine", "local_sum"), [[0.1, 1.0], [0.1, -1.0]], "local_sum of pair 1 is -1.0"),
        (("cosine", "local_sum"), [[0.1, np.inf]], "at least 0"),
        (("cosine", "local_sum", "local_count"), [[0.1, np.nan, 2]], "pair 0 has some"),
        (("cosine",), [0.1], "got shape"),
    ],
)
def test_refuses_what_is_no_evidence(names, values, told):
    with pytest.raises(InputError, match=told):
        PairFeatures(names, np.array(values, dtype=float))


def test_refuses_arrays_that_do_not_fit():
    pairs = drawn_pairs(n_identity=3)
    for field, value, told in (
        ("same", pairs.same[:-1], "same must have one entry"),
        ("same", pairs.same.astype(int), "booleans"),
        ("identity", np.full(len(pairs), -1), "no known identity"),
        ("group_of", np.full(len(pairs), 1), "one of 1 groups"),
    ):
        with pytest.raises(InputError, match=told):
            replace(pairs, **{field: value})
    with pytest.raises(InputError, match="not finite"):
        standing_out(np.array([np.nan]), np.zeros(1, np.int64), np.zeros(1, np.int64))
    with pytest.raises(InputError, match="local evidence sum"):
        candidates_of(np.zeros((1, 1)), np.zeros((1, 1), int), np.ones((1, 1), bool), {"sum": np.zeros((1, 1))})
    with pytest.raises(InputError, match="as held is"):
        candidates_of(np.zeros((1, 2)), np.zeros((1, 1), int), np.ones((1, 1), bool))
