"""What a head proposes for the annotations of which nobody has said a field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from resight import progress
from resight.attributes.head import Head
from resight.attributes.labels import part_is_unsaid
from resight.catalogue.policy import animal_of
from resight.catalogue.proposals import Proposal
from resight.embedding import EmbeddingSet
from resight.errors import InputError, UnknownName
from resight.types import Annotation

_BLOCK = 4096


@dataclass(frozen=True)
class Unknowns:
    """What a head is asked about.

    Attributes:
        annotations: Those for which a value is wanted, in the order of their ids.
        others: Ids of annotations within what was asked for, for which none is wanted: what may have been proposed for
            them before goes.
        left_out: Reason → annotations without a value for which none is wanted.
    """

    annotations: tuple[Annotation, ...]
    others: tuple[str, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Predicted:
    """What a head says.

    Attributes:
        proposals: In the order of the annotations' ids.
        asked: Ids of the annotations whose older proposals these replace.
        values: Value → annotations for which it is proposed.
        below_threshold: Annotations of which the head is not sure enough; they stay unknown.
        unlike: Annotations that are unlike all that the head was fitted on; they stay unknown.
        rejected: Annotations of which a person has said that they do not have the value; they stay unknown.
        without_features: Annotations that have no features, as their photos cannot be read; nothing is changed of them.
        left_out: As of :class:`Unknowns`.
    """

    proposals: tuple[Proposal, ...]
    asked: tuple[str, ...]
    values: Mapping[str, int]
    below_threshold: int
    unlike: int
    rejected: int
    without_features: int
    left_out: Mapping[str, int]


def choose_unknown(
    annotations: Iterable[Annotation],
    head: Head,
    *,
    settled: Collection[str] = (),
    species: Sequence[str] | None = None,
    any_species: bool = False,
) -> Unknowns:
    """Choose the annotations that a head is asked about: those of which nobody has said the field.

    Args:
        annotations: Of the catalogue, with those of unknown species.
        head: Is asked only about the species that it was fitted on, where its field is not the species itself.
        settled: Ids of annotations of which a person has settled the field, were it to unknown.
        species: Only these, stated or proposed; ``None``: all.
        any_species: Ask about other species too, and about those of which nobody knows the species.

    Raises:
        UnknownName: a species that is not in the catalogue.
    """
    known = list(annotations)
    if species is not None:
        UnknownName.require("species", species, {a.species for a in known if a.species is not None})
    wanted: list[Annotation] = []
    others: list[str] = []
    left_out: Counter[str] = Counter()
    for annotation in sorted(known, key=lambda a: a.annotation_id):
        if species is not None and annotation.species not in species:
            continue
        if not _is_unknown(annotation, head.field):
            others.append(annotation.annotation_id)
            continue
        reason = _why_not(annotation, head, settled, any_species)
        if reason is None:
            wanted.append(annotation)
            continue
        left_out[reason] += 1
        if annotation.image_status != "quarantined":
            others.append(annotation.annotation_id)
    return Unknowns(tuple(wanted), tuple(others), dict(left_out))


def _is_unknown(annotation: Annotation, field: str) -> bool:
    if field in annotation.proposed:
        return True
    if field == "part":
        return part_is_unsaid(annotation) or (annotation.part is None and "species" in annotation.proposed)
    return getattr(annotation, field) is None


def _why_not(annotation: Annotation, head: Head, settled: Collection[str], any_species: bool) -> str | None:
    if annotation.annotation_id in settled:
        return "a person has said that it cannot be told"
    if annotation.image_status == "quarantined":
        return "quarantined"
    if any_species or head.field == "species":
        return None
    if head.field == "part":
        # What is not known of a cow is which part it shows: the head knows cows by their parts.
        fitted = {animal_of(name) for name in head.species}
        fits = annotation.species is None or animal_of(annotation.species) in fitted
    else:
        fits = annotation.species in head.species
    if fits:
        return None
    return "species unknown" if annotation.species is None else f"{annotation.species}: the head was not fitted on it"


def propose(
    head: Head,
    unknowns: Unknowns,
    embeddings: EmbeddingSet,
    *,
    rejected: Mapping[str, Collection[str]] | None = None,
    threshold: float | None = None,
) -> Predicted:
    """Read values from features; a block of them is in memory at a time.

    Args:
        head: See :meth:`Head.require_features`, which is for the caller to ask.
        unknowns: From :func:`choose_unknown`.
        embeddings: Features of the annotations.
        rejected: Annotation id → values that a person has said it does not have.
        threshold: Another than the head's own.

    Raises:
        InputError: a threshold that is none.
    """
    least = head.threshold if threshold is None else threshold
    if least is not None and not 0.0 <= least <= 1.0:
        raise InputError(f"threshold {least:g}: expected a confidence from 0 to 1")
    row_of = embeddings.row_of()
    found = [(a.annotation_id, row_of[a.annotation_id]) for a in unknowns.annotations if a.annotation_id in row_of]
    proposals: list[Proposal] = []
    below = unlike = refused = 0
    blocks = [found[start : start + _BLOCK] for start in range(0, len(found), _BLOCK)]
    for block in progress.track(blocks, head.field, len(blocks)):
        features = np.asarray(embeddings.vectors[[row for _, row in block]], np.float32)
        confidences = head.confidences(features)
        strange = head.unlikeness(features) if head.most_unlike is not None else np.zeros(len(block), np.float32)
        for (name, _), mine, unlikeness in zip(block, confidences, strange, strict=True):
            best = int(mine.argmax())
            value, confidence = head.classes[best], float(mine[best])
            if least is None or confidence < least:
                below += 1
            elif head.most_unlike is not None and unlikeness > head.most_unlike:
                unlike += 1
            elif rejected is not None and value in rejected.get(name, ()):
                refused += 1
            else:
                proposals.append(Proposal(name, head.field, value, round(confidence, 4), head.name))
    return Predicted(
        proposals=tuple(proposals),
        asked=(*unknowns.others, *(name for name, _ in found)),
        values=dict(Counter(proposal.value for proposal in proposals).most_common()),
        below_threshold=below,
        unlike=unlike,
        rejected=refused,
        without_features=len(unknowns.annotations) - len(found),
        left_out=unknowns.left_out,
    )
