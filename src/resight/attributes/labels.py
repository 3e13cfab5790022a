"""Which annotations teach a head what: labels that a person or a source gave, drawn evenly, each with its group.

What a model proposed is never a label. Annotations of one group (individual, else encounter, else photo) are never on
two sides of a fold, since pictures of one animal look alike for other reasons than their label.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from resight.artefacts import key_of
from resight.catalogue.policy import animal_of
from resight.catalogue.proposals import FIELDS, UNKNOWN, grade_text
from resight.catalogue.store import NO_PART
from resight.errors import InputError, UnknownName
from resight.types import Annotation

MOST_GRADES = 12
"""A quality of more distinct values is a measurement, not a grade."""


@dataclass(frozen=True)
class LabelRules:
    """What is asked of labels.

    Attributes:
        most: Annotations that a head is fitted on; of more, so many are drawn, evenly over classes and groups.
        least_annotations: A class with fewer is left out.
        least_groups: Likewise: with one group a class cannot be both fitted and checked.
        seed: Of the draw.
    """

    most: int = 20_000
    least_annotations: int = 5
    least_groups: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: one is too small.
        """
        for name, least in (("most", 10), ("least_annotations", 2), ("least_groups", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} {getattr(self, name)}: expected at least {least}")


@dataclass(frozen=True)
class Labelled:
    """Annotations with their labels.

    Attributes:
        field: species, part, viewpoint or quality.
        annotations: In the order of their ids.
        labels: The class of each.
        groups: The group of each.
        species: Species with annotations among them.
        left_out: Reason → annotations that have a label and are not used.
    """

    field: str
    annotations: tuple[Annotation, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    species: tuple[str, ...]
    left_out: Mapping[str, int]


def label_of(annotation: Annotation, field: str, settled: Mapping[str, str] = MappingProxyType({})) -> str | None:
    """What a person or a source said of an annotation, as text; ``None`` where nobody has.

    Args:
        annotation: Of the catalogue.
        field: species, part, viewpoint or quality.
        settled: Annotation id → what a person has said of the field last; see
            :func:`resight.catalogue.proposals.settled`.
    """
    if field == "viewpoint":
        return None if "viewpoint" in annotation.proposed else annotation.viewpoint
    if field == "quality":
        grade = annotation.quality
        return None if grade is None or "quality" in annotation.proposed else grade_text(grade)
    if annotation.species is None or annotation.proposed & {"species", "part"}:
        return None
    if field == "species":
        return annotation.species
    if annotation.part is not None:
        return annotation.part
    said = settled.get(annotation.annotation_id)
    is_unknown = said == UNKNOWN or (said is None and part_is_unsaid(annotation))
    return None if is_unknown else NO_PART


def part_is_unsaid(annotation: Annotation) -> bool:
    """Whether nobody has said what part an annotation shows.

    A source that gives boxes under a species without a part means the animal. The species of a box that a detector
    found was said of a whole card of photos, or proposed.
    """
    return annotation.part is None and (annotation.species is None or annotation.detector is not None)


def group_of(annotation: Annotation) -> str:
    """What never stands on two sides of a fold: the individual, else the encounter, else the photo."""
    if annotation.individual is not None:
        return f"individual {animal_of(annotation.species or '')}:{annotation.individual}"
    if annotation.encounter_known:
        return f"encounter {annotation.encounter}"
    return f"photo {annotation.image_id}"


def choose_labelled(
    annotations: Iterable[Annotation],
    field: str,
    rules: LabelRules = LabelRules(),
    *,
    species: Sequence[str] | None = None,
    settled: Mapping[str, str] = MappingProxyType({}),
) -> Labelled:
    """Choose what a head is fitted on.

    A species teaches viewpoints only where it has two of them: where all are ``front``, a head would learn what the
    species looks like and call it ``front``.

    Args:
        annotations: Of the catalogue, with those of unknown species.
        field: species, part, viewpoint or quality.
        rules: See :class:`LabelRules`.
        species: Only these; ``None``: all that are known.
        settled: See :func:`label_of`.

    Raises:
        UnknownName: no such field or species.
        InputError: fewer than two classes are left, or the quality is no grade.
    """
    UnknownName.require("attribute", [field], FIELDS)
    known = list(annotations)
    if species is not None:
        UnknownName.require("species", species, {a.species for a in known if a.species is not None})
    left_out: Counter[str] = Counter()
    usable: list[tuple[Annotation, str]] = []
    for annotation in known:
        label = label_of(annotation, field, settled)
        if label is None or (species is not None and annotation.species not in species):
            continue
        reason = _why_not(annotation)
        if reason is None:
            usable.append((annotation, label))
        else:
            left_out[reason] += 1
    if field == "quality":
        _require_grades({label for _, label in usable})
    if field == "viewpoint":
        usable = _of_several_viewpoints(usable, rules, left_out)
    usable = _large_enough(usable, rules, left_out)
    classes = sorted({label for _, label in usable})
    if len(classes) < 2:
        raise InputError(_too_few(field, classes, left_out, rules))
    drawn = _evenly(usable, rules)
    if len(drawn) < len(usable):
        left_out[f"more than the {rules.most} that are drawn"] = len(usable) - len(drawn)
    chosen = sorted(drawn, key=lambda pair: pair[0].annotation_id)
    return Labelled(
        field,
        tuple(a for a, _ in chosen),
        tuple(label for _, label in chosen),
        tuple(group_of(a) for a, _ in chosen),
        tuple(sorted({a.species for a, _ in chosen if a.species is not None})),
        dict(left_out),
    )


def with_features(labelled: Labelled, known: Collection[str]) -> Labelled:
    """Only those of which there are features: a photo may have turned out not to be readable.

    Args:
        labelled: From :func:`choose_labelled`.
        known: Ids of the annotations with features.
    """
    kept = [row for row, one in enumerate(labelled.annotations) if one.annotation_id in known]
    lost = len(labelled.annotations) - len(kept)
    if not lost:
        return labelled
    return replace(
        labelled,
        annotations=tuple(labelled.annotations[row] for row in kept),
        labels=tuple(labelled.labels[row] for row in kept),
        groups=tuple(labelled.groups[row] for row in kept),
        left_out={**labelled.left_out, "photo cannot be used": lost},
    )


def _why_not(annotation: Annotation) -> str | None:
    if annotation.image_status == "quarantined":
        return "quarantined"
    if annotation.filtered is not None:
        return f"quality rule {annotation.filtered}"
    if "species" in annotation.proposed:
        return "species only proposed"
    return None


def _require_grades(values: set[str]) -> None:
    if len(values) > MOST_GRADES:
        raise InputError(
            f"quality has {len(values)} distinct values, and a head tells grades apart: expected at most {MOST_GRADES}"
            "; a measured quality needs no head, set a limit for it under [quality] in resight.toml"
        )


def _of_several_viewpoints(
    usable: list[tuple[Annotation, str]], rules: LabelRules, left_out: Counter[str]
) -> list[tuple[Annotation, str]]:
    counts: dict[str | None, Counter[str]] = defaultdict(Counter)
    for annotation, label in usable:
        counts[annotation.species][label] += 1
    several = {
        species
        for species, labels in counts.items()
        if sum(count >= rules.least_annotations for count in labels.values()) > 1
    }
    for species, labels in counts.items():
        if species not in several:
            shown = ", ".join(f"{label} {count}" for label, count in labels.most_common())
            wanting = f"no second viewpoint with {rules.least_annotations} labels ({shown})"
            left_out[f"{species or 'species unknown'}: {wanting}"] += labels.total()
    return [(annotation, label) for annotation, label in usable if annotation.species in several]


def _large_enough(
    usable: list[tuple[Annotation, str]], rules: LabelRules, left_out: Counter[str]
) -> list[tuple[Annotation, str]]:
    counts = Counter(label for _, label in usable)
    groups: dict[str, set[str]] = defaultdict(set)
    for annotation, label in usable:
        groups[label].add(group_of(annotation))
    small = {
        label
        for label, count in counts.items()
        if count < rules.least_annotations or len(groups[label]) < rules.least_groups
    }
    for label in sorted(small):
        left_out[f"{label}: too few, of {len(groups[label])} individuals or encounters"] = counts[label]
    return [(annotation, label) for annotation, label in usable if label not in small]


def _too_few(field: str, classes: Sequence[str], left_out: Mapping[str, int], rules: LabelRules) -> str:
    found = f"only {classes[0]!r}" if classes else "none"
    reasons = "; ".join(f"{reason}: {count} annotations" for reason, count in left_out.items())
    return (
        f"{field}: expected two classes or more, each with {rules.least_annotations} labelled annotations of "
        f"{rules.least_groups} individuals or encounters, found {found}{f' ({reasons})' if reasons else ''}; label "
        "some more, in the source or with `resight attributes correct`"
    )


def _evenly(usable: Sequence[tuple[Annotation, str]], rules: LabelRules) -> list[tuple[Annotation, str]]:
    """So many that no class or group takes more than its turn; the draw does not depend on the order."""
    if len(usable) <= rules.most:
        return list(usable)
    by_class: dict[str, dict[str, list[Annotation]]] = defaultdict(lambda: defaultdict(list))
    for annotation, label in sorted(usable, key=lambda pair: key_of(rules.seed, pair[0].annotation_id)):
        by_class[label][group_of(annotation)].append(annotation)
    sizes = {label: sum(map(len, groups.values())) for label, groups in by_class.items()}
    drawn = []
    for label, quota in _quotas(sizes, rules.most).items():
        groups = by_class[label]
        turns = [(turn, name, a) for name, mine in groups.items() for turn, a in enumerate(mine)]
        turns.sort(key=lambda entry: (entry[0], key_of(rules.seed, entry[1])))
        drawn += [(a, label) for _, _, a in turns[:quota]]
    return drawn


def _quotas(sizes: Mapping[str, int], most: int) -> dict[str, int]:
    """Equal shares of ``most``; what a small class leaves goes to the larger ones."""
    quotas = {}
    remaining = most
    for place, (label, size) in enumerate(sorted(sizes.items(), key=lambda entry: (entry[1], entry[0]))):
        quotas[label] = min(size, remaining // (len(sizes) - place))
        remaining -= quotas[label]
    return quotas
