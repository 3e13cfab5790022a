"""What a split is once it is made: frozen values, and the names of the steps that made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Subset = Literal["train", "test", "set_aside"]

PROTOCOLS = ("paper", "time", "disjoint")  # drawn; a split read from a table has IMPORTED
IMPORTED = "imported"
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
CLASH_INDIVIDUAL = "their photo, encounter or individual is on the other side in another species"


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
        train_share: f(N), or the fraction asked for: the share of individuals that go to training at least. By time,
            the share of annotations that lie before the date: f(N) or the fraction where the date was looked for,
            what it came to where the date was given. Of an imported split, what its members came to.
        test_individuals_seen: Test identities that are also in training; the others are of individuals of which
            nothing is in training, nor set aside (by time, a few earlier photos may be set aside).
        unused: Annotations that could be used and are in no subset.
        date: The first day of test, YYYY-MM-DD; ``None`` unless the protocol is ``time``.
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
    date: str | None = None


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two annotations of one individual in different encounters that are almost the same picture.

    Attributes:
        annotation_ids: In rising order.
        subsets: Of each.
        distance: Bits in which their hashes differ.
    """

    species: str
    individual: str
    annotation_ids: tuple[str, str]
    subsets: tuple[Subset, Subset]
    distance: int


@dataclass(frozen=True, slots=True)
class DuplicateCounts:
    """What was found in one species.

    Attributes:
        photos: Annotations that are almost the same picture as one of another encounter.
        individuals: Individuals that they show.
        across: Those of the photos whose likeness is on the other side, of training and test.
        pairs: Pairs of such photos.
    """

    species: str
    photos: int
    individuals: int
    across: int
    pairs: int


@dataclass(frozen=True)
class NearDuplicates:
    """Photos of one individual in different encounters that are almost the same picture.

    Attributes:
        limit: The most bits in which two hashes may differ.
        compared: Annotations that were compared: those with a hash, of individuals with more than one encounter.
        not_read: Annotations that should have been compared and have no hash, since their photo could not be read.
        n_pairs: How many pairs there are.
        species: The species that have any.
        pairs: The first of them: across training and test before others, then the most alike.
    """

    limit: int
    compared: int
    not_read: int
    n_pairs: int
    species: tuple[DuplicateCounts, ...]
    pairs: tuple[DuplicatePair, ...]


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
        near_duplicates: Photos of different encounters that are almost the same; ``None`` where nobody looked.
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
    near_duplicates: NearDuplicates | None = None
