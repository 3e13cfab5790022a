"""The shortlist: which annotations a query is compared with, which are left out and why, and the nearest of them.

Every annotation of the species is either compared or counted under one reason, so nothing is filtered in silence; most
reasons can be included, which widens the comparison.

An answer is made in stages, so that local evidence and calibration can stand between them: :func:`candidate_set` says
what is compared, :func:`shortlist` finds the nearest, and :func:`as_match` tells them in the order they are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resight.catalogue.policy import separates_sides
from resight.embedding import EmbeddingSet
from resight.errors import InputError, UnknownName
from resight.ranking import rank, unit_rows
from resight.settings import SIDES, Policy
from resight.types import Annotation, Box

SAME_PHOTO, QUARANTINED, NO_VECTOR = "same-photo", "quarantined", "no-vector"
SAME_ENCOUNTER, VIEWPOINT_POLICY, QUALITY_RULE = "same-encounter", "viewpoint-policy", "quality-rule"
OTHER_SIDE, NO_VIEWPOINT = "other-side", "no-viewpoint"

REASONS: Mapping[str, str] = {
    SAME_PHOTO: "same photo",
    QUARANTINED: "quarantined",
    NO_VECTOR: "photo cannot be used",
    SAME_ENCOUNTER: "same encounter",
    VIEWPOINT_POLICY: "viewpoint policy",
    QUALITY_RULE: "quality rule",
    OTHER_SIDE: "other side",
    NO_VIEWPOINT: "no viewpoint",
}
"""Why an annotation is not compared: the name of each reason and its words, in the order in which they count. First
what nothing can change, so that including a reason frees as many annotations as were counted under it, less those that
have another of the reasons as well. The words of a quality rule are followed by the rule."""

INCLUDABLE = (SAME_ENCOUNTER, OTHER_SIDE, NO_VIEWPOINT, VIEWPOINT_POLICY, QUALITY_RULE)
"""Reasons that can be included: their annotations are compared after all."""


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
        known_as: Per photo, the annotation of the catalogue that it was taken from, or ``None``.
    """

    image: str
    species: str
    viewpoint: str | None
    places: tuple[tuple[Box | None, float], ...]
    vectors: NDArray[np.float16]
    own_photos: frozenset[str]
    own_annotations: frozenset[str]
    own_encounters: frozenset[str]
    known_as: tuple[Annotation | None, ...] = ()


@dataclass(frozen=True)
class CandidateSet:
    """What a query is compared with.

    Attributes:
        compared: In the order of the gallery.
        excluded: Reason in words → how many were left out for it.
        despite: annotation_id → the reasons, in words, that were included and would have left it out.
    """

    compared: tuple[Annotation, ...]
    excluded: Mapping[str, int]
    despite: Mapping[str, tuple[str, ...]]

    @property
    def of(self) -> int:
        """How many annotations of the species there are."""
        return len(self.compared) + sum(self.excluded.values())

    @property
    def names(self) -> frozenset[str]:
        """The individuals among those compared."""
        return frozenset(a.individual for a in self.compared if a.individual is not None)


