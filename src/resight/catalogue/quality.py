"""Which annotations the quality rules of ``resight.toml`` leave out: one rule is named for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from resight.settings import QualityRules
from resight.types import Annotation

NEAR_DUPLICATE = "near_duplicates one"


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of the quality of one annotation; ``None`` is not measured, and no rule catches it.

    Attributes:
        sharpness: See :mod:`resight.quality.numbers`.
        side_px: The shorter side of the box, in pixels of the photo.
        contrast: See :mod:`resight.quality.numbers`.
        cut_share: See :func:`resight.quality.numbers.cut_share`.
        confidence: Of the detector.
        quality: The grade.
        is_duplicate: Whether a sharper near-duplicate stands for it.
    """

    sharpness: float | None = None
    side_px: float | None = None
    contrast: float | None = None
    cut_share: float | None = None
    confidence: float | None = None
    quality: float | None = None
    is_duplicate: bool = False


def rule_that_catches(rules: QualityRules, measured: Measured) -> str | None:
    """The first rule that leaves the annotation out, with its limit, such as ``min_side_px 60``."""
    lowest = (
        ("min_side_px", rules.min_side_px, measured.side_px),
        ("min_sharpness", rules.min_sharpness, measured.sharpness),
        ("min_contrast", rules.min_contrast, measured.contrast),
        ("min_confidence", rules.min_confidence, measured.confidence),
        ("min_quality", rules.min_quality, measured.quality),
    )
    for name, limit, value in lowest:
        if limit is not None and value is not None and value < limit:
            return f"{name} {limit:g}"
    if rules.max_cut_share is not None and (measured.cut_share or 0.0) > rules.max_cut_share:
        return f"max_cut_share {rules.max_cut_share:g}"
    if rules.one_of_duplicates and measured.is_duplicate:
        return NEAR_DUPLICATE
    return None


def caught(annotations: Iterable[Annotation]) -> dict[str, int]:
    """Rule → how many annotations it leaves out, the commonest first; one that several catch counts for the first."""
    return dict(Counter(one.filtered for one in annotations if one.filtered is not None).most_common())
