"""Exact cosine ranking of a gallery for every query, in tiles, with exclusions: one frozen ``Ranking``.

The order. A pair is compared by its *standing*: the cosine of a non-match, and the cosine less ``TIE`` of a match.
The higher standing comes first; between equal standings a non-match comes before a match, and then the lower gallery
row. So a match must beat a non-match by more than ``TIE``, and a model that has collapsed, whose vectors are all
equal up to rounding, scores about zero instead of whatever the rounding happens to give.

The way. The cosines of all possible matches are computed first, label by label. Then the gallery is gone through in
tiles of at most ``block_rows`` × ``block_rows``; every tile raises the count of non-matches that stand above each
match and may put new rows among a query's nearest. No full row and no full matrix is ever held, and where the queries
are the gallery itself only half of the tiles are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import InputError
from resight.progress import bar

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

TIE = np.float32(1e-6)
"""By how much cosine a match must exceed a non-match to come before it.

Above the rounding of a float32 product of unit vectors (about 1e-7), below any difference that carries meaning.
"""

BLOCK_ROWS = 2000
"""Rows of a tile. Not a power of two: turning a tile over would then hit few of the processor's cache sets."""

_EMPTY = np.iinfo(np.int64).min  # the key of a place that no gallery row holds
_ROW_MASK = 0x7FFFFFFF  # lower 31 bits of a key: the gallery row, reversed so that lower rows have higher keys
_NON_MATCH = 0x80000000
_BELOW_ALL = np.float32(-2.0)  # lower than any cosine; what is not to be seen in a tile is set to -inf
_COMPARED_SINGLY = 48  # up to so many matches, comparing a tile with each is faster than sorting the tile


@dataclass(frozen=True)
class Ranking:
    """What every query found in its gallery.

    Attributes:
        neighbours: (n_query, k) int64, gallery rows, nearest first; −1 where fewer than k could be compared.
        scores: (n_query, k) float32, their cosines; −inf beside −1. They fall from left to right, but for matches
            and non-matches less than ``TIE`` apart.
        is_match: (n_query, k) bool, whether the neighbour has the query's label.
        match_ranks: (n_matches,) int64, the 1-based rank, in the whole gallery as compared, of every possible match;
            query i's are ``match_ranks[match_offsets[i]:match_offsets[i + 1]]``, ascending.
        match_offsets: (n_query + 1,) int64.
        n_compared: (n_query,) int64, gallery rows the query was compared with.
        n_excluded: (n_query,) int64, gallery rows left out: itself, and those of its own group.

    Raises:
        InputError: the arrays do not fit together, or are not in order.
    """

    neighbours: Ints
    scores: Floats
    is_match: NDArray[np.bool_]
    match_ranks: Ints
    match_offsets: Ints
    n_compared: Ints
    n_excluded: Ints

    def __post_init__(self) -> None:
        """Refuse arrays that do not describe one ranking."""
        n_query = len(self.neighbours)
        if self.neighbours.ndim != 2 or not self.neighbours.shape == self.scores.shape == self.is_match.shape:
            raise InputError(
                "a ranking needs neighbours, scores and is_match of one shape (n_query, k), got "
                f"{self.neighbours.shape}, {self.scores.shape} and {self.is_match.shape}"
            )
        if self.match_offsets.shape != (n_query + 1,) or not len(self.n_compared) == len(self.n_excluded) == n_query:
            raise InputError(f"a ranking of {n_query} queries needs {n_query + 1} offsets and {n_query} counts")
        if self.match_offsets[0] != 0 or self.match_offsets[-1] != len(self.match_ranks):
            raise InputError(f"offsets must run from 0 to {len(self.match_ranks)}, the number of match ranks")
        if (self.n_possible < 0).any() or (self.n_possible > self.n_compared).any():
            raise InputError("a query cannot have more possible matches than gallery rows it was compared with")
        held = self.neighbours >= 0
        if (held[:, 1:] > held[:, :-1]).any():
            raise InputError("rows of -1 must stand at the end of a query's neighbours")
        if (held.sum(axis=1) != np.minimum(self.n_compared, self.neighbours.shape[1])).any():
            raise InputError("a query must have min(k, n_compared) neighbours")
        standing = np.where(self.is_match, self.scores - TIE, self.scores)
        # A cosine regained from its standing is off by the last bit at most, hence the slack.
        if (standing[:, 1:] > standing[:, :-1] + TIE / 4).any():
            raise InputError("a query's neighbours must be in falling order of cosine (less TIE for matches)")
        of_query = np.repeat(np.arange(n_query), self.n_possible)
        if (self.match_ranks < 1).any() or (self.match_ranks > self.n_compared[of_query]).any():
            raise InputError("a match rank must lie between 1 and the number of rows compared")
        rising = (np.diff(self.match_ranks) > 0) | (np.diff(of_query) != 0)
        if not rising.all():
            raise InputError("a query's match ranks must be ascending and different")

    @property
    def n_possible(self) -> Ints:
        """(n_query,) how many gallery rows a query could have matched."""
        return np.diff(self.match_offsets)

    @property
    def first_match_rank(self) -> Ints:
        """(n_query,) rank of the first match, 0 where no match was possible."""
        first = np.zeros(len(self.neighbours), dtype=np.int64)
        possible = self.n_possible > 0
        first[possible] = self.match_ranks[self.match_offsets[:-1][possible]]
        return first