@dataclass(frozen=True)
class LocalSummary:
    """The local evidence of a pair as numbers.

    Attributes:
        sum: The matches' confidences together.
        count: How many points match.
        inliers: How many of them agree with one map; ``None`` where that was not asked for.
        photo: Which of the query's photos it is of: the best pair stands for a query of several.
        numbers: What a calibration takes of it (:data:`resight.calibration.evidence.LOCAL_FEATURES`).
    """

    sum: float
    count: int
    inliers: int | None = None
    photo: int = 0
    numbers: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Scored:
    """One annotation of a shortlist, with what is known of the pair so far.

    Attributes:
        annotation: The candidate.
        cosine: Of the query's mean vector and the candidate's.
        evidence: ``None`` where the two photos were not compared point by point: no local evidence was asked for, or
            a nearer candidate was decisive.
        p_same: Probability that both show one animal; ``None`` without a calibration.
        p_same_ci95: Its interval.
        reasons: What speaks for and against it, in words.
    """

    annotation: Annotation
    cosine: float
    evidence: LocalSummary | None = None
    p_same: float | None = None
    p_same_ci95: tuple[float, float] | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """An annotation of the catalogue as an answer.

    ``score`` is the cosine, ``p_same`` needs a calibration; ``proposed`` names the values that nobody has accepted yet,
    ``despite`` the reasons that were included and would have left it out. The rest is as in :class:`Scored`.
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
    p_same_ci95: tuple[float, float] | None = None
    evidence: LocalSummary | None = None
    reasons: tuple[str, ...] = ()
    despite: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedCandidate:
    """An individual as an answer: its best annotation stands for it."""

    rank: int
    individual_id: str
    annotation_id: str
    score: float
    p_same: float | None
    p_same_ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Match:
    """The answer to one query.

    Attributes:
        model: The model whose vectors were compared.
        compared: How many annotations it was compared with.
        of: How many annotations of the species there are; ``compared`` and all of ``excluded`` add up to it.
        excluded: Reason → how many were left out for it.
        p_new: Probability that the animal is not in the catalogue; needs a calibration.
        candidates: The best annotations, whatever their individual (paper §4).
        individuals: Each name among them once, by its best.
        boxes: What was cut of each photo, by which the animals of one photo are told apart; ``None`` is all of it.
        note: What was taken from the catalogue for this query, or ``None``.
        p_new_ci95: The interval of ``p_new``.
        p_new_note: Why there is no ``p_new``, or what it rests on, and what there is to say of local evidence.
        reranked: Whether the candidates stand in another order than that of their scores.
        included: Reason → how many were compared that would have been left out for it; each counts once.
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
    p_new_ci95: tuple[float, float] | None = None
    p_new_note: str | None = None
    reranked: bool = False
    included: Mapping[str, int] = field(default_factory=dict)

    def told(self) -> str:
        """What it was compared with, what was left out and what was included, the largest counts first."""
        text = f"compared with {self.compared:,} of {self.of:,}"
        if self.included:
            text += f" ({_counted(self.included)} included)"
        return f"{text}: {_counted(self.excluded)}" if self.excluded else text


def parse_include(names: Iterable[str]) -> frozenset[str]:
    """The reasons to include, by their names.

    Raises:
        UnknownName: a name that is none of ``INCLUDABLE``.
    """
    asked = frozenset(name.strip().lower() for name in names)
    UnknownName.require("reason that can be included", sorted(asked), INCLUDABLE)
    return asked


def candidate_set(
    query: Query,
    gallery: Sequence[Annotation],
    policy: Policy,
    row_of: Mapping[str, int],
    include: Collection[str] = (),
) -> CandidateSet:
    """Tell what a query is compared with from what is left out.

    Where the policy separates the sides and the query shows one, neither the other side is compared nor what has no
    viewpoint, since it may be the other side; front, back, up and down are.

    Args:
        query: What is asked for.
        gallery: All annotations of the species.
        policy: The species' viewpoint policy.
        row_of: The rows of the vectors there are.
        include: Some of ``INCLUDABLE``, whose annotations are compared after all.

    Raises:
        UnknownName: ``include`` holds another name.
    """
    wanted = parse_include(include)
    apart = separates_sides(policy) and query.viewpoint in SIDES
    compared: list[Annotation] = []
    excluded: Counter[str] = Counter()
    despite: dict[str, tuple[str, ...]] = {}
    for annotation in gallery:
        reasons = list(_reasons_to_leave_out(annotation, query, apart, row_of))
        decisive = next((reason for reason in reasons if reason not in wanted), None)
        if decisive is not None:
            excluded[_in_words(decisive, annotation)] += 1
            continue
        compared.append(annotation)
        if reasons:
            despite[annotation.annotation_id] = tuple(_in_words(reason, annotation) for reason in reasons)
    return CandidateSet(tuple(compared), dict(excluded), despite)


def _reasons_to_leave_out(
    annotation: Annotation, query: Query, apart: bool, row_of: Mapping[str, int]
) -> Iterator[str]:
    """All that apply, in the order of ``REASONS``; ``apart`` is whether the query's side is kept from the other."""
    if annotation.content_hash in query.own_photos or annotation.annotation_id in query.own_annotations:
        yield SAME_PHOTO
    if annotation.image_status == "quarantined":
        yield QUARANTINED
    if annotation.annotation_id not in row_of:
        yield NO_VECTOR
    if annotation.encounter in query.own_encounters:
        yield SAME_ENCOUNTER
    if not annotation.allowed:
        yield VIEWPOINT_POLICY
    if annotation.filtered is not None:
        yield QUALITY_RULE
    if apart and annotation.viewpoint in SIDES and annotation.viewpoint != query.viewpoint:
        yield OTHER_SIDE
    if apart and annotation.viewpoint is None:
        yield NO_VIEWPOINT


