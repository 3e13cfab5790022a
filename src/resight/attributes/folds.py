"""Folds that keep a group whole and every class on the side that is fitted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

_TRIES = 20

Ints = NDArray[np.int64]


def grouped_folds(truth: Ints, groups: Ints, count: int, seed: int) -> list[tuple[Ints, Ints]]:
    """Split rows into folds by group, with the classes as even as the groups let them be.

    Where a class has few groups, all of them may fall into one fold, and what is fitted on the others has never seen
    it. Other draws are tried, and the one in which the fewest rows are of such a class is taken.

    Args:
        truth: (n,) class of each row, from 0.
        groups: (n,) group of each row.
        count: Folds; there are no more of them than groups, or than rows of the largest class.
        seed: Of the draw.

    Returns:
        A pair for each fold, rows fitted on and rows held out; every row is held out once. None where all rows are of
        one group, or of a class each.
    """
    folds = min(count, len(np.unique(groups)), int(np.bincount(truth).max()))
    if folds < 2:
        return []
    best: list[tuple[Ints, Ints]] = []
    fewest = len(truth) + 1
    for attempt in range(_TRIES):
        drawn = list(_draw(truth, groups, folds, seed * _TRIES + attempt))
        unseen = sum(int(np.isin(truth[held], truth[fitted], invert=True).sum()) for fitted, held in drawn)
        if unseen < fewest:
            best, fewest = drawn, unseen
        if unseen == 0:
            break
    return best


def _draw(truth: Ints, groups: Ints, folds: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of classes with fewer rows than folds, which the caller counts.
        warnings.simplefilter("ignore", UserWarning)
        for fitted, held in splitter.split(np.zeros((len(truth), 1), np.int8), truth, groups):
            if len(held) and len(fitted):
                yield fitted, held