def codes_of(names: Sequence[str]) -> Ints:
    """(n,) int64 codes of names, by their order: equal names have one code."""
    code_of = {name: code for code, name in enumerate(sorted(set(names)))}
    return np.array([code_of[name] for name in names], dtype=np.int64)


def rank_one_vs_all(
    vectors: NDArray[Any], *, labels: Ints, groups: Ints | None = None, k: int = 20, block_rows: int = BLOCK_ROWS
) -> Ranking:
    """Rank, for every vector, all the others (paper §3.4); see ``rank``.

    Args:
        vectors: (n, dim) of any float type.
        labels: (n,) int64 codes of identity, −1 for unknown.
        groups: (n,) int64 codes of encounter, −1 for none.
        k: How many neighbours to keep.
        block_rows: Rows of a tile.
    """
    return rank(
        vectors,
        vectors,
        query_labels=labels,
        gallery_labels=labels,
        query_groups=groups,
        gallery_groups=groups,
        self_index=np.arange(len(vectors), dtype=np.int64),
        k=k,
        block_rows=block_rows,
    )


def rank(
    query: NDArray[Any],
    gallery: NDArray[Any],
    *,
    query_labels: Ints,
    gallery_labels: Ints,
    query_groups: Ints | None = None,
    gallery_groups: Ints | None = None,
    self_index: Ints | None = None,
    k: int = 20,
    block_rows: int = BLOCK_ROWS,
) -> Ranking:
    """Rank the gallery for every query by cosine, exactly, in the order described at the top of this file.

    Memory is linear in the queries, the gallery and the number of possible matches. Passing one and the same array as
    query and gallery halves the work.

    Args:
        query: (n_query, dim) of any float type; need not be normalised.
        gallery: (n_gallery, dim), likewise.
        query_labels: (n_query,) int64 codes of identity; −1 is unknown and matches nothing.
        gallery_labels: (n_gallery,) int64, likewise.
        query_groups: (n_query,) int64 codes of encounter; gallery rows of the query's own group are left out. −1
            means no group; ``None`` means −1 for all.
        gallery_groups: (n_gallery,) int64, likewise.
        self_index: (n_query,) int64, the gallery row that is the query itself and is left out; −1 where it is not in
            the gallery; ``None`` means −1 for all.
        k: How many neighbours to keep.
        block_rows: Rows of a tile; changes speed and memory (about 24 bytes × block_rows²), not the order.

    Raises:
        InputError: arrays that do not fit together, or a vector that is zero, NaN or infinite.
    """
    if k < 1 or block_rows < 1:
        raise InputError(f"k and block_rows must be at least 1, got {k} and {block_rows}")
    same = query is gallery
    unit_gallery = unit_rows(gallery, "gallery")
    unit_query = unit_gallery if same else unit_rows(query, "query")
    n_query, n_gallery = len(unit_query), len(unit_gallery)
    if unit_query.shape[1] != unit_gallery.shape[1]:
        raise InputError(
            f"queries have {unit_query.shape[1]} dimensions and the gallery {unit_gallery.shape[1]}: embed both "
            "with the same model"
        )
    if n_gallery > _ROW_MASK:
        raise InputError(f"a gallery of {n_gallery} rows is too large; at most {_ROW_MASK} can be ranked at once")
    task = _Task(
        query_labels=_codes(query_labels, n_query, "query_labels"),
        gallery_labels=_codes(gallery_labels, n_gallery, "gallery_labels"),
        query_groups=_codes(query_groups, n_query, "query_groups"),
        gallery_groups=_codes(gallery_groups, n_gallery, "gallery_groups"),
        self_index=_codes(self_index, n_query, "self_index"),
    )
    if (task.self_index >= n_gallery).any():
        raise InputError(f"self_index names row {task.self_index.max()} of a gallery of {n_gallery} rows")

    matches = _possible_matches(task, unit_query, unit_gallery)
    nearest = _seed_nearest(matches, n_query, k)
    above = np.zeros(len(matches.rows), dtype=np.int64)
    query_starts, gallery_starts = range(0, n_query, block_rows), range(0, n_gallery, block_rows)
    tiles = [(i, j) for i in query_starts for j in gallery_starts if not same or j >= i]
    with bar("rank", len(tiles)) as progress:
        for i, j in tiles:
            here, there = slice(i, min(i + block_rows, n_query)), slice(j, min(j + block_rows, n_gallery))
            cosines = unit_query[here] @ unit_gallery[there].T
            mirrored = np.ascontiguousarray(cosines.T) if same and i != j else None
            _visit(cosines, here, there, task, matches, above, nearest)
            if mirrored is not None:
                _visit(mirrored, there, here, task, matches, above, nearest)
            progress.advance()

    place = np.arange(len(matches.rows)) - np.repeat(matches.offsets[:-1], np.diff(matches.offsets)) + 1
    excluded = _count_excluded(task)
    neighbours, scores, is_match = _decode(nearest)
    return Ranking(
        neighbours=neighbours,
        scores=scores,
        is_match=is_match,
        match_ranks=above + place,
        match_offsets=matches.offsets,
        n_compared=n_gallery - excluded,
        n_excluded=excluded,
    )


