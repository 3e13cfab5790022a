"""Features on disk, made once an annotation: one ``.npz`` file for each key of what they were made from.

512 points of 128 numbers in float16 are 130 KiB, so that 225,000 annotations take 29 GB. A corrected box, another
outline or other settings make another file; nothing is ever overwritten with other numbers.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resight import progress
from resight.artefacts import Passport, atomic_path, key_of
from resight.catalogue.photos import PhotoReader
from resight.chips import LEAST_COVERED, SHOWN_FAILURES, Failure, failure_of, quarantined_failure
from resight.embedding import ahead
from resight.errors import (
    ArtefactMismatch,
    ImageError,
    InputError,
)
from resight.images import share_covered, upright_size
from resight.matching.local.extractors import Extractor
from resight.matching.local.features import ExtractorSpec, LocalFeatures, cut_evidence_chip, on_animal
from resight.matching.local.foreground import LEAST_PHOTOS, MOST_PHOTOS, Estimate, Estimates
from resight.memory import freed_memory_kept
from resight.outlines import Outline, read_outline
from resight.types import Annotation, Box

logger = logging.getLogger(__name__)

PASSPORT = "passport.json"
READ_AHEAD = 4  # photos that are read and cut while the network works
# What NumPy raises on a file that a power failure cut short.
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)


class FeatureStore:
    """The features of one extractor.

    Args:
        folder: Where they lie; is made when something is written.
        passport: What decides them.

    Raises:
        ArtefactMismatch: the folder holds features that were made otherwise.
    """

    def __init__(self, folder: Path, passport: Passport) -> None:
        self.folder = folder
        self._passport = passport
        if (folder / PASSPORT).is_file():
            remedy = "delete that folder, features are made again when they are needed"
            Passport.read(folder / PASSPORT).require_fit(passport, where=folder, remedy=remedy)
        elif folder.is_dir() and not all(path.name.startswith(".") for path in folder.iterdir()):
            raise ArtefactMismatch(
                f"{folder} holds features without a passport; delete it, features are made again when needed"
            )

    def path(self, key: str) -> Path:
        """Where features lie; 256 sub-folders keep any one of them short."""
        return self.folder / key[:2] / f"{key}.npz"

    def read(self, key: str) -> LocalFeatures | None:
        """Features by their key; ``None`` where there are none, or what is there was cut short."""
        try:
            with self.path(key).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                width, height = (int(side) for side in file["size"])
                features = LocalFeatures(file["keypoints"], file["descriptors"], file["scores"], (width, height))
        except _BROKEN:
            return None
        same = len(features.keypoints) == len(features.descriptors) == len(features.scores)
        return features if same else None

    def holds(self, key: str) -> bool:
        """Whether features are there; a file that was cut short is not."""
        return zipfile.is_zipfile(self.path(key))

    def write(self, key: str, features: LocalFeatures) -> None:
        """Keep features, whole or not at all."""
        if not (self.folder / PASSPORT).is_file():
            self._passport.write(self.folder / PASSPORT)
        with atomic_path(self.path(key), durable=False) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                keypoints=features.keypoints,
                descriptors=features.descriptors,
                scores=features.scores,
                size=np.array(features.size, np.int32),
            )


@dataclass(frozen=True)
class FeatureSet:
    """Features of some annotations.

    Attributes:
        store: Where they lie.
        keys: annotation_id → key of its features.
        made: How many were made now; the others were there.
        by_outline: Annotations whose points were kept by an outline.
        by_estimate: Annotations of which an estimate was asked where the animal is; where it tells nothing of a photo,
            and for all others, the box counts.
        broken: Annotations with an outline that counts as none → what is wrong with it; that one lies away from its box
            is found when its features are made.
        failures: Annotations that have no features, and why.
    """

    store: FeatureStore
    keys: Mapping[str, str]
    made: int
    by_outline: frozenset[str]
    broken: Mapping[str, str]
    failures: tuple[Failure, ...]
    by_estimate: frozenset[str] = frozenset()

    def load(self, annotation_id: str) -> LocalFeatures:
        """The features of an annotation.

        Raises:
            ArtefactMismatch: they were deleted since.
        """
        features = self.store.read(self.keys[annotation_id])
        if features is None:
            raise ArtefactMismatch(
                f"{self.store.path(self.keys[annotation_id])} is gone or cut short; run the command again, features "
                "are made when they are needed"
            )
        return features


@dataclass(frozen=True)
class Shown:
    """One animal as its photo shows it, ready for the network.

    Attributes:
        chip: (h, w, 3) uint8, RGB.
        box: What the chip shows, in pixels of the upright photo.
        theta_rad: Its rotation.
        mask: The outline as a picture of the photo's size; ``None`` without one, or with one that cannot be right.
        estimated: (h, w) where the animal is on the chip, where there is no outline and an estimate tells something.
    """

    chip: NDArray[np.uint8]
    box: Box
    theta_rad: float
    mask: Image.Image | None
    estimated: NDArray[np.bool_] | None = None

    def inside(self, keypoints: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n, 2) pixels of the chip → (n,), which are on the animal."""
        size = self.chip.shape[1], self.chip.shape[0]
        if self.mask is not None:
            return on_animal(keypoints, size, self.box, self.theta_rad, self.mask)
        if self.estimated is None:
            return np.ones(len(keypoints), np.bool_)
        x, y = np.clip(np.rint(keypoints).astype(np.int64), 0, np.array(size) - 1).T
        inside: NDArray[np.bool_] = self.estimated[y, x]
        return inside


