"""How accuracy grows with the gallery: at most k annotations of each identity in it (paper, Figure 3).

In every draw the annotations of each identity get a random order, and a gallery of size k holds the first k of each:
the galleries of one draw are nested, and a curve is not made rough by drawing anew for every k. A query's own
annotation, and those of its own encounter, are never in its gallery: where they are among the first k of its identity,
the next ones take their places. So every query has min(k, m) possible matches, m being all that it has, whichever
annotation it is; and from the largest identity on the figures are those of the one-vs-all scheme (paper §3.4).

The order of a gallery is that of ``resight.ranking``: the cosine counts, and a match must exceed a non-match by
``TIE``. The cosines do not depend on the draw, so they are computed once. The first match of a query has the rank

    r = min over its matches j in the gallery of 1 + |{non-matches i in the gallery: cos_i ≥ cos_j − TIE}|,

and the counts of all galleries at once are one product: (match, annotation) 0 or 1, times (annotation, gallery) 0 or 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import InputError
from resight.experiments.sides import TestSide
from resight.ranking import TIE, Ints, unit_rows

SIZES = tuple(range(1, 11))
"""A split keeps at most 10 annotations of an identity in test."""

DRAWS = 10
_TILE_ENTRIES = 2_000_000  # float32 entries of a tile of cosines, and of a block of comparisons: 8 MB each


@dataclass(frozen=True, eq=False)
class GalleryCurve:
    """Accuracy of one species by size of the gallery, in percent.

    Attributes:
        species: Its name.
        sizes: k, the most annotations of an identity in the gallery.
        queries: How many are averaged: test annotations with a possible match. The same for every size.
        excluded: Test annotations without one.
        top1_by_draw: (n_size, n_draw) float64, percent of queries with a match at rank 1; n_draw is 0 without queries.
        top5_by_draw: Likewise, among the first 5.
    """

    species: str
    sizes: tuple[int, ...]
    queries: int
    excluded: int
    top1_by_draw: NDArray[np.float64]
    top5_by_draw: NDArray[np.float64]

    @property
    def top1(self) -> tuple[float | None, ...]:
        """Mean over draws, one a size; ``None`` without queries."""
        return _means(self.top1_by_draw)

    @property
    def top1_sd(self) -> tuple[float | None, ...]:
        """Standard deviation over draws (n − 1 below the line), one a size; ``None`` for fewer than two draws."""
        return _deviations(self.top1_by_draw)

    @property
    def top5(self) -> tuple[float | None, ...]:
        """As ``top1``."""
        return _means(self.top5_by_draw)

    @property
    def top5_sd(self) -> tuple[float | None, ...]:
        """As ``top1_sd``."""
        return _deviations(self.top5_by_draw)


def gallery_size(
    side: TestSide, vectors: NDArray[Any], sizes: Sequence[int] = SIZES, *, draws: int = DRAWS, seed: int = 0
) -> GalleryCurve:
    """Draw galleries of each size and answer every test annotation from them.

    Args:
        side: One species; only its test annotations take part.
        vectors: (n, dim) of any float type, in order of ``side.annotation_ids``.
        sizes: The k, each at least 1.
        draws: How many galleries of each size.
        seed: Decides, with the annotations' names and nothing else, what is drawn.

    Raises:
        InputError: vectors that do not fit the side, a size or a number of draws below 1.
    """
    if draws < 1 or not sizes or min(sizes) < 1:
        raise InputError(f"gallery sizes and draws must be at least 1, got {tuple(sizes)} and {draws}")
    check_vectors(side, vectors, "vectors")
    rows = np.flatnonzero(side.tested)
    names = [side.annotation_ids[row] for row in rows]
    labels, encounters = codes(side.identities[rows]), codes(side.encounters[rows])
    places = np.stack([_places(names, labels, seed, f"gallery {draw}") for draw in range(draws)], axis=1)
    hits, queries = _hits(unit_rows(vectors[rows]), labels, encounters, places, np.array(sizes))
    shown = draws if queries else 0
    by_draw = hits[:, :, :shown] * (100.0 / max(queries, 1))
    return GalleryCurve(side.species, tuple(sizes), queries, len(rows) - queries, by_draw[0], by_draw[1])


def _hits(
    unit: NDArray[np.float32], labels: Ints, encounters: Ints, places: Ints, sizes: Ints
) -> tuple[NDArray[np.float64], int]:
    """Count queries answered at rank 1 and among the first 5.

    Args:
        unit: (n, dim) unit rows, queries and gallery at once.
        labels: (n,) codes of identity; ``encounters`` likewise.
        places: (n, n_draw) place of each annotation within its identity, from 0.
        sizes: (n_size,)

    Returns:
        (2, n_size, n_draw) counts, and how many queries have a possible match.
    """
    n, draws = places.shape
    held = (places[:, None, :] < sizes[:, None]).reshape(n, len(sizes) * draws).astype(np.float32)
    hits, queries = np.zeros((2, len(sizes), draws)), 0
    height = max(1, _TILE_ENTRIES // max(n, 1))
    for start in range(0, n, height):
        here = np.arange(start, min(start + height, n))
        cosines = unit[here] @ unit.T
        same = labels[here][:, None] == labels
        left_out = encounters[here][:, None] == encounters
        left_out[np.arange(len(here)), here] = True
        query, match = np.nonzero(same & ~left_out)  # by rising query
        if not len(query):
            continue
        standings = cosines[query, match] - TIE
        cosines[same | left_out] = -np.inf  # only non-matches stay visible
        above = np.empty((len(query), held.shape[1]), dtype=np.float32)
        for chunk in range(0, len(query), height):
            some = slice(chunk, chunk + height)
            above[some] = (cosines[query[some]] >= standings[some][:, None]).astype(np.float32) @ held
        firsts = np.flatnonzero(np.diff(query, prepend=-1))
        own_places = _places_among_matches(query, places[match], firsts)
        possible = own_places[:, None, :] < sizes[:, None]  # (n_match, n_size, n_draw)
        ranks = np.where(possible, 1 + above.reshape(possible.shape), np.inf)
        best = np.minimum.reduceat(ranks, firsts, axis=0)
        hits += [(best <= k).sum(axis=0) for k in (1, 5)]
        queries += len(firsts)
    return hits, queries


def _places_among_matches(query: Ints, places: Ints, firsts: Ints) -> Ints:
    """(n_match, n_draw) place of each match among its query's matches, from 0, in the order of ``places``."""
    found = np.empty_like(places)
    starts = np.repeat(firsts, np.diff(firsts, append=len(query)))
    for draw in range(places.shape[1]):
        order = np.lexsort((places[:, draw], query))
        found[order, draw] = np.arange(len(query)) - starts
    return found


