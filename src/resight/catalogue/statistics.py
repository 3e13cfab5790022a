"""Table 1 of the paper for a catalogue, and the figures of its tail (paper §3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

from resight.catalogue.policy import describe
from resight.settings import Policy
from resight.types import Annotation


@dataclass(frozen=True)
class SourceStatistics:
    """What one source holds of one species."""

    source: str
    annotations: int
    individuals: int


@dataclass(frozen=True)
class SpeciesStatistics:
    """One row of Table 1.

    Attributes:
        sources: Names of the sources that hold the species.
        by_source: The same row for each of them.
        policy: The viewpoint policy in force.
        individuals: Names known; the same animal's sides count once.
        identities: What is compared: individuals, or individuals and sides where the policy separates them.
        encounters: Encounters; an annotation without a known one counts as its own.
        viewpoints: Viewpoint → annotations.
        identities_by_viewpoint: Viewpoint → identities with an annotation from there.
        mean_per_individual: Annotations an individual, over annotations whose individual is known.
        without: What is not known of how many annotations: individual, viewpoint, date, encounter.
        proposed: Annotations of which a value is a proposal that nobody has accepted.
        filtered: Annotations that a quality rule catches.
        left_out_by_policy: Annotations whose viewpoint the policy leaves out.
        quarantined: Annotations whose picture cannot be used.
    """

    species: str
    sources: tuple[str, ...]
    by_source: tuple[SourceStatistics, ...]
    policy: str
    annotations: int
    individuals: int
    identities: int
    encounters: int
    viewpoints: Mapping[str, int]
    identities_by_viewpoint: Mapping[str, int]
    mean_per_individual: float | None
    median_per_individual: float | None
    without: Mapping[str, int]
    proposed: int
    filtered: int
    left_out_by_policy: int
    quarantined: int


@dataclass(frozen=True)
class Totals:
    """The sums over species; ``unnamed`` annotations, whose species nobody has said yet, are in none of the others."""

    species: int
    sources: int
    images: int
    annotations: int
    individuals: int
    identities: int
    encounters: int
    unnamed: int = 0


@dataclass(frozen=True)
class Tail:
    """How heavy the tail is (paper §3): annotations an individual, and species by size."""

    mean_per_individual: float | None
    median_per_individual: float | None
    species_above_10000: int
    species_below_1000: int
    species_below_500: int
    species_below_250: int


@dataclass(frozen=True)
class Statistics:
    """What ``resight stats`` prints."""

    species: tuple[SpeciesStatistics, ...]
    totals: Totals
    tail: Tail


def statistics(annotations: Sequence[Annotation], policy_of: Mapping[str, Policy]) -> Statistics:
    """Count a catalogue.

    Args:
        annotations: All of them.
        policy_of: Species → its viewpoint policy.
    """
    by_species: dict[str, list[Annotation]] = defaultdict(list)
    unnamed = [annotation for annotation in annotations if annotation.species is None]
    annotations = [annotation for annotation in annotations if annotation.species is not None]
    for annotation in annotations:
        by_species[annotation.known_species].append(annotation)
    rows = tuple(_row(species, by_species[species], policy_of[species]) for species in sorted(by_species))
    per_individual = [
        count for found in by_species.values() for count in _per_individual(found).values()
    ]  # an animal of two species strings counts in each, as in Table 1
    sizes = [row.annotations for row in rows]
    return Statistics(
        rows,
        Totals(
            species=len(rows),
            sources=len({annotation.source for annotation in annotations}),
            images=len({annotation.image_id for annotation in annotations}),
            annotations=len(annotations),
            individuals=sum(row.individuals for row in rows),
            identities=sum(row.identities for row in rows),
            encounters=sum(row.encounters for row in rows),
            unnamed=len(unnamed),
        ),
        Tail(
            mean_per_individual=_rounded_mean(per_individual),
            median_per_individual=median(per_individual) if per_individual else None,
            species_above_10000=sum(size > 10_000 for size in sizes),
            species_below_1000=sum(size < 1_000 for size in sizes),
            species_below_500=sum(size < 500 for size in sizes),
            species_below_250=sum(size < 250 for size in sizes),
        ),
    )


def _per_individual(annotations: Sequence[Annotation]) -> Counter[str]:
    return Counter(a.individual for a in annotations if a.individual is not None)


def _rounded_mean(values: Sequence[int]) -> float | None:
    return round(mean(values), 2) if values else None


def _row(species: str, annotations: Sequence[Annotation], policy: Policy) -> SpeciesStatistics:
    per_individual = _per_individual(annotations)
    identities_of: dict[str, set[str]] = defaultdict(set)
    for annotation in annotations:
        if annotation.viewpoint is not None and annotation.identity is not None:
            identities_of[annotation.viewpoint].add(annotation.identity)
    by_source: dict[str, list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        by_source[annotation.source].append(annotation)
    viewpoints = Counter(a.viewpoint for a in annotations if a.viewpoint is not None)
    return SpeciesStatistics(
        species=species,
        sources=tuple(sorted(by_source)),
        by_source=tuple(
            SourceStatistics(name, len(found), len(_per_individual(found))) for name, found in sorted(by_source.items())
        ),
        policy=describe(policy),
        annotations=len(annotations),
        individuals=len(per_individual),
        identities=len({a.identity for a in annotations if a.identity is not None}),
        encounters=len({a.encounter for a in annotations}),
        viewpoints=dict(sorted(viewpoints.items())),
        identities_by_viewpoint={name: len(found) for name, found in sorted(identities_of.items())},
        mean_per_individual=_rounded_mean(list(per_individual.values())),
        median_per_individual=median(per_individual.values()) if per_individual else None,
        without={
            "individual": sum(a.individual is None for a in annotations),
            "viewpoint": sum(a.viewpoint is None for a in annotations),
            "date": sum(a.taken_at is None for a in annotations),
            "encounter": sum(not a.encounter_known for a in annotations),
        },
        proposed=sum(bool(a.proposed) for a in annotations),
        filtered=sum(a.filtered is not None for a in annotations),
        left_out_by_policy=sum(not a.allowed for a in annotations),
        quarantined=sum(a.image_status == "quarantined" for a in annotations),
    )