@dataclass
class _Tally:
    """What is gathered while features are made."""

    keys: dict[str, str] = field(default_factory=dict)
    by_outline: set[str] = field(default_factory=set)
    by_estimate: set[str] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def show(
    content: bytes,
    name: str,
    box: Box | None,
    theta_rad: float,
    outline: Outline | None,
    spec: ExtractorSpec,
    estimate: Estimate | None = None,
) -> Shown:
    """Cut one animal out of its photo, and find where on the chip it is.

    Args:
        content: The photo's bytes.
        name: How messages call it.
        box: In pixels of the upright photo; ``None`` takes all of it.
        theta_rad: Rotation of the box.
        outline: Of the animal, in the photo; one that covers next to nothing of the box keeps the points of the whole
            box.
        spec: How large the chip is.
        estimate: Says where the animal is where there is no outline; ``None`` keeps the whole box.

    Raises:
        ImageUnreadable: not a picture, cut short, or over the limits.
        ImageError: the box lies outside the picture, has no area, or is over the limits.
    """
    chip = cut_evidence_chip(content, name, box, theta_rad, spec)
    mask = None if outline is None else outline.mask()
    if mask is not None and share_covered(mask, name, box, theta_rad) < LEAST_COVERED:
        mask = None
    estimated = estimate.mask(chip) if outline is None and estimate is not None else None
    return Shown(chip, box or Box(0, 0, *upright_size(content, name)), theta_rad, mask, estimated)


def make_features(
    annotations: Iterable[Annotation],
    outlines: Mapping[str, Any],
    roots: Mapping[str, Path],
    folder: Path,
    extractor: Extractor,
    estimates: Estimates | None = None,
) -> FeatureSet:
    """Make the features that are not there yet.

    Photos are read and cut in another thread while the network works. A photo that is missing, changed or unreadable
    is counted and named; it never stops the others. Annotations on quarantined images are not tried. An outline that is
    broken, of another size than its photo, or away from its box counts as none, and is counted.

    Args:
        annotations: Whose features are wanted.
        outlines: annotation_id → a COCO segmentation, where there is one.
        roots: Image roots, name → folder.
        folder: The project's folder for features; each spec has its own below it.
        extractor: The network.
        estimates: Where animals without an outline are, of the species that have one (:func:`fit_estimates`); what an
            estimate cannot tell of is kept by the box.

    Raises:
        ArtefactMismatch: the folder holds features that were made otherwise.
    """
    annotations = list(annotations)
    store = FeatureStore(folder / extractor.spec.folder_name, extractor.passport)
    reader = PhotoReader(roots)
    species = {one.species for one in annotations if one.species is not None}
    estimate_of = {} if estimates is None else {name: found for name in species if (found := estimates.known(name))}
    tally = _Tally()
    to_make: list[Annotation] = []
    for annotation in annotations:
        if annotation.image_status == "quarantined":
            tally.failures.append(quarantined_failure(annotation))
            continue
        segmentation, estimate = outlines.get(annotation.annotation_id), estimate_of.get(annotation.species or "")
        if not _is_there(annotation, segmentation, estimate, store, reader, extractor.spec, tally):
            to_make.append(annotation)
    known = len(tally.failures)
    made = 0
    shown = _read_all(to_make, outlines, estimate_of, store, reader, extractor.spec, tally)
    with progress.bar("local features", len(to_make)) as running, freed_memory_kept():
        for key, animal in ahead(shown, READ_AHEAD):
            if animal is not None:
                store.write(key, extractor.extract(animal.chip, animal.inside))
                made += 1
            running.advance()
    _tell(tally, tally.failures[known:])
    by_outline = frozenset(tally.by_outline - tally.broken.keys())
    broken, failures = dict(sorted(tally.broken.items())), tuple(tally.failures)
    return FeatureSet(store, tally.keys, made, by_outline, broken, failures, frozenset(tally.by_estimate))


