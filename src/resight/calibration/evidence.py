"""What speaks for two photos showing one animal, as numbers: of the pair itself, and of its name among the others.

Candidates are flat arrays, one row a pair of a query and a candidate; ``query`` tells which rows are one shortlist and
``name`` which of these bear one individual's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import InputError

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

LOCAL_FEATURES = ("local_sum", "local_count", "local_inliers")
FEATURES = ("cosine", *LOCAL_FEATURES)
"""The evidence of a pair, which speaks the more for one animal the higher it is.

- ``cosine`` of the two embeddings, as it is.
- ``local_sum``, the sum of the squared confidences of the local matches, so that one sure match outweighs several
  doubtful ones; ``local_count``, how many of them are sure; ``local_inliers``, the sum again over those that one map
  explains. They enter as they are: logarithms level out the pairs that decide (``docs/results/matching.md``).
"""


@dataclass(frozen=True)
class Group:
    """A species and a viewpoint of the query; ``None`` is a viewpoint that nobody knows."""

    species: str
    viewpoint: str | None = None

    def __str__(self) -> str:
        """As messages name it."""
        return self.species if self.viewpoint is None else f"{self.species}, {self.viewpoint}"


@dataclass(frozen=True)
class PairFeatures:
    """The evidence of n pairs.

    Attributes:
        names: Some of ``FEATURES``, ``cosine`` among them.
        values: (n, len(names)) float64; NaN is evidence that was not computed. Only local evidence may be missing, and
            then all of a pair's.

    Raises:
        InputError: a name that is none of these, or values that cannot be evidence.
    """

    names: tuple[str, ...]
    values: Doubles

    def __post_init__(self) -> None:
        """Refuse what is no evidence."""
        if "cosine" not in self.names or len(set(self.names)) < len(self.names) or set(self.names) - set(FEATURES):
            raise InputError(f"evidence {self.names}: expected cosine and some of {', '.join(LOCAL_FEATURES)}, once")
        if self.values.ndim != 2 or self.values.shape[1] != len(self.names):
            raise InputError(f"evidence must be (pairs, {len(self.names)}), got shape {self.values.shape}")
        for name, column in zip(self.names, self.values.T, strict=True):
            bad = np.isinf(column) | (column < 0) if name in LOCAL_FEATURES else ~np.isfinite(column)
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                expected = "a number of at least 0" if name in LOCAL_FEATURES else "a finite number"
                raise InputError(f"{name} of pair {row} is {column[row]}: expected {expected}")
        lacking = np.isnan(self.values).sum(axis=1)
        partly = (lacking > 0) & (lacking < len(self.names) - 1)
        if partly.any():
            raise InputError(
                f"pair {int(np.flatnonzero(partly)[0])} has some of its local evidence only: expected all of it or none"
            )

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.values)

    def column(self, name: str) -> Doubles:
        """(n,) one kind of evidence as the fusion sees it; NaN where it was not computed."""
        if name not in self.names:
            return np.full(len(self), np.nan)
        values: Doubles = self.values[:, self.names.index(name)]
        return values


@dataclass(frozen=True)
class Candidates:
    """The shortlists of some queries.

    Attributes:
        features: Of n pairs.
        query: (n,) int64 code of the query: rows of one code are one shortlist.
        name: (n,) int64 code of the candidate's individual, −1 where it has none.

    Raises:
        InputError: arrays that do not fit together.
    """

    features: PairFeatures
    query: Ints
    name: Ints

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        _one_each(self, len(self.features), "query", "name")

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.query)

    def rows(self, chosen: Ints | Bools) -> Candidates:
        """Some of the pairs: whole shortlists, since what is left out no longer counts as another name."""
        features = PairFeatures(self.features.names, self.features.values[chosen])
        return Candidates(features, self.query[chosen], self.name[chosen])


@dataclass(frozen=True)
class Pairs:
    """Candidates of which it is known whether they are the query's animal.

    Attributes:
        candidates: n pairs.
        same: (n,) bool, whether both show one animal.
        gallery: (n,) int64 code of the annotation that was found; in the same codes as the queries, so that a pair that
            was met from both ends counts once.
        identity: (n,) int64 code of the query's identity; no two species share a code.
        groups: The species and viewpoints there are.
        group_of: (n,) int64, the query's place in ``groups``.

    Raises:
        InputError: arrays that do not fit together.
    """

    candidates: Candidates
    same: Bools
    gallery: Ints
    identity: Ints
    groups: tuple[Group, ...]
    group_of: Ints

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        n = len(self.candidates)
        _one_each(self, n, "same", "gallery", "identity", "group_of")
        if self.same.dtype != np.bool_:
            raise InputError(f"same must be booleans, got {self.same.dtype}")
        if n and self.identity.min() < 0:
            raise InputError("a pair whose query is of no known identity cannot be learned from: leave it out")
        if n and not (self.group_of.min() >= 0 and self.group_of.max() < len(self.groups)):
            raise InputError(f"group_of must name one of {len(self.groups)} groups, got {self.group_of.max()}")

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.same)

    def rows(self, chosen: Ints | Bools) -> Pairs:
        """Some of the pairs, whole shortlists."""
        return replace(
            self,
            candidates=self.candidates.rows(chosen),
            same=self.same[chosen],
            gallery=self.gallery[chosen],
            identity=self.identity[chosen],
            group_of=self.group_of[chosen],
        )


def species_of_rows(groups: Sequence[Group], group_of: Ints) -> NDArray[np.object_]:
    """(n,) the species of each row, whose ``group_of`` is its place in ``groups``."""
    return np.array([group.species for group in groups], dtype=object)[group_of]


def rows_by_species(groups: Sequence[Group], group_of: Ints) -> dict[str, Ints]:
    """Species, in their order → its rows; as :func:`species_of_rows`."""
    species = species_of_rows(groups, group_of)
    return {name: np.flatnonzero(species == name) for name in sorted(set(species))}


def candidates_of(
    cosine: NDArray[np.floating[Any]],
    names: Ints,
    held: Bools,
    local: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    *,
    query: Ints | None = None,
) -> Candidates:
    """The shortlists of a ranking, as both calibration and matching must make them.

    Args:
        cosine: (n_query, k), as ``Ranking.scores`` before any reranking.
        names: (n_query, k) int64 codes of the candidates' individuals, −1 for unnamed ones.
        held: (n_query, k), which places hold a candidate: ``Ranking.neighbours >= 0``.
        local: ``local_sum``, ``local_count`` and ``local_inliers``, each (n_query, k) with NaN where they were not
            computed; ``None`` without local evidence.
        query: (n_query,) int64 codes of the queries; ``None`` numbers them.

    Returns:
        One row a candidate held, query after query: row i is the i-th place of ``np.nonzero(held)``.

    Raises:
        InputError: arrays of different shapes, or local evidence of another name.
    """
    columns = {"cosine": cosine, **(local or {})}
    ordered = [name for name in FEATURES if name in columns]
    if len(ordered) < len(columns):
        raise InputError(f"local evidence {', '.join(local or {})}: expected some of {', '.join(LOCAL_FEATURES)}")
    if cosine.ndim != 2 or any(array.shape != held.shape for array in (names, *columns.values())):
        raise InputError(f"cosine, names, held and local evidence must all be (n_query, k), as held is: {held.shape}")
    values = np.stack([np.asarray(columns[name], np.float64)[held] for name in ordered], axis=1)
    place = np.nonzero(held)[0].astype(np.int64)
    return Candidates(PairFeatures(tuple(ordered), values), place if query is None else query[place], names[held])


@dataclass(frozen=True)
class StandingOut:
    """How a candidate's name stands among the names of its shortlist.

    Attributes:
        gap: (n,) float64, how far the best candidate of its name lies above the best of any other name; positive for
            the best name only. Where the shortlist holds no other name, above the lowest of the other candidates:
            what is behind the shortlist stands lower. An unnamed candidate stands for itself, and is no other name to
            anyone, since it may show the same animal. It never falls when the candidate's own score rises.
        photos: (n,) int64, how many of the shortlist bear its name.
    """

    gap: Doubles
    photos: Ints


def standing_out(scores: Doubles, query: Ints, name: Ints) -> StandingOut:
    """How the names of shortlists stand out.

    Args:
        scores: (n,) finite, such as log odds; higher is better.
        query: (n,) int64, as ``Candidates`` has it; ``name`` likewise.
    """
    names = _names(scores, query, name)
    best, other = names.best[names.of_row], names.other[names.of_row]
    photos = np.bincount(names.of_row, minlength=len(names.best))[names.of_row]
    return StandingOut(best - np.where(np.isfinite(other), other, names.lowest), photos)


@dataclass(frozen=True)
class BestNames:
    """The best name of each query.

    Attributes:
        name: (n_query,) int64 code of the best name; −1 where no candidate has a name.
        best: (n_query,) float64, the score of its best candidate; −inf where there is none.
        gap: (n_query,) float64, its gap as ``StandingOut`` has it; 0 where there is none.
    """

    name: Ints
    best: Doubles
    gap: Doubles


def best_names(scores: Doubles, query: Ints, name: Ints, n_query: int) -> BestNames:
    """Find each query's best name.

    Args:
        scores: (n,) finite, higher is better.
        query: (n,) int64 from 0 to ``n_query`` − 1.
        name: (n,) int64, as ``Candidates`` has it.
        n_query: How many queries there are; one without candidates has no name.
    """
    found = BestNames(np.full(n_query, -1, dtype=np.int64), np.full(n_query, -np.inf), np.zeros(n_query))
    named = np.flatnonzero(name >= 0)
    gap = standing_out(scores, query, name).gap
    order = named[np.lexsort((-scores[named], query[named]))]  # of equals, the first
    mine, first = np.unique(query[order], return_index=True)
    found.name[mine], found.best[mine], found.gap[mine] = name[order[first]], scores[order[first]], gap[order[first]]
    return found


@dataclass(frozen=True)
class _Names:
    """Per name of a shortlist its best score, and the best of any other name (−inf: none); per row the name's place,
    and the lowest score among the other candidates (its own, where there are none).
    """

    of_row: Ints
    best: Doubles
    other: Doubles
    lowest: Doubles


def _names(scores: Doubles, query: Ints, name: Ints) -> _Names:
    if not np.isfinite(scores).all():
        raise InputError("a candidate has a score that is not finite: leave it out")
    # An unnamed candidate is a name of its own: codes below 0 that nobody else has.
    own = np.where(name >= 0, name, -1 - np.arange(len(name)))
    _, first, of_row = np.unique(np.stack([query, own], axis=1), axis=0, return_index=True, return_inverse=True)
    of_row = of_row.reshape(len(name))
    best = np.full(len(first), -np.inf)
    np.maximum.at(best, of_row, scores)
    _, of_query = np.unique(query[first], return_inverse=True)
    n_query = int(of_query.max(initial=-1)) + 1
    named = np.where(own[first] >= 0, best, -np.inf)
    order = np.lexsort((-named, of_query))
    place = np.arange(len(order)) - np.searchsorted(of_query[order], of_query[order])
    leader = np.zeros(len(first), dtype=np.bool_)
    leader[order[place == 0]] = True
    highest, second = np.full(n_query, -np.inf), np.full(n_query, -np.inf)
    highest[of_query[order[place == 0]]] = named[order[place == 0]]
    second[of_query[order[place == 1]]] = named[order[place == 1]]
    other = np.where(leader & (own[first] >= 0), second[of_query], highest[of_query])
    return _Names(of_row, best, other, _lowest_of_others(scores, of_query[of_row]))


def _lowest_of_others(scores: Doubles, query: Ints) -> Doubles:
    order = np.lexsort((scores, query))
    place = np.arange(len(order)) - np.searchsorted(query[order], query[order])
    n_query = int(query.max(initial=-1)) + 1
    lowest, second = np.full(n_query, np.inf), np.full(n_query, np.inf)
    lowest[query[order[place == 0]]] = scores[order[place == 0]]
    second[query[order[place == 1]]] = scores[order[place == 1]]
    first = np.zeros(len(order), dtype=np.bool_)
    first[order[place == 0]] = True
    found = np.where(first, second[query], lowest[query])
    return np.where(np.isfinite(found), found, scores)


def _one_each(holder: object, n: int, *names: str) -> None:
    for name in names:
        shape = getattr(holder, name).shape
        if shape != (n,):
            raise InputError(f"{name} must have one entry a pair ({n}), got shape {shape}")
