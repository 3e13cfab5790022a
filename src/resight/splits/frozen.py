"""What a split is once it is made: frozen values, and the names of the steps that made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Subset = Literal["train", "test", "set_aside"]

PROTOCOLS = ("paper", "time", "disjoint")
TRAIN_SHARE_FORMULA = "f(N) = 0.5 + 0.3 * N / (N + 500), N = individuals of the species"
MOST_PER_TEST_IDENTITY = 10
LEAST_PER_TEST_IDENTITY = 2
LEAST_PER_TRAIN_IDENTITY = 3

STEP_LEAK = "image or encounter in training"
STEP_ENCOUNTER = "one annotation an encounter in test"
STEP_MOST = "at most 10 annotations an identity in test"
STEP_LEAST_TEST = "at least 2 annotations an identity in test"
STEP_LEAST_TRAIN = "at least 3 annotations an identity in training"
STEP_OTHER_SIDE = "neither seen nor unseen"
STEP_SURPLUS_SEEN = "surplus of seen identities"
STEP_SURPLUS_UNSEEN = "surplus of unseen identities"
STEP_RETURNED = "returned to training"
CLASH = "their photo or encounter is on the other side in another species"


@dataclass(frozen=True, slots=True)
class SplitMember:
    """One annotation of a split, with what it was when the split was made."""

    annotation_id: str
    species: str
    individual: str
    identity: str
    encounter: str
    subset: Subset


@dataclass(frozen=True, slots=True)
class FilterStep:
    """What one filter did in one round.

    Attributes:
        annotations: Annotations it took out of test; of training for ``STEP_LEAST_TRAIN``; put back into training for
            ``STEP_RETURNED``.
        identities: Identities that had no annotation left there afterwards; 0 for ``STEP_RETURNED``.
    """

    species: str
    round: int
    step: str
    annotations: int
    identities: int


@dataclass(frozen=True, slots=True)
class SplitSpecies:
    """Counts of one species. Where sides differ, ``*_individuals`` count identities (a side of an individual each).

    Attributes:
        train_share: f(N), or the fraction asked for: the share of individuals that go to training at least.
        test_individuals_seen: Test identities that are also in training; the others are of individuals of which
            nothing is in training or set aside.
        unused: Annotations that could be used and are in no subset.
    """

    species: str
    train_share: float
    train_annotations: int
    train_individuals: int
    test_annotations: int
    test_individuals: int
    test_individuals_seen: int
    set_aside_annotations: int
    set_aside_individuals: int
    unused: int


@dataclass(frozen=True)
class Split:
    """A split as it is frozen.

    Attributes:
        train_fraction: The fraction asked for, ``None`` for ``formula``.
        formula: How the share of training follows from the number of individuals.
        members: Sorted by annotation_id; what is in no subset is not among them.
        filters: Every filter of every round, species by species, in the order in which they ran.
        left_out: Reason → how many annotations could not be used at all.
        unused: Sorted ids of annotations that could be used and are in no subset.
        warnings: One line each, beginning with the species where it concerns one.
    """

    name: str
    protocol: str
    seed: int
    train_fraction: float | None
    formula: str
    members: tuple[SplitMember, ...]
    species: tuple[SplitSpecies, ...]
    filters: tuple[FilterStep, ...]
    left_out: dict[str, int]
    unused: tuple[str, ...]
    warnings: tuple[str, ...]
