"""Looking for animals in the photos of a catalogue, and writing down what was found, block by block.

What was written is not done again: a run that is stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from resight.catalogue import detecting, store
from resight.catalogue.blocks import by_blocks
from resight.catalogue.database import Database
from resight.catalogue.detecting import Looked, RawPhoto, Written
from resight.catalogue.intake import species_name
from resight.catalogue.photos import FoundImage, Photo, PhotoReader
from resight.catalogue.sources import megadetector
from resight.detection.detector import Detector, Found, Ready
from resight.detection.paths import Place
from resight.errors import ImageError, ImageUnreadable, InputError
from resight.images import inspect, read_facts
from resight.parallel import parallel_map
from resight.settings import Settings

DEFAULT_THRESHOLD = megadetector.DEFAULT_THRESHOLD
BLOCK = 100  # photos that are written at once; what is lost when a run is stopped

Item = TypeVar("Item")


@dataclass(frozen=True)
class DetectReport:
    """What looking for animals found, or would write.

    Attributes:
        detector: Its name.
        threshold: The confidence from which an animal counts.
        photos: Photos in which animals were to be looked for.
        looked_at: Those in which the detector has looked.
        looked_at_before: Further ones in which a detector looked before; they are looked at anew only where that was
            asked for.
        not_named: Those that the detector's file says nothing of; they stay not looked at.
        with_animals: Photos with an animal.
        without_animals: Photos without any.
        added: Annotations that are new.
        kept: Animals found that were annotations already.
        removed: Annotations that a detector made and this one did not find; nothing depended on them.
        not_found_again: Likewise, and kept, since something depends on them.
        repeated: Detections of an animal that a surer one in the same photo shows already.
        below_threshold: Animals that were not sure enough.
        persons: Persons that were.
        vehicles: Vehicles that were.
        failures: Photo → why the detector could not look at it.
        unmatched: What the detector's file names and is no photo here → why.
        images_per_second: Photos looked at in a second.
        dry_run: Whether nothing was written.
    """

    detector: str
    threshold: float
    photos: int
    looked_at: int
    looked_at_before: int
    not_named: int
    with_animals: int
    without_animals: int
    added: int
    kept: int
    removed: int
    not_found_again: int
    repeated: int
    below_threshold: int
    persons: int
    vehicles: int
    failures: Mapping[str, str]
    unmatched: Mapping[str, str]
    images_per_second: float | None
    dry_run: bool


@dataclass(frozen=True)
class _Outcome:
    """What came of one photo: what was found or why nothing was, and what was learned of its file."""

    photo: RawPhoto
    found: Found | None
    failure: ImageError | None = None
    learned: FoundImage | None = None


class _RolledBack(Exception):
    """Ends the transaction of a dry run."""


def detect(
    *,
    database: Database,
    settings: Settings,
    detector: Detector,
    threshold: float = DEFAULT_THRESHOLD,
    source: str | None = None,
    species: str | None = None,
    anew: bool = False,
    dry_run: bool = False,
) -> DetectReport:
    """Look for animals in the photos that no source has annotated.

    A photo that cannot be looked at is counted and named, and never stops the others.

    Args:
        database: The catalogue.
        settings: The project's.
        detector: From :func:`resight.detection.choosing.parse_detector`.
        threshold: The confidence from which an animal counts, from 0 to 1.
        source: Only photos of this source.
        species: Of the animals that the detector does not name; ``None`` takes what the import said.
        anew: Also photos in which a detector has looked already.
        dry_run: Do everything but write.

    Raises:
        InputError: a threshold or species that is none, or a detector that does not work.
        UnknownName: there is no such source.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold {threshold:g}: expected a confidence from 0 to 1")
    named = None if species is None else species_name(species)
    with database.reading() as connection:
        every = detecting.photos(connection, source=source, anew=True)
        ready = detector.ready(_places(detecting.places(connection, source=source), settings.image_roots))
    photos = every if anew else [photo for photo in every if photo.detector is None]
    covered = [photo for photo in photos if ready.covers is None or photo.image_id in ready.covers]
    reader = PhotoReader(settings.image_roots)
    tally = _Tally(threshold)
    started = time.perf_counter()
    outcomes = parallel_map(lambda photo: _look(photo, ready, reader), covered, label="photos", total=len(covered))
    for block in by_blocks(outcomes, BLOCK):
        looked = [one for outcome in block if (one := tally.take(outcome)) is not None]
        tally.written += _write(database, settings, block, looked, detector.name, named, dry_run=dry_run)
    seconds = time.perf_counter() - started
    return DetectReport(
        detector=detector.name,
        threshold=threshold,
        photos=len(photos),
        looked_at=tally.looked_at,
        looked_at_before=len(every) - len(photos),
        not_named=len(photos) - len(covered),
        with_animals=tally.with_animals,
        without_animals=tally.looked_at - tally.with_animals,
        added=tally.written.added,
        kept=tally.written.kept,
        removed=tally.written.removed,
        not_found_again=tally.written.not_found_again,
        repeated=tally.written.repeated,
        below_threshold=tally.below_threshold,
        persons=tally.persons,
        vehicles=tally.vehicles,
        failures=tally.failures,
        unmatched=dict(ready.unmatched),
        images_per_second=tally.looked_at / seconds if tally.looked_at else None,
        dry_run=dry_run,
    )


