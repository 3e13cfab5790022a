"""Which pictures of animals are almost the same, and which one of them stands for the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from resight.catalogue.quality import NEAR_DUPLICATE
from resight.splits.duplicates import MOST_BITS, alike
from resight.types import Annotation

COPY_BITS = 2
"""The most bits in which a copy of a picture differs that was saved smaller or at a lower quality."""


def near_duplicate_of(
    annotations: Iterable[Annotation], fingerprints: Mapping[str, tuple[int, float]]
) -> dict[str, str]:
    """Which annotations show almost the same picture as a better one, and which one that is.

    Two pictures of one species are near-duplicates where their hashes differ in at most
    :data:`resight.splits.duplicates.MOST_BITS` bits and they are known to show one animal or were taken in one
    encounter; else where they differ in at most :data:`COPY_BITS`, as a copy of one file does. The same photo twice is
    two animals, and so are two different names.

    One annotation stands for all that are near to it, and each of these is near to it itself: no chain of pictures,
    each a little different from the one before, makes one of the first and the last. One that a rule leaves out for
    another reason stands for none that may stay; of the others those of known individuals come first, for a label is
    worth more than sharpness; then the sharpest.

    Args:
        annotations: Of any species; those without one are compared with each other.
        fingerprints: Annotation → hash and sharpness; those that are not named are not compared.

    Returns:
        Annotation → the one that stands for it, for all for which another one stands.
    """
    of_species: dict[str | None, list[Annotation]] = defaultdict(list)
    for one in annotations:
        if one.annotation_id in fingerprints:
            of_species[one.species].append(one)
    found: dict[str, str] = {}
    for members in of_species.values():
        members.sort(
            key=lambda one: (
                _is_left_out(one), one.individual is None, -fingerprints[one.annotation_id][1], one.annotation_id
            )
        )  # fmt: skip
        found.update(_near_duplicates(members, [fingerprints[one.annotation_id][0] for one in members]))
    return found


def _is_left_out(one: Annotation) -> bool:
    """Whether it takes no part in matching, for any other reason than being a near-duplicate."""
    by_rule = one.filtered not in (None, NEAR_DUPLICATE)
    return by_rule or not one.allowed or one.image_status == "quarantined"


def _near_duplicates(members: Sequence[Annotation], hashes: Sequence[int]) -> dict[str, str]:
    """Those of one species, whose members come in the order in which they stand for others."""
    unique, which = np.unique(np.array(hashes, np.uint64), return_inverse=True)
    start, other_hash, bits = _neighbours(unique)
    bearing: dict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(which.tolist()):
        bearing[number].append(place)
    stands_for: dict[int, int] = {}
    for place, number in enumerate(which.tolist()):
        if place in stands_for:
            continue
        mine = slice(start[number], start[number + 1])
        near = zip(other_hash[mine].tolist(), bits[mine].tolist(), strict=True)
        for hash_number, n_bits in ((number, 0), *near):
            for other in bearing[hash_number]:
                free = other > place and other not in stands_for
                if free and _are_near(members[place], members[other], n_bits):
                    stands_for[other] = place
    return {members[other].annotation_id: members[place].annotation_id for other, place in stands_for.items()}


def _neighbours(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8]]:
    """For every hash those near to it; series of a still camera have millions of pairs, so they are kept packed.

    Returns:
        (n + 1,) where the neighbours of each begin; (pairs,) which hashes they are; (pairs,) bits that differ.
    """
    parts = [
        (i.astype(np.int32), j.astype(np.int32), bits.astype(np.uint8)) for i, j, bits in alike(hashes, MOST_BITS)
    ] or [(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.uint8))]
    i, j, bits = (np.concatenate(column) for column in zip(*parts, strict=True))
    one, other = np.concatenate([i, j]), np.concatenate([j, i])
    order = np.argsort(one, kind="stable")
    start = np.zeros(len(hashes) + 1, np.int64)
    np.cumsum(np.bincount(one, minlength=len(hashes)), out=start[1:])
    return start, other[order], np.concatenate([bits, bits])[order]


def _are_near(one: Annotation, other: Annotation, n_bits: int) -> bool:
    known = None not in (one.individual, other.individual)
    same_animal = one.individual == other.individual
    if one.image_id == other.image_id or (known and not same_animal):
        return False
    return n_bits <= COPY_BITS or (known and same_animal) or one.encounter == other.encounter