def _places(names: Sequence[str], labels: Ints, seed: int, purpose: str) -> Ints:
    """(n,) place of each annotation within its identity, from 0, in a random order."""
    order = shuffled(names, seed, purpose)
    order = order[np.argsort(labels[order], kind="stable")]
    ordered = labels[order]
    firsts = np.searchsorted(ordered, ordered, side="left")
    places = np.empty(len(names), dtype=np.int64)
    places[order] = np.arange(len(names)) - firsts
    return places


def shuffled(names: Sequence[str], seed: int, purpose: str) -> Ints:
    """Rows in a random order that depends on the seed, the purpose and the rows' names alone, as splits are drawn."""
    start = f"{seed}\0{purpose}\0"
    keys = [sha256((start + name).encode()).digest() for name in names]
    return np.array(sorted(range(len(names)), key=keys.__getitem__), dtype=np.int64)


def codes(names: Iterable[Any]) -> Ints:
    """(n,) int64 code of each name."""
    return np.unique(np.asarray(names, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def check_vectors(side: TestSide, vectors: NDArray[Any], what: str) -> None:
    """Refuse vectors that are not one row an annotation.

    Raises:
        InputError: another shape or type.
    """
    n = len(side.annotation_ids)
    if vectors.ndim != 2 or len(vectors) != n or not np.issubdtype(vectors.dtype, np.floating):
        raise InputError(
            f"{what} of {side.species} must be a table of floats with {n} rows, one an annotation of its test side, "
            f"got shape {vectors.shape} of {vectors.dtype}; embed the test side anew"
        )


def _means(by_draw: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(float(row.mean()) if len(row) else None for row in by_draw)


def _deviations(by_draw: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(float(row.std(ddof=1)) if len(row) > 1 else None for row in by_draw)