def _in_words(reason: str, annotation: Annotation) -> str:
    return f"{REASONS[reason]} {annotation.filtered}" if reason == QUALITY_RULE else REASONS[reason]


def shortlist(
    query: Query, among: CandidateSet, embeddings: EmbeddingSet, row_of: Mapping[str, int], k: int
) -> list[Scored]:
    """The nearest annotations by cosine, the nearest first.

    Several photos of one animal are one query: the mean of their unit vectors.

    Args:
        query: What is asked for.
        among: What it is compared with.
        embeddings: Vectors by the same model as the query's.
        row_of: ``embeddings.row_of()``, made once for many queries.
        k: How many at most.

    Raises:
        InputError: ``k`` below 1.
    """
    if k < 1:
        raise InputError(f"-k {k}: expected at least 1 candidate")
    if not among.compared:
        return []
    vectors = embeddings.vectors[[row_of[a.annotation_id] for a in among.compared]]
    mean = unit_rows(query.vectors, "the query").mean(axis=0, keepdims=True)
    unknown = np.full(len(vectors), -1, dtype=np.int64)
    ranking = rank(mean, vectors, query_labels=unknown[:1], gallery_labels=unknown, k=min(k, len(vectors)))
    nearest = zip(ranking.neighbours[0], ranking.scores[0], strict=True)
    return [Scored(among.compared[row], float(cosine)) for row, cosine in nearest]


def as_match(
    query: Query,
    among: CandidateSet,
    scored: Sequence[Scored],
    *,
    model: str,
    note: str | None = None,
    p_new: float | None = None,
    p_new_ci95: tuple[float, float] | None = None,
    p_new_note: str | None = None,
    reranked: bool = False,
) -> Match:
    """Tell an answer.

    Args:
        query: What was asked for.
        among: What it was compared with.
        scored: The candidates, the best first; names stand in the order of the first of each.
        model: Whose vectors were compared.
        note: See :class:`Match`, as for all that follow.
        p_new: Likewise.
        p_new_ci95: Likewise.
        p_new_note: Likewise.
        reranked: Likewise.
    """
    candidates = tuple(
        Candidate(
            rank=place,
            annotation_id=one.annotation.annotation_id,
            individual_id=one.annotation.individual,
            score=round(one.cosine, 6),
            p_same=one.p_same,
            viewpoint=one.annotation.viewpoint,
            encounter=one.annotation.encounter if one.annotation.encounter_known else None,
            file_name=one.annotation.file_name,
            proposed=tuple(sorted(one.annotation.proposed)),
            p_same_ci95=one.p_same_ci95,
            evidence=one.evidence,
            reasons=one.reasons,
            despite=among.despite.get(one.annotation.annotation_id, ()),
        )
        for place, one in enumerate(scored, start=1)
    )
    return Match(
        image=query.image,
        model=model,
        species=query.species,
        viewpoint=query.viewpoint,
        compared=len(among.compared),
        of=among.of,
        excluded=among.excluded,
        p_new=p_new,
        candidates=candidates,
        individuals=_each_name_once(candidates),
        boxes=tuple(box for box, _ in query.places),
        note=note,
        p_new_ci95=p_new_ci95,
        p_new_note=p_new_note,
        reranked=reranked,
        included=dict(Counter(reasons[0] for reasons in among.despite.values())),
    )


def _each_name_once(candidates: Sequence[Candidate]) -> tuple[NamedCandidate, ...]:
    best: dict[str, Candidate] = {}
    for candidate in candidates:
        if candidate.individual_id is not None:
            best.setdefault(candidate.individual_id, candidate)
    return tuple(
        NamedCandidate(place, name, best_of.annotation_id, best_of.score, best_of.p_same, best_of.p_same_ci95)
        for place, (name, best_of) in enumerate(best.items(), start=1)
    )


def _counted(counts: Mapping[str, int]) -> str:
    falling = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in falling)
