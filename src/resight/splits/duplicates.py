"""Near-duplicates: photos of one individual in different encounters that are almost the same picture.

Such a pair is rarely two encounters: it is one burst that was cut in two, a frame of one video under two dates, or a
copy. Across training and test it flatters any score. Pictures come as 64-bit hashes (``resight.images.
perceptual_hash``), and two are almost the same where few bits differ; nothing is read here.

In a split only photos of one individual are compared with each other, so the work grows with the square of an
individual's photos and not with that of the catalogue. :func:`alike` finds the pairs among any number of hashes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from resight.splits.frozen import DuplicateCounts, DuplicatePair, NearDuplicates, Split, SplitMember

MOST_BITS = 6
"""The most bits in which hashes of almost the same picture differ; docs/adr/0010 says what was measured."""
LISTED = 200
_BLOCK = 1024  # rows that are compared at once: what differs of 1024 × 1024 is 8 MiB
_DENSE = 4096  # up to so many, all are compared with all
_SIDES = {"train": 1, "test": 2, "set_aside": 0}


def to_compare(members: Iterable[SplitMember]) -> set[str]:
    """The ids of annotations that can have a near-duplicate: their individual has more than one encounter."""
    encounters: dict[tuple[str, str], set[str]] = defaultdict(set)
    members = list(members)
    for member in members:
        encounters[member.species, member.individual].add(member.encounter)
    return {m.annotation_id for m in members if len(encounters[m.species, m.individual]) > 1}


def near_duplicates(
    members: Sequence[SplitMember], hashes: Mapping[str, int], *, limit: int = MOST_BITS, listed: int = LISTED
) -> NearDuplicates:
    """Find pairs of photos of one individual in different encounters whose hashes are nearly the same.

    Args:
        members: Of a split.
        hashes: annotation_id → 64-bit hash of the picture inside its box; those that have none are not compared.
        limit: The most bits that may differ.
        listed: How many pairs are listed at most; all are counted.
    """
    wanted = to_compare(members)
    of_individual: dict[tuple[str, str], list[SplitMember]] = defaultdict(list)
    for member in members:
        if member.annotation_id in wanted and member.annotation_id in hashes:
            of_individual[member.species, member.individual].append(member)
    counts: dict[str, DuplicateCounts] = {}
    pairs: list[DuplicatePair] = []
    for (species, individual), mine in sorted(of_individual.items()):
        mine.sort(key=lambda member: member.annotation_id)
        found = _Individual(mine, hashes, limit, listed)
        if not found.n_pairs:
            continue
        before = counts.get(species, DuplicateCounts(species, 0, 0, 0, 0))
        counts[species] = DuplicateCounts(
            species,
            before.photos + int(found.alike.sum()),
            before.individuals + 1,
            before.across + int(found.across.sum()),
            before.pairs + found.n_pairs,
        )
        pairs += [
            DuplicatePair(
                species,
                individual,
                (mine[i].annotation_id, mine[j].annotation_id),
                (mine[i].subset, mine[j].subset),
                distance,
            )
            for i, j, distance in found.pairs
        ]
        if len(pairs) > 10 * listed:
            pairs = sorted(pairs, key=_gravest)[:listed]
    compared = sum(map(len, of_individual.values()))
    return NearDuplicates(
        limit=limit,
        compared=compared,
        not_read=len(wanted) - compared,
        n_pairs=sum(one.pairs for one in counts.values()),
        species=tuple(counts.values()),
        pairs=tuple(sorted(pairs, key=_gravest)[:listed]),
    )


def with_near_duplicates(split: Split, hashes: Mapping[str, int]) -> Split:
    """The split with what was found among its members, and a warning for every species that has any."""
    found = near_duplicates(split.members, hashes)
    warnings = [
        f"{one.species}: {one.photos:,} photos of {one.individuals:,} individuals are almost the same picture as one "
        f"of another encounter, {one.across:,} of them across train and test"
        for one in found.species
    ]
    if found.not_read:
        warnings.append(
            f"{found.not_read:,} photos could not be read, so nobody knows whether they are almost the same as others"
        )
    return replace(split, warnings=(*split.warnings, *warnings), near_duplicates=found)


def _gravest(pair: DuplicatePair) -> tuple[object, ...]:
    return set(pair.subsets) != {"train", "test"}, pair.distance, pair.species, pair.annotation_ids


class _Individual:
    """The near-duplicates of one individual.

    Attributes:
        alike: (n,) bool, photos with a likeness in another encounter.
        across: (n,) bool, photos with one on the other side.
        n_pairs: How many pairs there are.
        pairs: The gravest, as (place, place, distance).
    """

    def __init__(self, mine: Sequence[SplitMember], hashes: Mapping[str, int], limit: int, listed: int) -> None:
        names = sorted({member.encounter for member in mine})
        number = {name: place for place, name in enumerate(names)}
        encounter = np.array([number[member.encounter] for member in mine])
        side = np.array([_SIDES[member.subset] for member in mine])
        bits_of = np.array([hashes[member.annotation_id] for member in mine], dtype=np.uint64)
        self.alike = np.zeros(len(mine), bool)
        self.across = np.zeros(len(mine), bool)
        self.n_pairs = 0
        n = len(mine)
        kept = np.empty(
            0, np.int64
        )  # ((within one side, distance), i, j) as one number, so that the gravest are lowest
        for i, j, bits in alike(bits_of, limit):
            apart = encounter[i] != encounter[j]
            i, j, bits = i[apart], j[apart], bits[apart]
            across = side[i] * side[j] == _SIDES["train"] * _SIDES["test"]
            self.n_pairs += len(i)
            self.alike[i] = self.alike[j] = True
            self.across[i[across]] = self.across[j[across]] = True
            kept = np.concatenate([kept, ((128 * ~across + bits) * n + i) * n + j])
            if len(kept) > listed:
                kept = np.partition(kept, listed)[:listed]
        self.pairs = [(place // n % n, place % n, place // n**2 % 128) for place in sorted(kept.tolist())]


Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def alike(hashes: NDArray[np.uint64], limit: int) -> Iterator[Pairs]:
    """Find every pair of hashes that differ in at most ``limit`` bits, each once, a block of pairs at a time.

    A few thousand are all compared with each other. More are sorted by each of ``limit`` + 1 pieces of their bits: of
    two that differ in no more than ``limit`` bits one piece at least is the same (Norouzi et al. 2012), so only those
    that share a piece are compared.

    Args:
        hashes: (n,) uint64.
        limit: From 0 to 63.

    Yields:
        (pairs,) int64 each: the place of the first, that of the second, which is the greater, and the bits in which
        they differ.
    """
    return _all_with_all(hashes, limit) if len(hashes) <= _DENSE else _by_pieces(hashes, limit)


def _all_with_all(hashes: NDArray[np.uint64], limit: int) -> Iterator[Pairs]:
    for top in range(0, len(hashes), _BLOCK):
        for left in range(top, len(hashes), _BLOCK):
            bits = np.bitwise_count(hashes[top : top + _BLOCK, None] ^ hashes[None, left : left + _BLOCK])
            near = bits <= limit
            i, j = np.nonzero(np.triu(near, 1) if left == top else near)
            yield i + top, j + left, bits[i, j].astype(np.int64)


def _by_pieces(hashes: NDArray[np.uint64], limit: int) -> Iterator[Pairs]:
    edges = [64 * place // (limit + 1) for place in range(limit + 2)]
    pieces = [np.uint64(((1 << high) - 1) ^ ((1 << low) - 1)) for low, high in pairwise(edges)]
    for number, piece in enumerate(pieces):
        order = np.argsort(hashes & piece, kind="stable")
        ordered = hashes[order]
        value = ordered & piece
        end = np.searchsorted(value, value, side="right")  # behind the last that shares the piece
        place = np.arange(len(hashes))
        step = 1
        while len(place := place[place + step < end[place]]):
            # In blocks that stay in the processor's cache.
            for start in range(0, len(place), 64 * _BLOCK):
                first = place[start : start + 64 * _BLOCK]
                differing = ordered[first] ^ ordered[first + step]
                bits = np.bitwise_count(differing)
                near = np.flatnonzero(bits <= limit)
                for earlier in pieces[:number]:  # what shares one of these was found by it
                    near = near[(differing[near] & earlier) != 0]
                i, j = order[first[near]], order[first[near] + step]
                yield np.minimum(i, j), np.maximum(i, j), bits[near].astype(np.int64)
            step += 1