def unit_rows(vectors: NDArray[Any], name: str = "vectors") -> Floats:
    """Scale every row of ``vectors`` (n, dim) to length 1, as float32.

    Raises:
        InputError: not a table of floats, or a row that is zero, NaN or infinite; the first such row is named.
    """
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise InputError(f"{name} must be an (n, dim) array of floats, got shape {vectors.shape} of {vectors.dtype}")
    precision = np.float64 if vectors.dtype == np.float64 else np.float32
    unit = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), 512):
        rows: NDArray[Any] = vectors[start : start + 512].astype(precision, copy=False)
        squares = np.einsum("ij,ij->i", rows, rows)
        if not ((squares > 1e-30) & (squares < 1e30)).all():
            rows, squares = _within_range(rows, start, name)
        np.multiply(rows, (1 / np.sqrt(squares))[:, None], out=unit[start : start + len(rows)], casting="same_kind")
    return unit


def _within_range(rows: NDArray[Any], start: int, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scale rows so that their largest entry is 1: the squares of very large and very small entries leave the range of
    a float. Returns the rows and the sums of their squares; refuses a row that has no direction.
    """
    largest = np.abs(rows).max(axis=1, initial=0.0)
    bad = ~np.isfinite(largest) | (largest == 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        what = "is zero" if largest[row] == 0 else "holds NaN or infinity"
        raise InputError(
            f"row {start + row} of {name} {what}; a vector needs a finite length above 0: embed that image anew"
        )
    scaled = rows / largest[:, None]
    return scaled, np.einsum("ij,ij->i", scaled, scaled)


@dataclass(frozen=True)
class _Task:
    """Who is who, as checked int64 arrays; −1 for unknown or none."""

    query_labels: Ints
    gallery_labels: Ints
    query_groups: Ints
    gallery_groups: Ints
    self_index: Ints


@dataclass(frozen=True)
class _Matches:
    """Every possible match, by query: ``offsets`` (n_query + 1,), and per match, in falling order of standing within a
    query, its gallery row in ``rows`` and its cosine less TIE in ``standings``.
    """

    offsets: Ints
    rows: Ints
    standings: Floats


def _codes(values: Ints | None, length: int, name: str) -> Ints:
    if values is None:
        return np.full(length, -1, dtype=np.int64)
    codes = np.asarray(values)
    if codes.shape != (length,) or not np.issubdtype(codes.dtype, np.integer):
        raise InputError(f"{name} must be {length} integer codes, got shape {codes.shape} of {codes.dtype}")
    codes = codes.astype(np.int64)
    if (codes < -1).any():
        raise InputError(f"{name} must be -1 or above, got {codes.min()} in row {int(codes.argmin())}")
    return codes


def _equal_pairs(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """All (i, j) with ``left[i] == right[j] >= 0``, by rising i."""
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    first = np.searchsorted(ordered, left, side="left")
    count = np.where(left >= 0, np.searchsorted(ordered, left, side="right") - first, 0)
    i = np.repeat(np.arange(len(left)), count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    return i, order[np.repeat(first, count) + within]


def _possible_matches(task: _Task, query: Floats, gallery: Floats) -> _Matches:
    """Find and score all pairs of one label that are neither the query itself nor of its group."""
    query_order = np.argsort(task.query_labels, kind="stable")
    gallery_order = np.argsort(task.gallery_labels, kind="stable")
    labels = np.intersect1d(task.query_labels[task.query_labels >= 0], task.gallery_labels)
    bounds = [
        np.searchsorted(codes[order], labels, side=side)
        for codes, order in ((task.query_labels, query_order), (task.gallery_labels, gallery_order))
        for side in ("left", "right")
    ]
    found_i, found_j, found_cosine = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for query_from, query_to, gallery_from, gallery_to in zip(*bounds, strict=True):
        i, j = query_order[query_from:query_to], gallery_order[gallery_from:gallery_to]
        groups = task.query_groups[i]
        left_out = (groups[:, None] == task.gallery_groups[j]) & (groups[:, None] >= 0)
        left_out |= task.self_index[i][:, None] == j
        if left_out.all():
            continue
        at_i, at_j = np.nonzero(~left_out)
        found_i.append(i[at_i])
        found_j.append(j[at_j])
        found_cosine.append((query[i] @ gallery[j].T)[at_i, at_j])
    of_query, rows = np.concatenate(found_i), np.concatenate(found_j)
    standings = np.concatenate(found_cosine) - TIE
    order = np.lexsort((rows, -standings, of_query))
    offsets = np.zeros(len(query) + 1, dtype=np.int64)
    np.cumsum(np.bincount(of_query, minlength=len(query)), out=offsets[1:])
    return _Matches(offsets, rows[order], standings[order])


def _count_excluded(task: _Task) -> Ints:
    """How many gallery rows each query is not compared with."""
    ordered = np.sort(task.gallery_groups)
    n_group = np.searchsorted(ordered, task.query_groups, "right") - np.searchsorted(ordered, task.query_groups)
    n_group[task.query_groups < 0] = 0
    has_self = task.self_index >= 0
    if not has_self.any():
        return n_group
    group_of_self = np.where(has_self, task.gallery_groups[task.self_index], -1)
    in_group = has_self & (group_of_self == task.query_groups) & (task.query_groups >= 0)
    excluded: Ints = n_group + has_self - in_group
    return excluded


def _visit(tile: Floats, here: slice, there: slice, task: _Task, matches: _Matches, above: Ints, nearest: Ints) -> None:
    """Take one tile of cosines into account, for queries ``here`` and gallery rows ``there``.

    Overwrites ``tile``; raises ``above`` and renews ``nearest`` in place.
    """
    # Matches have been scored already, and what is left out must not be seen: only non-matches stay visible.
    for pairs in (
        _equal_pairs(task.query_labels[here], task.gallery_labels[there]),
        _equal_pairs(task.query_groups[here], task.gallery_groups[there]),
    ):
        tile[pairs] = -np.inf
    own = task.self_index[here] - there.start
    inside = np.flatnonzero((task.self_index[here] >= 0) & (own >= 0) & (own < tile.shape[1]))
    tile[inside, own[inside]] = -np.inf
    _raise_counts(tile, matches.offsets[here.start : here.stop + 1], matches.standings, above)
    _renew_nearest(tile, there.start, nearest[here])


def _raise_counts(tile: Floats, offsets: Ints, standings: Floats, above: Ints) -> None:
    """Add to ``above``, for every match, how many entries of its query's row of ``tile`` stand at or above it."""
    highest = tile.max(axis=1)
    starts, counts = offsets[:-1], np.diff(offsets)
    # Standings fall within a query, so where the row's highest entry is below the last it is below all.
    reached = np.zeros(len(tile), dtype=bool)
    some = counts > 0
    reached[some] = standings[offsets[1:][some] - 1] <= highest[some]
    few = reached & (counts <= _COMPARED_SINGLY)
    for place in range(int(counts[few].max(initial=0))):
        at = starts + place
        rows = np.flatnonzero(few & (counts > place))
        rows = rows[standings[at[rows]] <= highest[rows]]
        for chunk in range(0, len(rows), 64):
            these = rows[chunk : chunk + 64]
            over = tile[these] >= standings[at[these]][:, None]
            above[at[these]] += over.view(np.uint8).sum(axis=1, dtype=np.uint32)  # faster than count_nonzero
    for row in np.flatnonzero(reached & ~few):
        mine = slice(int(offsets[row]), int(offsets[row + 1]))
        above[mine] += tile.shape[1] - np.searchsorted(np.sort(tile[row]), standings[mine], side="left")


def _keys(standing: Floats, gallery_rows: Ints, non_match: int) -> Ints:
    """One int64 a pair whose falling order is the order of the ranking: standing, non-match first, lower row."""
    # Adding 0 turns -0.0 into 0.0. The bits of a float32 read as an integer rise with it where it is positive and
    # fall where it is negative; flipping all but the sign of the negative ones makes one rising scale.
    bits = (standing + np.float32(0)).view(np.int32)
    scale = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return (scale.astype(np.int64) << 32) | non_match | (_ROW_MASK - gallery_rows)


def _standing_of(keys: Ints) -> Floats:
    scale = (keys >> 32).astype(np.int32)
    return (scale ^ ((scale >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)


def _seed_nearest(matches: _Matches, n_query: int, k: int) -> Ints:
    """(n_query, k) rising keys: the best k possible matches of each query, ``_EMPTY`` where there are fewer."""
    nearest = np.full((n_query, k), _EMPTY, dtype=np.int64)
    counts = np.diff(matches.offsets)
    of_query = np.repeat(np.arange(n_query), counts)
    place = np.arange(len(of_query)) - np.repeat(matches.offsets[:-1], counts)
    kept = place < k
    nearest[of_query[kept], k - 1 - place[kept]] = _keys(matches.standings[kept], matches.rows[kept], 0)
    return nearest


def _renew_nearest(tile: Floats, first_row: int, nearest: Ints) -> None:
    """Put the entries of ``tile`` that belong among the k nearest into ``nearest`` (rows of the tile, k), in place."""
    k, width = nearest.shape[1], tile.shape[1]
    full = nearest[:, 0] != _EMPTY
    floor = np.where(full, _standing_of(nearest[:, 0]), _BELOW_ALL)
    if width > 2 * k and not full.all():
        # Nothing below the tile's own k-th entry can be among the k nearest.
        open_rows = np.flatnonzero(~full)
        kth = np.partition(tile[open_rows], width - k, axis=1)[:, width - k]
        floor[open_rows] = np.maximum(kth, _BELOW_ALL)
    at = np.flatnonzero(tile >= floor[:, None])
    row, column = np.divmod(at, width)
    keys = _keys(tile.ravel()[at], column + first_row, _NON_MATCH)
    better = keys > nearest[row, 0]
    row, keys = row[better], keys[better]
    counts = np.bincount(row, minlength=len(tile))
    changed = np.flatnonzero(counts)
    if not len(changed):
        return
    pool = np.full((len(changed), k + int(counts.max())), _EMPTY, dtype=np.int64)
    pool[:, :k] = nearest[changed]
    counts = counts[changed]
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    pool[np.repeat(np.arange(len(changed)), counts), k + place] = keys
    pool.sort(axis=1)
    nearest[changed] = pool[:, -k:]


def _decode(nearest: Ints) -> tuple[Ints, Floats, NDArray[np.bool_]]:
    keys = nearest[:, ::-1]
    held = keys != _EMPTY
    is_match = held & ((keys & _NON_MATCH) == 0)
    rows = np.where(held, _ROW_MASK - (keys & _ROW_MASK), -1)
    standing = _standing_of(keys)
    scores = np.where(held, np.where(is_match, standing + TIE, standing), np.float32(-np.inf))
    return rows, scores.astype(np.float32), is_match
