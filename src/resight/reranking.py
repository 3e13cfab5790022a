"""A ranking whose shortlist is put in the order of better evidence; still a valid ``Ranking``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import InputError
from resight.ranking import TIE, Ints, Ranking


def rerank(ranking: Ranking, scores: NDArray[np.floating[Any]]) -> Ranking:
    """Reorder the first neighbours of every query by new scores, the highest first.

    The order is that of ``resight.ranking``: by standing, which is a match's score less ``TIE``; between equal
    standings a non-match comes before a match, and then what stood first before. So evidence that cannot tell two
    pairs apart never favours the match. Scores are compared as float32: give logits, since probabilities crowd at 1.

    Neighbours behind the shortlist keep their places. Their scores are cosines still, all of a query's lowered by one
    and the same amount where they would otherwise stand above its shortlist, so that the scores go on falling.

    Args:
        ranking: With at least as many neighbours as ``scores`` has columns.
        scores: (n_query, shortlist), of the neighbours in their old order; where no neighbour is held, anything.

    Returns:
        The ranking with ``neighbours``, ``scores``, ``is_match`` and ``match_ranks`` in the new order. Matches outside
        the shortlist keep their ranks.

    Raises:
        InputError: scores of another shape, a score of a neighbour that is not finite, or a ranking whose match ranks
            are not those of its neighbours.
    """
    n_query, kept = ranking.neighbours.shape
    if scores.ndim != 2 or len(scores) != n_query or not 1 <= scores.shape[1] <= kept:
        raise InputError(
            f"new scores must be ({n_query}, 1 to {kept}), one a neighbour of the shortlist, got shape {scores.shape}"
        )
    width = scores.shape[1]
    held = ranking.neighbours[:, :width] >= 0
    given = scores.astype(np.float32)
    wrong = held & ~np.isfinite(given)
    if wrong.any():
        query, place = (int(at[0]) for at in np.nonzero(wrong))
        raise InputError(
            f"the new score of query {query}, neighbour {place}, is {scores[query, place]}: every neighbour of the "
            "shortlist needs a finite score; pairs that were not compared belong behind it"
        )
    old_match = ranking.is_match[:, :width]
    in_shortlist = _in_shortlist(ranking, width)

    given = np.where(held, given, -np.inf)
    standing = np.where(old_match, given - TIE, given)
    order = np.lexsort((old_match, -standing), axis=1)  # stable: what stood first stays first
    is_match = np.take_along_axis(old_match, order, axis=1)
    new_scores = np.take_along_axis(given, order, axis=1)
    match_ranks = ranking.match_ranks.copy()
    match_ranks[in_shortlist] = np.nonzero(is_match)[1] + 1
    behind = _below(
        np.take_along_axis(standing, order, axis=1)[:, -1], ranking.scores[:, width:], ranking.is_match[:, width:]
    )
    return replace(
        ranking,
        neighbours=np.concatenate(
            [np.take_along_axis(ranking.neighbours[:, :width], order, axis=1), ranking.neighbours[:, width:]], axis=1
        ),
        scores=np.concatenate([new_scores, behind], axis=1),
        is_match=np.concatenate([is_match, ranking.is_match[:, width:]], axis=1),
        match_ranks=match_ranks,
    )


def _in_shortlist(ranking: Ranking, width: int) -> NDArray[np.bool_]:
    """(n_matches,) which match ranks are those of the first ``width`` neighbours; they are the places of these."""
    inside: NDArray[np.bool_] = ranking.match_ranks <= width
    of_query: Ints = np.repeat(np.arange(len(ranking.neighbours)), ranking.n_possible)
    queries, places = np.nonzero(ranking.is_match[:, :width])
    if not np.array_equal(of_query[inside], queries) or not np.array_equal(ranking.match_ranks[inside], places + 1):
        raise InputError(
            f"the match ranks up to {width} are not the places of the matches among the first {width} neighbours: "
            "rerank a ranking as resight.ranking made it"
        )
    return inside


def _below(
    lowest: NDArray[np.float32], scores: NDArray[np.float32], is_match: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Lower each row of ``scores`` (n_query, rest) by a constant until its first standing is at most ``lowest``."""
    lowered = scores.copy()
    if not scores.shape[1]:
        return lowered
    standing = np.where(is_match, scores - TIE, scores)
    rows = np.flatnonzero(standing[:, 0] > lowest)
    by, above = standing[rows, 0] - lowest[rows], lowest[rows]
    for place in range(scores.shape[1]):
        # Far from 0 a float32 is coarser than TIE: nothing may rise above what stands before it by rounding.
        wanted = np.minimum(standing[rows, place] - by, above)
        match = is_match[rows, place]
        score = np.where(match, wanted + TIE, wanted)
        above = np.where(match, score - TIE, score)
        lowered[rows, place] = score
    return lowered
