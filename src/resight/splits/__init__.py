"""Frozen splits into training and test: species by species, and what cannot be used is counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from resight.errors import InputError, NotBuiltYet, UnknownName
from resight.progress import track
from resight.splits.frozen import (
    CLASH,
    PROTOCOLS,
    TRAIN_SHARE_FORMULA,
    FilterStep,
    Split,
    SplitMember,
    SplitSpecies,
    Subset,
)
from resight.splits.paper import SpeciesSplit, identity_of, photo_of, train_share
from resight.types import Annotation

__all__ = ["TRAIN_SHARE_FORMULA", "FilterStep", "Split", "SplitMember", "SplitSpecies", "make_split", "train_share"]


def make_split(
    annotations: Sequence[Annotation],
    *,
    name: str,
    seed: int,
    protocol: str = "paper",
    train_fraction: float | Literal["auto"] = "auto",
) -> Split:
    """Divide annotations into training and test.

    Args:
        annotations: All of the catalogue, in any order.
        name: Of the split.
        seed: The same seed gives the same split of the same annotations.
        protocol: ``paper``.
        train_fraction: Share of a species' individuals that go to training at least, above 0 and below 1; ``auto``
            takes ``train_share``.

    Raises:
        NotBuiltYet: the protocol is part of the contract and not there yet.
        InputError: an unknown protocol, a fraction out of range, or two annotations of one id.
    """
    if protocol not in PROTOCOLS:
        raise UnknownName.among("split protocol", protocol, PROTOCOLS)
    if protocol != "paper":
        raise NotBuiltYet(f"split protocol {protocol!r} is not built yet; use --protocol paper")
    if train_fraction != "auto" and not 0 < train_fraction < 1:
        raise InputError(f"train fraction {train_fraction} must lie above 0 and below 1; leave it out for the formula")
    fraction = None if train_fraction == "auto" else float(train_fraction)

    usable: dict[str, list[Annotation]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    previous = None
    for annotation in sorted(annotations, key=lambda annotation: annotation.annotation_id):
        if annotation.annotation_id == previous:
            raise InputError(f"annotation id {previous!r} is there twice; every annotation needs its own id")
        previous = annotation.annotation_id
        if (reason := _why_left_out(annotation)) is None:
            usable[annotation.species].append(annotation)
        else:
            left_out[reason] += 1

    members: list[SplitMember] = []
    unused: list[str] = []
    filters: list[FilterStep] = []
    counts: list[SplitSpecies] = []
    warnings: list[str] = []
    sides: dict[Subset, set[str]] = {"train": set(), "test": set(), "set_aside": set()}
    for species in track(sorted(usable), "split", len(usable)):
        one, subsets, clashing = _split_apart(species, usable[species], seed, fraction, sides)
        unused += clashing
        if clashing:
            warnings.append(f"{species}: {len(clashing)} annotations not used: {CLASH}")
        for annotation, subset in zip(one.annotations, subsets, strict=True):
            if subset is None:
                unused.append(annotation.annotation_id)
            else:
                members.append(_member(annotation, subset))
                sides[subset].update(_photo_and_encounter(annotation))
        filters += one.filters
        counts.append(replace(one.counts(subsets), unused=one.counts(subsets).unused + len(clashing)))
        warnings += one.warnings
    members.sort(key=lambda member: member.annotation_id)
    unknown = sum(one.content_hash is None for found in usable.values() for one in found)
    if unknown:
        warnings.append(
            f"{unknown} annotations lie on images that were not looked at yet: copies of one photo cannot be known, "
            "and may stand on both sides; run `resight embed` before splitting"
        )
    if not counts:
        warnings.append("no annotation can be used: see what was left out, and why")
    return Split(
        name=name,
        protocol=protocol,
        seed=seed,
        train_fraction=fraction,
        formula=TRAIN_SHARE_FORMULA if fraction is None else f"{fraction} of the individuals of every species",
        members=tuple(members),
        species=tuple(counts),
        filters=tuple(filters),
        left_out=dict(sorted(left_out.items())),
        unused=tuple(sorted(unused)),
        warnings=tuple(warnings),
    )


def _why_left_out(annotation: Annotation) -> str | None:
    if annotation.individual is None:
        return "no individual"
    if not annotation.allowed:
        return "viewpoint policy"
    if annotation.image_status == "quarantined":
        return "quarantined"
    return None


def _member(annotation: Annotation, subset: Subset) -> SplitMember:
    return SplitMember(
        annotation.annotation_id,
        annotation.species,
        annotation.individual or "",
        identity_of(annotation),
        annotation.encounter,
        subset,
    )


def _photo_and_encounter(annotation: Annotation) -> tuple[str, str]:
    return f"photo {photo_of(annotation)}", f"encounter {annotation.encounter}"


def _split_apart(
    species: str,
    annotations: list[Annotation],
    seed: int,
    fraction: float | None,
    sides: Mapping[Subset, set[str]],
) -> tuple[SpeciesSplit, list[Subset | None], list[str]]:
    """Split a species so that it shares no photo or encounter with the other side of the species before it.

    Body and head of one animal are two species strings and often one photo. Draws go by names, so such an animal
    mostly falls on the same side twice; where it does not, its annotations are left unused.

    Returns:
        The split, the subset of each of its annotations, and the ids that were left unused.
    """
    clashing: list[str] = []
    while True:
        one = SpeciesSplit(species, annotations, seed, fraction)
        one.run()
        subsets = one.subsets()
        other: dict[Subset | None, Subset] = {"train": "test", "test": "train"}
        clash = {
            annotation.annotation_id
            for annotation, subset in zip(one.annotations, subsets, strict=True)
            if subset in other and not sides[other[subset]].isdisjoint(_photo_and_encounter(annotation))
        }
        if not clash:
            return one, subsets, clashing
        clashing += sorted(clash)
        annotations = [annotation for annotation in annotations if annotation.annotation_id not in clash]
