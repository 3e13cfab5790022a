"""Frozen splits into training and test: species by species, and what cannot be used is counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

from resight.catalogue.policy import animal_of
from resight.errors import InputError, UnknownName
from resight.progress import track
from resight.splits.by_time import TimeSplit, day_of, parse_day
from resight.splits.disjoint import DisjointSplit
from resight.splits.duplicates import near_duplicates, to_compare, with_near_duplicates
from resight.splits.frozen import (
    CLASH,
    CLASH_INDIVIDUAL,
    IMPORTED,
    PROTOCOLS,
    TRAIN_SHARE_FORMULA,
    DuplicatePair,
    FilterStep,
    NearDuplicates,
    Split,
    SplitMember,
    SplitSpecies,
    Subset,
)
from resight.splits.imported import read_split
from resight.splits.members import member_of, warnings_of_copies, why_left_out
from resight.splits.paper import SpeciesSplit, photo_of, train_share
from resight.types import Annotation

__all__ = [
    "IMPORTED",
    "PROTOCOLS",
    "TRAIN_SHARE_FORMULA",
    "DuplicatePair",
    "FilterStep",
    "NearDuplicates",
    "Split",
    "SplitMember",
    "SplitSpecies",
    "make_split",
    "near_duplicates",
    "read_split",
    "to_compare",
    "train_share",
    "with_near_duplicates",
]

NO_DATE = "no date"


def make_split(
    annotations: Sequence[Annotation],
    *,
    name: str,
    seed: int,
    protocol: str = "paper",
    train_fraction: float | Literal["auto"] = "auto",
    date: str | None = None,
) -> Split:
    """Divide annotations into training and test.

    Args:
        annotations: All of the catalogue, in any order.
        name: Of the split.
        seed: The same seed gives the same split of the same annotations.
        protocol: ``paper`` (half of the test identities are also trained on), ``disjoint`` (no individual is on both
            sides) or ``time`` (trained on before a date, tested from it on).
        train_fraction: Share of a species' individuals that go to training at least, above 0 and below 1; ``auto``
            takes ``train_share``. By time, the share of its annotations that should lie before the date.
        date: By time alone, the first day of test of every species, YYYY-MM-DD; ``None`` looks for each species' own.

    Raises:
        InputError: an unknown protocol, a fraction out of range, a date that is none or has no use, or two
            annotations of one id.
    """
    if protocol not in PROTOCOLS:
        raise UnknownName.among("split protocol", protocol, PROTOCOLS)
    if train_fraction != "auto" and not 0 < train_fraction < 1:
        raise InputError(f"train fraction {train_fraction} must lie above 0 and below 1; leave it out for the formula")
    fraction = None if train_fraction == "auto" else float(train_fraction)
    day = None if date is None else parse_day(date)
    if day is not None and protocol != "time":
        raise InputError(f"date {date!r} means nothing to the protocol {protocol}; use it with --protocol time")
    if day is not None and fraction is not None:
        raise InputError(f"date {date!r} and train fraction {fraction} both say what is trained on; give one of them")

    def of_species(species: str, annotations: list[Annotation]) -> SpeciesSplit:
        if protocol == "time":
            return TimeSplit(species, annotations, seed, fraction, day)
        return (DisjointSplit if protocol == "disjoint" else SpeciesSplit)(species, annotations, seed, fraction)

    usable: dict[str, list[Annotation]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    undated: Counter[str] = Counter()
    previous = None
    for annotation in sorted(annotations, key=lambda annotation: annotation.annotation_id):
        if annotation.annotation_id == previous:
            raise InputError(f"annotation id {previous!r} is there twice; every annotation needs its own id")
        previous = annotation.annotation_id
        if (reason := why_left_out(annotation)) is not None:
            left_out[reason] += 1
        elif protocol == "time" and day_of(annotation) is None:
            left_out[NO_DATE] += 1
            undated[annotation.known_species] += 1
        else:
            usable[annotation.known_species].append(annotation)

    members: list[SplitMember] = []
    unused: list[str] = []
    filters: list[FilterStep] = []
    counts: list[SplitSpecies] = []
    warnings: list[str] = []
    sides: dict[Subset, set[str]] = {"train": set(), "test": set(), "set_aside": set()}
    for species in sorted(undated.keys() - usable.keys()):
        warnings.append(f"{species}: left out: none of its {undated[species]} annotations has a date")
    keep_apart, clash = (
        (_with_individual, CLASH_INDIVIDUAL) if protocol == "disjoint" else (_photo_and_encounter, CLASH)
    )
    for species in track(sorted(usable), "split", len(usable)):
        one, subsets, clashing = _split_apart(partial(of_species, species), usable[species], sides, keep_apart)
        unused += clashing
        if clashing:
            warnings.append(f"{species}: {len(clashing)} annotations not used: {clash}")
        for annotation, subset in zip(one.annotations, subsets, strict=True):
            if subset is None:
                unused.append(annotation.annotation_id)
            else:
                members.append(member_of(annotation, subset))
                sides[subset].update(keep_apart(annotation))
        filters += one.filters
        counts.append(replace(one.counts(subsets), unused=one.counts(subsets).unused + len(clashing)))
        warnings += one.warnings
    members.sort(key=lambda member: member.annotation_id)
    warnings += warnings_of_copies(one for found in usable.values() for one in found)
    if not counts:
        warnings.append("no annotation can be used: see what was left out, and why")
    return Split(
        name=name,
        protocol=protocol,
        seed=seed,
        train_fraction=fraction,
        formula=_formula(protocol, fraction, date),
        members=tuple(members),
        species=tuple(counts),
        filters=tuple(filters),
        left_out=dict(sorted(left_out.items())),
        unused=tuple(sorted(unused)),
        warnings=tuple(warnings),
    )


def _formula(protocol: str, fraction: float | None, date: str | None) -> str:
    if date is not None:
        return f"what is before {date} is trained on, what is from that day on is tested"
    if protocol == "time":
        share = TRAIN_SHARE_FORMULA if fraction is None else str(fraction)
        return f"the share of each species' annotations before its date is nearest to {share}"
    return TRAIN_SHARE_FORMULA if fraction is None else f"{fraction} of the individuals of every species"


def _photo_and_encounter(annotation: Annotation) -> tuple[str, ...]:
    return f"photo {photo_of(annotation)}", f"encounter {annotation.encounter}"


def _with_individual(annotation: Annotation) -> tuple[str, ...]:
    """The photo, the encounter, and the animal: body and head of one are two species of one name before the part."""
    individual = f"individual {animal_of(annotation.known_species)}\0{annotation.individual}"
    return *_photo_and_encounter(annotation), individual


def _split_apart(
    split: Callable[[list[Annotation]], SpeciesSplit],
    annotations: list[Annotation],
    sides: Mapping[Subset, set[str]],
    keep_apart: Callable[[Annotation], tuple[str, ...]],
) -> tuple[SpeciesSplit, list[Subset | None], list[str]]:
    """Split a species so that it shares nothing to keep apart with the other side of the species before it.

    Body and head of one animal are two species strings and often one photo. Draws go by names, so such an animal
    mostly falls on the same side twice; where it does not, its annotations are left unused.

    Returns:
        The split, the subset of each of its annotations, and the ids that were left unused.
    """
    clashing: list[str] = []
    while True:
        one = split(annotations)
        one.run()
        subsets = one.subsets()
        other: dict[Subset | None, Subset] = {"train": "test", "test": "train"}
        clash = {
            annotation.annotation_id
            for annotation, subset in zip(one.annotations, subsets, strict=True)
            if subset in other and not sides[other[subset]].isdisjoint(keep_apart(annotation))
        }
        if not clash:
            return one, subsets, clashing
        clashing += sorted(clash)
        annotations = [annotation for annotation in annotations if annotation.annotation_id not in clash]
