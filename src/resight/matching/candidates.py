"""The shortlist: which annotations a query is compared with, which are left out and why, and the nearest of them.

Every annotation of the species is either compared or counted under one reason, so nothing is filtered in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.catalogue.policy import separates_sides
from resight.embedding import EmbeddingSet
from resight.errors import InputError
from resight.ranking import rank, unit_rows
from resight.settings import SIDES, Policy
from resight.types import Annotation, Box

SAME_PHOTO, SAME_ENCOUNTER, OTHER_SIDE = "same photo", "same encounter", "other side"
BY_POLICY, BY_RULE, UNUSABLE = "viewpoint policy", "quality rule", "photo cannot be used"


@dataclass(frozen=True)
class Query:
    """One animal to be identified, from one photo or several.

    Attributes:
        image: The photo, or the photos joined by ``, ``, as the user named them.
        species: What it is compared inside.
        viewpoint: From where it is seen; ``None`` compares with every side.
        places: Per photo, the box and theta that were cut; ``None`` is the whole photo.
        vectors: (photos, dim) float16.
        own_photos: Content hashes of the photos.
        own_annotations: Annotations of the catalogue that show the very same animal in the same photos.
        own_encounters: The encounters of these.
    """

    image: str
    species: str
    viewpoint: str | None
    places: tuple[tuple[Box | None, float], ...]
    vectors: NDArray[np.float16]
    own_photos: frozenset[str]
    own_annotations: frozenset[str]
    own_encounters: frozenset[str]


@dataclass(frozen=True)
class Candidate:
    """An annotation of the catalogue as an answer.

    ``score`` is the cosine, ``p_same`` needs a calibration; ``proposed`` names the values that nobody has accepted yet.
    """

    rank: int
    annotation_id: str
    individual_id: str | None
    score: float
    p_same: float | None
    viewpoint: str | None
    encounter: str | None
    file_name: str
    proposed: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedCandidate:
    """An individual as an answer: its best annotation stands for it."""

    rank: int
    individual_id: str
    annotation_id: str
    score: float
    p_same: float | None


@dataclass(frozen=True)
class Match:
    """The answer to one query.

    Attributes:
        model: The model whose vectors were compared.
        compared: How many annotations it was compared with.
        of: How many annotations of the species there are; ``compared`` and all of ``excluded`` add up to it.
        excluded: Reason → how many were left out for it.
        p_new: Probability that the animal is not in the catalogue; needs a calibration.
        candidates: The nearest annotations, whatever their individual (paper §4).
        individuals: Each name among them once, by its best.
        boxes: What was cut of each photo, by which the animals of one photo are told apart; ``None`` is all of it.
        note: What was taken from the catalogue for this query, or ``None``.
    """

    image: str
    model: str
    species: str
    viewpoint: str | None
    compared: int
    of: int
    excluded: Mapping[str, int]
    p_new: float | None
    candidates: tuple[Candidate, ...]
    individuals: tuple[NamedCandidate, ...]
    boxes: tuple[Box | None, ...]
    note: str | None = None


def find_candidates(
    query: Query,
    gallery: Sequence[Annotation],
    embeddings: EmbeddingSet,
    row_of: Mapping[str, int],
    policy: Policy,
    *,
    k: int,
    note: str | None = None,
) -> Match:
    """Compare a query with every annotation of its species that it may be compared with.

    Several photos of one animal are one query: the mean of their unit vectors.

    Args:
        query: What is asked for.
        gallery: All annotations of the species.
        embeddings: Vectors by the same model as the query's.
        row_of: ``embeddings.row_of()``, made once for many queries.
        policy: The species' viewpoint policy.
        k: How many annotations to return.
        note: Carried into the answer.

    Raises:
        InputError: ``k`` below 1.
    """
    if k < 1:
        raise InputError(f"-k {k}: expected at least 1 candidate")
    excluded: Counter[str] = Counter()
    compared: list[Annotation] = []
    for annotation in gallery:
        reason = _reason_to_leave_out(annotation, query, policy, row_of)
        if reason is None:
            compared.append(annotation)
        else:
            excluded[reason] += 1
    candidates = _nearest(query, compared, embeddings.vectors[[row_of[a.annotation_id] for a in compared]], k)
    return Match(
        query.image,
        embeddings.model,
        query.species,
        query.viewpoint,
        len(compared),
        len(gallery),
        dict(excluded),
        None,
        candidates,
        _each_name_once(candidates),
        tuple(box for box, _ in query.places),
        note,
    )


def _reason_to_leave_out(annotation: Annotation, query: Query, policy: Policy, row_of: Mapping[str, int]) -> str | None:
    if annotation.content_hash in query.own_photos or annotation.annotation_id in query.own_annotations:
        return SAME_PHOTO
    if annotation.encounter in query.own_encounters:
        return SAME_ENCOUNTER
    if not annotation.allowed:
        return BY_POLICY
    if annotation.filtered is not None:
        return f"{BY_RULE} {annotation.filtered}"
    sides = (query.viewpoint, annotation.viewpoint)
    if separates_sides(policy) and all(side in SIDES for side in sides) and sides[0] != sides[1]:
        return OTHER_SIDE
    if annotation.annotation_id not in row_of:
        return UNUSABLE
    return None


def _nearest(query: Query, compared: Sequence[Annotation], vectors: NDArray[Any], k: int) -> tuple[Candidate, ...]:
    if not compared:
        return ()
    mean = unit_rows(query.vectors, "the query").mean(axis=0, keepdims=True)
    unknown = np.full(len(compared), -1, dtype=np.int64)
    ranking = rank(mean, np.asarray(vectors), query_labels=unknown[:1], gallery_labels=unknown, k=min(k, len(compared)))
    found = []
    for place, row in enumerate(ranking.neighbours[0]):
        annotation = compared[row]
        found.append(
            Candidate(
                rank=place + 1,
                annotation_id=annotation.annotation_id,
                individual_id=annotation.individual,
                score=round(float(ranking.scores[0, place]), 6),
                p_same=None,
                viewpoint=annotation.viewpoint,
                encounter=annotation.encounter if annotation.encounter_known else None,
                file_name=annotation.file_name,
                proposed=tuple(sorted(annotation.proposed)),
            )
        )
    return tuple(found)


def _each_name_once(candidates: Sequence[Candidate]) -> tuple[NamedCandidate, ...]:
    best: dict[str, Candidate] = {}
    for candidate in candidates:
        if candidate.individual_id is not None:
            best.setdefault(candidate.individual_id, candidate)
    return tuple(
        NamedCandidate(place, name, candidate.annotation_id, candidate.score, candidate.p_same)
        for place, (name, candidate) in enumerate(best.items(), start=1)
    )
