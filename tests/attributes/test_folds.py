from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.attributes.folds import grouped_folds


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), min_size=4, max_size=60), st.integers(0, 3))
def test_no_group_is_on_both_sides_and_every_row_is_held_out_once(rows: list[tuple[int, int]], seed: int) -> None:
    truth, groups = (np.array(column) for column in zip(*rows, strict=True))
    folds = grouped_folds(truth, groups, 5, seed)
    assert (len(folds) < 2) == (len(np.unique(groups)) < 2 or np.bincount(truth).max() < 2)
    if not folds:
        return
    for fitted, held in folds:
        assert not set(groups[fitted]) & set(groups[held])
        assert sorted([*fitted, *held]) == list(range(len(truth)))
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(len(truth)))


def test_a_class_of_two_groups_is_among_those_fitted_in_every_fold() -> None:
    # Twenty groups of class 0, two of each of three others: thrown anyhow, some fold would hold both of a class.
    truth = np.array([0] * 100 + [1] * 10 + [2] * 10 + [3] * 10)
    groups = np.concatenate([np.repeat(np.arange(20), 5), 20 + np.repeat(np.arange(6), 5)])
    for seed in range(5):
        folds = grouped_folds(truth, groups, 5, seed)
        assert len(folds) == 5
        assert all(set(truth[fitted]) == {0, 1, 2, 3} for fitted, _ in folds)


def test_the_draw_follows_the_seed() -> None:
    truth, groups = np.arange(60) % 2, np.arange(60) // 3

    def drawn(seed: int) -> list[list[int]]:
        return [list(held) for _, held in grouped_folds(truth, groups, 5, seed)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