def fit_estimates(
    annotations: Iterable[Annotation], roots: Mapping[str, Path], spec: ExtractorSpec, estimates: Estimates
) -> None:
    """Fit the estimate of each species that was not tried before and has enough photos.

    Also where all have outlines: a photo that the catalogue does not know yet has none.

    Args:
        annotations: All of their species, so that the estimate is the same whichever of them are compared first.
        roots: Image roots, name → folder.
        spec: How large chips are.
        estimates: Where it is kept.
    """
    by_species: dict[str, list[Annotation]] = {}
    for one in annotations:
        if one.species is not None and one.image_status != "quarantined":
            by_species.setdefault(one.species, []).append(one)
    for species, mine in sorted(by_species.items()):
        if len(mine) >= LEAST_PHOTOS and not estimates.is_fitted(species):
            # Drawn by their ids: the first ones may all be of one place.
            drawn = sorted(mine, key=lambda one: key_of(one.annotation_id))
            chips = _chips(drawn, PhotoReader(roots), spec)
            estimates.fit(species, progress.track(chips, f"look of {species}", min(len(drawn), MOST_PHOTOS)))


def _chips(annotations: Sequence[Annotation], reader: PhotoReader, spec: ExtractorSpec) -> Iterator[NDArray[np.uint8]]:
    """Those of the first ``MOST_PHOTOS`` that can be read; the others are counted when their features are made."""
    given = 0
    for one in annotations:
        if given == MOST_PHOTOS:
            return
        try:
            photo = reader.read(one)
            chip = cut_evidence_chip(photo.content, photo.name, one.box, one.theta_rad, spec)
        except ImageError:
            continue
        given += 1
        yield chip


def _is_there(
    annotation: Annotation,
    segmentation: Any,
    estimate: Estimate | None,
    store: FeatureStore,
    reader: PhotoReader,
    spec: ExtractorSpec,
    tally: _Tally,
) -> bool:
    """Whether the features are known to be there without reading the photo; notes their key."""
    width, height = annotation.image_width, annotation.image_height
    if annotation.content_hash is None or reader.seems_changed(annotation):
        return False
    if segmentation is not None and (width is None or height is None):
        return False
    outline = _read(annotation, segmentation, width or 0, height or 0, tally)
    key = spec.key(annotation.content_hash, annotation.box, annotation.theta_rad, outline or estimate)
    if not store.holds(key):
        return False
    _note(annotation, key, outline or estimate, tally)
    return True


def _read_all(
    annotations: Sequence[Annotation],
    outlines: Mapping[str, Any],
    estimate_of: Mapping[str, Estimate],
    store: FeatureStore,
    reader: PhotoReader,
    spec: ExtractorSpec,
    tally: _Tally,
) -> Iterator[tuple[str, Shown | None]]:
    """Key and chip of each annotation; no chip where there is none, or the same was just made for another source."""
    given: set[str] = set()
    for annotation in annotations:
        try:
            photo = reader.read(annotation)
            width, height = upright_size(photo.content, photo.name)
            outline = _read(annotation, outlines.get(annotation.annotation_id), width, height, tally)
            estimate = estimate_of.get(annotation.species or "")
            key = spec.key(photo.content_hash, annotation.box, annotation.theta_rad, outline or estimate)
            animal = None
            if key not in given and not store.holds(key):
                place = annotation.box, annotation.theta_rad
                animal = show(photo.content, photo.name, *place, outline, spec, estimate)
        except ImageError as error:
            tally.failures.append(failure_of(annotation, error))
            yield "", None
            continue
        given.add(key)
        _note(annotation, key, outline or estimate, tally)
        if animal is not None and outline is not None and animal.mask is None:
            tally.broken[annotation.annotation_id] = "the outline lies away from its box"
        yield key, animal


def _read(annotation: Annotation, segmentation: Any, width: int, height: int, tally: _Tally) -> Outline | None:
    if segmentation is None:
        return None
    try:
        return read_outline(segmentation, width, height)
    except InputError as error:
        tally.broken[annotation.annotation_id] = str(error)
        return None


def _note(annotation: Annotation, key: str, inside: Outline | Estimate | None, tally: _Tally) -> None:
    tally.keys[annotation.annotation_id] = key
    if isinstance(inside, Estimate):
        tally.by_estimate.add(annotation.annotation_id)
    elif inside is not None:
        tally.by_outline.add(annotation.annotation_id)


def _tell(tally: _Tally, failures: Sequence[Failure]) -> None:
    if tally.broken:
        name, problem = min(tally.broken.items())
        logger.warning(
            "%d outlines count as none; the first is that of annotation %s: %s", len(tally.broken), name, problem
        )
    for failure in failures[:SHOWN_FAILURES]:
        logger.warning("no local features of %s: %s", failure.file_name, failure.message)
    if len(failures) > SHOWN_FAILURES:
        logger.warning("and %d more annotations without local features", len(failures) - SHOWN_FAILURES)