class _Tally:
    """Counts what comes of the photos."""

    def __init__(self, threshold: float) -> None:
        self.looked_at = self.with_animals = self.below_threshold = self.persons = self.vehicles = 0
        self.failures: dict[str, str] = {}
        self.written = Written()
        self._threshold = threshold

    def take(self, outcome: _Outcome) -> Looked | None:
        """Count one photo, and give what is to be written of it."""
        photo, found = outcome.photo, outcome.found
        if found is None:
            name = photo.file_name
            if name in self.failures:  # two roots may have photos of one path
                name = f"{photo.image_root}/{name}"
            self.failures[name] = _reason(outcome)
            return None
        sure = tuple(one for one in found.animals if one.confidence >= self._threshold)
        unsure = [one.confidence for one in found.animals if one.confidence < self._threshold]
        self.looked_at += 1
        self.with_animals += bool(sure)
        self.below_threshold += len(unsure)
        self.persons += sum(confidence >= self._threshold for confidence in found.persons)
        self.vehicles += sum(confidence >= self._threshold for confidence in found.vehicles)
        return Looked(photo, sure, max(unsure, default=None))


def _look(photo: RawPhoto, ready: Ready, reader: PhotoReader) -> _Outcome:
    opened: list[Photo] = []

    def read() -> bytes:
        if not opened:
            opened.append(reader.read(photo))
        return opened[0].content

    found, failure = None, None
    try:
        if photo.status != "ok" or photo.width is None:
            facts = inspect(read(), photo.file_name)
            photo = replace(photo, width=facts.width, height=facts.height)
        found = ready.look(photo, read)
    except ImageError as error:
        failure = error
    # A file that can be read is known to be, though the detector has nothing to say of it.
    learned = None if isinstance(failure, ImageUnreadable) else _learned(photo, opened)
    return _Outcome(photo, found, failure, learned)


def _learned(photo: RawPhoto, opened: list[Photo]) -> FoundImage | None:
    """What the catalogue does not know of a file that was read: its content, or where and since when it lies there."""
    if not opened:
        return None
    (file,) = opened
    known = photo.status == "ok" and photo.content_hash is not None
    if known and file.moved_to is None and file.modified_ns == photo.image_modified_ns:
        return None
    facts = read_facts(file.content, file.name)
    return FoundImage(photo.image_id, len(file.content), file.modified_ns, facts, file.moved_to)


def _write(
    database: Database,
    settings: Settings,
    block: list[_Outcome],
    looked: list[Looked],
    detector: str,
    species: str | None,
    *,
    dry_run: bool,
) -> Written:
    written = Written()
    learned = [outcome.learned for outcome in block if outcome.learned is not None]
    unreadable = {
        outcome.photo.image_id: _reason(outcome)
        for outcome in block
        if isinstance(outcome.failure, ImageUnreadable) and outcome.photo.status != "quarantined"
    }
    if not (looked or learned or unreadable):
        return written
    try:
        with database.writing(raises_revision=bool(looked)) as (connection, _):
            store.update_images(connection, learned)
            store.quarantine_images(connection, unreadable)
            written = detecting.write_looked(connection, settings, looked, detector=detector, species=species)
            if dry_run:
                raise _RolledBack
    except _RolledBack:
        pass
    return written


def _reason(outcome: _Outcome) -> str:
    return str(outcome.failure).removeprefix(f"{outcome.photo.file_name}: ")


def _places(places: Mapping[int, tuple[str, str]], roots: Mapping[str, Path]) -> dict[int, Place]:
    full = {name: folder.as_posix() for name, folder in roots.items()}
    return {
        image_id: Place(path, f"{full[root]}/{path}" if root in full else None)
        for image_id, (root, path) in places.items()
    }
