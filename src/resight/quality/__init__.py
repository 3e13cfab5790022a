"""Measuring the pictures of a catalogue: see ``numbers.py`` for what the numbers mean, ``near_duplicates.py`` for which
pictures are almost the same, and :mod:`resight.catalogue.quality` for the rules that use both.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resight.catalogue import measuring, quality, store
from resight.catalogue.database import Database
from resight.catalogue.measuring import Measurement
from resight.catalogue.photos import FoundImage, PhotoReader
from resight.chips import Failure, failure_of, quarantined_failure
from resight.errors import ImageError
from resight.images import read_facts
from resight.parallel import parallel_map
from resight.quality.near_duplicates import near_duplicate_of
from resight.quality.numbers import measured_key, numbers_of
from resight.settings import Settings
from resight.types import Annotation

logger = logging.getLogger(__name__)

SHOWN_FAILURES = 5
_BLOCK = 1000  # annotations that are stored at once


@dataclass(frozen=True)
class MeasuredBlock:
    """Some annotations that were measured.

    Attributes:
        measurements: Their numbers.
        failures: Annotations that could not be measured, and why.
        found: What was learned of images on the way.
    """

    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...]
    found: tuple[FoundImage, ...]


def measure(
    annotations: Iterable[Annotation], roots: Mapping[str, Path], known: Mapping[str, str]
) -> Iterator[MeasuredBlock]:
    """Measure the annotations that lack numbers, or whose numbers are of another box or photo, over all cores.

    A photo that is missing, changed or unreadable is counted and named; it never stops the others. Annotations on
    quarantined images are not tried.

    Args:
        annotations: Whose numbers are wanted.
        roots: Image roots, name → folder.
        known: Annotation → key of what it was measured on.
    """
    of_image: dict[int, list[Annotation]] = defaultdict(list)
    quarantined = []
    for one in annotations:
        if one.image_status == "quarantined":
            quarantined.append(quarantined_failure(one))
        elif one.content_hash is None or known.get(one.annotation_id) != _key(one, one.content_hash):
            of_image[one.image_id].append(one)
    if quarantined:
        yield MeasuredBlock((), tuple(quarantined), ())
    reader = PhotoReader(roots)
    images = list(of_image.values())
    measurements: list[Measurement] = []
    failures: list[Failure] = []
    found: list[FoundImage] = []
    for part in parallel_map(lambda shown: _measure(shown, reader), images, label="quality", total=len(images)):
        measurements += part.measurements
        failures += part.failures
        found += part.found
        if len(measurements) + len(failures) >= _BLOCK:
            yield MeasuredBlock(tuple(measurements), tuple(failures), tuple(found))
            measurements, failures, found = [], [], []
    if measurements or failures:
        yield MeasuredBlock(tuple(measurements), tuple(failures), tuple(found))


@dataclass(frozen=True)
class QualityReport:
    """What measuring a catalogue did.

    Attributes:
        annotations: How many were looked at.
        measured: How many were measured now; the numbers of the others were there, or could not be made.
        failures: Annotations that could not be measured, and why.
        duplicates: Annotations for which a near-duplicate stands.
        caught: Rule of ``resight.toml`` → annotations that it leaves out now.
    """

    annotations: int
    measured: int
    failures: tuple[Failure, ...]
    duplicates: int
    caught: Mapping[str, int]


def measure_catalogue(
    database: Database, settings: Settings, *, species: Iterable[str] | None = None, anew: bool = False
) -> QualityReport:
    """Measure what is not measured yet, block by block, and find the near-duplicates among all that are.

    Args:
        database: The catalogue.
        settings: Image roots and quality rules.
        species: Only these; ``None`` takes all annotations, those of unknown species among them.
        anew: Whether numbers that are there are made again.

    Raises:
        UnknownName: a species that is not in the catalogue.
    """
    wanted = None if species is None else list(species)

    def read() -> list[Annotation]:
        with database.reading() as connection:
            return store.list_annotations(connection, settings, species=wanted, unnamed=wanted is None)

    annotations = read()
    with database.reading() as connection:
        known = measuring.measured_keys(connection)
    n_measured = 0
    failures: list[Failure] = []
    of_id = {one.annotation_id: one for one in annotations}
    for block in measure(annotations, settings.image_roots, {} if anew else known):
        n_measured += len(block.measurements)
        failures += block.failures
        failed = [of_id[failure.annotation_id] for failure in block.failures]
        with database.writing(raises_revision=False) as (connection, _):
            measuring.store_measures(connection, block.measurements)
            measuring.forget_measures(connection, [one.annotation_id for one in failed if _is_stale(one, known)])
            store.update_images(connection, block.found)
            store.quarantine_images(connection, _unreadable(block.failures, failed))
    _tell(failures)
    if n_measured or failures:
        annotations = read()  # which of them a rule catches is known only now
    with database.reading() as connection:
        duplicate_of = near_duplicate_of(annotations, measuring.fingerprints(connection))
    with database.writing(raises_revision=False) as (connection, _):
        measuring.store_duplicates(connection, of_id, duplicate_of)
    return QualityReport(len(annotations), n_measured, tuple(failures), len(duplicate_of), quality.caught(read()))


def _measure(shown: Sequence[Annotation], reader: PhotoReader) -> MeasuredBlock:
    """Measure the annotations of one image."""
    first = shown[0]
    try:
        photo = reader.read(first)
    except ImageError as error:
        return MeasuredBlock((), tuple(failure_of(one, error) for one in shown), ())
    measurements, failures = [], []
    for one in shown:
        try:
            numbers = numbers_of(photo.content, photo.name, one.box, one.theta_rad)
        except ImageError as error:
            failures.append(failure_of(one, error))
            continue
        measurements.append(Measurement(one.annotation_id, _key(one, photo.content_hash), numbers))
    touched = first.image_modified_ns != photo.modified_ns  # the same content, written again
    if measurements and (first.content_hash is None or photo.moved_to is not None or touched):
        facts = read_facts(photo.content, photo.name)
        found = FoundImage(first.image_id, len(photo.content), photo.modified_ns, facts, photo.moved_to)
        return MeasuredBlock(tuple(measurements), tuple(failures), (found,))
    return MeasuredBlock(tuple(measurements), tuple(failures), ())


def _key(annotation: Annotation, content_hash: str) -> str:
    return measured_key(content_hash, annotation.box, annotation.theta_rad)


def _is_stale(annotation: Annotation, known: Mapping[str, str]) -> bool:
    """Whether the numbers that are there are of another box or photo than the annotation's own now."""
    before, content = known.get(annotation.annotation_id), annotation.content_hash
    return before is not None and content is not None and before != _key(annotation, content)


def _unreadable(failures: Sequence[Failure], failed: Sequence[Annotation]) -> dict[int, str]:
    """Image → what is wrong with it, of those that were not quarantined before."""
    return {
        failure.image_id: failure.message
        for failure, one in zip(failures, failed, strict=True)
        if failure.reason == "unreadable" and one.image_status != "quarantined"
    }


def _tell(failures: Sequence[Failure]) -> None:
    for failure in failures[:SHOWN_FAILURES]:
        logger.warning("not measured: %s", failure.message)
    if len(failures) > SHOWN_FAILURES:
        logger.warning("and %d more annotations that were not measured", len(failures) - SHOWN_FAILURES)
