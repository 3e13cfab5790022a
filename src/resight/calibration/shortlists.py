"""The shortlists of the test side of a split, as matching makes them, and what is learned from them.

Queries are compared inside a species; the other side of the animal and the query's own encounter are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.calibration.evidence import Bools, Doubles, Group, Ints, Pairs, candidates_of, rows_by_species
from resight.calibration.stopping import Length, Stop, find_stop, length_for, looked_at
from resight.catalogue.policy import animal_of, individual_of, separates_sides, side_of
from resight.catalogue.store import TEST, StoredSplit
from resight.embedding import EmbeddingSet
from resight.errors import InputError
from resight.ranking import Ranking, codes_of, rank_one_vs_all
from resight.settings import Policy
from resight.types import Annotation

LocalArrays = Mapping[str, NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Shortlists:
    """The shortlists of all test annotations as queries, gallery after gallery; n of them, ``depth`` candidates each.

    Attributes:
        ids: Their annotation ids.
        individual: (n,) int64 codes; the sides of one animal share a code, no two species do.
        groups: The species and viewpoints there are.
        group_of: (n,) int64, each query's place in ``groups``.
        gallery: (n,) int64, which gallery it is compared inside.
        neighbours: (n, depth) int64, rows of ``ids``, nearest first; −1 where there are fewer.
        cosine: (n, depth) float32, −inf beside −1.
        can_match: (n,) bool, whether any annotation it is compared with is of its animal.
    """

    ids: tuple[str, ...]
    individual: Ints
    groups: tuple[Group, ...]
    group_of: Ints
    gallery: Ints
    neighbours: Ints
    cosine: NDArray[np.float32]
    can_match: Bools

    @property
    def held(self) -> Bools:
        """(n, depth) which places hold a candidate."""
        held: Bools = self.neighbours >= 0
        return held

    @property
    def names(self) -> Ints:
        """(n, depth) codes of the candidates' individuals, −1 where there is none."""
        return np.where(self.held, self.individual[self.neighbours], -1)

    def each(self, of_species: Mapping[str, float], otherwise: float) -> Doubles:
        """(n,) for each query the number of its species, ``otherwise`` where it has none."""
        of_group = np.array([of_species.get(group.species, otherwise) for group in self.groups], np.float64)
        return of_group[self.group_of]

    def cut(self, shortlist: int | Ints) -> Shortlists:
        """The same with so many candidates at most, of all queries or (n,) of each."""
        kept = self.held & (np.arange(self.neighbours.shape[1]) < np.reshape(shortlist, (-1, 1)))
        return replace(
            self,
            neighbours=np.where(kept, self.neighbours, -1),
            cosine=np.where(kept, self.cosine, np.float32(-np.inf)),
        )


