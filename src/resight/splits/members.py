"""What any protocol asks of an annotation: whether it can be used, and what is frozen of it."""

from __future__ import annotations

from collections.abc import Iterable

from resight.splits.frozen import SplitMember, Subset
from resight.splits.paper import identity_of
from resight.types import Annotation


def why_left_out(annotation: Annotation) -> str | None:
    """Why an annotation can be in no split; ``None`` where it can."""
    if annotation.individual is None:
        return "no individual"
    if not annotation.allowed:
        return "viewpoint policy"
    if annotation.image_status == "quarantined":
        return "quarantined"
    if annotation.filtered is not None:
        return f"quality rule {annotation.filtered}"
    if unaccepted := sorted(annotation.proposed & {"species", "part", "viewpoint"}):
        return f"{' and '.join(unaccepted)} only proposed"
    return None


def member_of(annotation: Annotation, subset: Subset) -> SplitMember:
    """What is frozen of an annotation."""
    return SplitMember(
        annotation.annotation_id,
        annotation.known_species,
        annotation.individual or "",
        identity_of(annotation),
        annotation.encounter,
        subset,
    )


def warnings_of_copies(annotations: Iterable[Annotation]) -> list[str]:
    """A warning where copies of one photo cannot be known, since photos were not looked at."""
    unknown = sum(annotation.content_hash is None for annotation in annotations)
    if not unknown:
        return []
    return [
        f"{unknown} annotations lie on images that were not looked at yet: copies of one photo cannot be known, "
        "and may stand on both sides; run `resight embed` before splitting"
    ]