def shortlists_of(
    split: StoredSplit,
    annotations: Iterable[Annotation],
    embeddings: EmbeddingSet,
    policy_of: Mapping[str, Policy],
    *,
    depth: int,
    species: Sequence[str] | None = None,
) -> Shortlists:
    """Rank the test side of a split as matching does.

    Args:
        split: Frozen; its identities and encounters count.
        annotations: Of the catalogue, for their viewpoints.
        embeddings: Vectors of the test annotations; those without one take no part.
        policy_of: Species → viewpoint policy.
        depth: Candidates a query.
        species: Only these; ``None``: all.

    Raises:
        InputError: nothing to compare.
    """
    row_of = embeddings.row_of()
    members: dict[tuple[str, str | None], list[Annotation]] = defaultdict(list)
    for one in annotations:
        name = split.species.get(one.annotation_id)
        if split.subset.get(one.annotation_id) != TEST or name is None or one.annotation_id not in row_of:
            continue
        if species is not None and name not in species:
            continue
        side = side_of(split.identity[one.annotation_id]) if separates_sides(policy_of.get(name, "ignore")) else None
        members[name, side].append(one)
    codes: dict[tuple[str, str], int] = {}
    groups: dict[Group, int] = {}
    parts: list[tuple[list[str], list[int], list[int], Ranking]] = []
    for (name, side), of_gallery in sorted(members.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        ids = [one.annotation_id for one in of_gallery]
        animals = [(animal_of(name), individual_of(split.identity[key])) for key in ids]
        individual = [codes.setdefault(animal, len(codes)) for animal in animals]
        of_group = [groups.setdefault(Group(name, side or one.viewpoint), len(groups)) for one in of_gallery]
        ranking = rank_one_vs_all(
            np.asarray(embeddings.vectors[[row_of[key] for key in ids]]),
            labels=np.array(individual, np.int64),
            groups=codes_of([split.encounter[key] for key in ids]),
            k=depth,
        )
        parts.append((ids, individual, of_group, ranking))
    if not parts:
        raise InputError(f"split {split.name!r} has no test annotation with a vector; make another split")
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    shifted = [
        np.where(part[3].neighbours >= 0, part[3].neighbours + start, -1)
        for part, start in zip(parts, starts, strict=False)
    ]
    return Shortlists(
        tuple(key for part in parts for key in part[0]),
        np.array([code for part in parts for code in part[1]], np.int64),
        tuple(groups),
        np.array([place for part in parts for place in part[2]], np.int64),
        np.repeat(np.arange(len(parts)), np.diff(starts)),
        np.concatenate(shifted),
        np.concatenate([part[3].scores for part in parts]),
        np.concatenate([part[3].n_possible > 0 for part in parts]),
    )


def lengths_of(shortlists: Shortlists, *, wanted: float | None, longest: int) -> dict[str, Length]:
    """Species → how long its shortlist has to be to hold the right animal for that share of the queries.

    Args:
        shortlists: At least ``longest`` deep, or as deep as the galleries are.
        wanted: See :func:`resight.calibration.stopping.length_for`, also for ``longest``.
        longest: Likewise.
    """
    same = shortlists.held & (shortlists.names == shortlists.individual[:, None])
    others = np.bincount(shortlists.gallery)[shortlists.gallery] - 1
    can_match = {
        name: rows[shortlists.can_match[rows]]
        for name, rows in rows_by_species(shortlists.groups, shortlists.group_of).items()
    }
    return {
        name: length_for(same[rows], others[rows], wanted=wanted, longest=longest) for name, rows in can_match.items()
    }


def stops_of(shortlists: Shortlists, local: LocalArrays, *, shortlist: int | Ints) -> dict[str, Stop]:
    """Species → from which local evidence on a candidate is decisive; see :func:`pairs_of`."""
    first = slice(0, int(np.max(shortlist)))
    lists = shortlists.cut(shortlist)
    held, names = lists.held[:, first], lists.names[:, first]
    sums = np.asarray(local["local_sum"], np.float64)[:, first]
    found = {
        name: find_stop(sums[rows], names[rows] == lists.individual[rows, None], held[rows], lists.individual[rows])
        for name, rows in rows_by_species(lists.groups, lists.group_of).items()
    }
    return {name: stop for name, stop in found.items() if stop is not None}


def pairs_of(
    shortlists: Shortlists, local: LocalArrays | None, *, shortlist: int | Ints, decisive: Doubles | None = None
) -> Pairs:
    """The confirmed and refuted pairs of the first ``shortlist`` candidates of every query.

    Args:
        shortlists: From :func:`shortlists_of`.
        local: Local evidence of each pair, (n, depth or shortlist) arrays; see
            :func:`resight.calibration.evidence.candidates_of`.
        shortlist: As many as matching looks at, of all queries or (n,) of each.
        decisive: (n,) the sum from which on a candidate ends the search: pairs that matching would not compare have
            no local evidence then. ``None`` compares all.
    """
    first = slice(0, int(np.max(shortlist)))
    cut = shortlists.cut(shortlist)
    held, names = cut.held[:, first], cut.names[:, first]
    columns = None if local is None else {name: np.asarray(values)[:, first] for name, values in local.items()}
    candidates = candidates_of(cut.cosine[:, first], names, held, as_compared(columns, held, decisive))
    query = np.nonzero(held)[0]
    return Pairs(
        candidates,
        names[held] == shortlists.individual[query],
        shortlists.neighbours[:, first][held],
        shortlists.individual[query],
        shortlists.groups,
        shortlists.group_of[query],
    )


def as_compared(columns: LocalArrays | None, held: Bools, decisive: Doubles | None) -> LocalArrays | None:
    """Local evidence as matching has it: none of what stands behind a decisive candidate's group."""
    if columns is None or decisive is None:
        return columns
    looked = looked_at(np.asarray(columns["local_sum"], np.float64), held, decisive)
    return {name: np.where(looked, values, np.nan) for name, values in columns.items()}
