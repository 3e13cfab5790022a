"""Chips: the animals cut out of their photos, made once and kept by what they were made from.

A chip is a (size, size, 3) uint8 RGB array in an ``.npy`` file, named by a key of the photo's content, the box, theta
and the parameters. A corrected box or another size makes another chip; nothing is ever overwritten.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight.artefacts import Passport, atomic_path, key_of
from resight.catalogue.photos import FoundImage, Photo, PhotoReader
from resight.errors import (
    ArtefactMismatch,
    ImageChanged,
    ImageError,
    ImageMissing,
    ImageUnreachable,
    ImageUnreadable,
    InputError,
)
from resight.images import CUT_VERSION, cut_chip, read_facts
from resight.parallel import parallel_map
from resight.types import Annotation, Box

logger = logging.getLogger(__name__)

SIZES = range(16, 2049)
SHOWN_FAILURES = 5


@dataclass(frozen=True)
class ChipSpec:
    """The parameters of a chip; ``size`` is its side in pixels."""

    size: int

    def __post_init__(self) -> None:
        """Check the size."""
        if self.size not in SIZES:
            raise InputError(f"image_size {self.size}: expected {SIZES.start} to {SIZES.stop - 1} pixels")

    @property
    def folder_name(self) -> str:
        """Name of the folder below ``chips/`` that holds chips of these parameters."""
        return f"{self.size}-v{CUT_VERSION}"

    @property
    def passport(self) -> Passport:
        """What decides the pixels of every chip in the folder."""
        return Passport("chips", {"size": self.size, "cut_version": CUT_VERSION, "resize": "squash"})

    def key(self, content_hash: str, box: Box | None, theta_rad: float) -> str:
        """The key of one chip."""
        # As floats, so that a box of whole numbers has one key, however it was written.
        place = None if box is None else [float(side) for side in (box.x, box.y, box.w, box.h)]
        return key_of("chip", CUT_VERSION, self.size, content_hash, place, float(theta_rad))


@dataclass(frozen=True)
class Failure:
    """An annotation without a chip; ``reason`` is ``missing``, ``changed``, ``unreadable`` or ``box``."""

    annotation_id: str
    image_id: int
    file_name: str
    reason: str
    message: str


@dataclass(frozen=True)
class ChipSet:
    """Chips of some annotations.

    Attributes:
        folder: Where they lie.
        keys: annotation_id → key of its chip.
        made: How many were cut now; the others were there.
        failures: Annotations that have none, and why.
        found: What was learned of images on the way.
    """

    folder: Path
    keys: Mapping[str, str]
    made: int
    failures: tuple[Failure, ...]
    found: tuple[FoundImage, ...]

    def path(self, annotation_id: str) -> Path:
        """The ``.npy`` file of an annotation's chip."""
        return chip_path(self.folder, self.keys[annotation_id])

    def load(self, annotation_ids: Sequence[str]) -> NDArray[np.uint8]:
        """Read chips into one array.

        Returns:
            (n, size, size, 3) uint8, RGB, in the order asked for.
        """
        first = np.load(self.path(annotation_ids[0]))
        chips = np.empty((len(annotation_ids), *first.shape), np.uint8)
        for row, name in enumerate(
            annotation_ids
        ):  # in place: read one by one and then stacked, it would be twice that
            chips[row] = np.load(self.path(name))
        return chips


def chip_path(folder: Path, key: str) -> Path:
    """Where the chip of this key lies; 256 sub-folders keep any one of them short."""
    return folder / key[:2] / f"{key}.npy"


def _is_whole(chip: Path, spec: ChipSpec) -> bool:
    """Whether the chip is there; one that a power failure cut short is not, since chips are written without waiting."""
    try:
        return chip.stat().st_size > 3 * spec.size**2
    except FileNotFoundError:
        return False


def make_chips(
    annotations: Iterable[Annotation], roots: Mapping[str, Path], chips_folder: Path, spec: ChipSpec
) -> ChipSet:
    """Cut the chips that are not there yet, over all cores.

    A photo that is missing, changed or unreadable is counted and named; it never stops the others. Annotations on
    quarantined images are not tried.

    Args:
        annotations: Whose chips are wanted.
        roots: Image roots, name → folder.
        chips_folder: The project's ``chips/``.
        spec: The parameters.

    Raises:
        ArtefactMismatch: the folder holds chips of other parameters.
    """
    folder = chips_folder / spec.folder_name
    _claim(folder, spec)
    reader = PhotoReader(roots)
    wanted = list(annotations)
    keys: dict[str, str] = {}
    to_cut: list[Annotation] = []
    failures: list[Failure] = []
    for annotation in wanted:
        if annotation.image_status == "quarantined":
            failures.append(_failure(annotation, "unreadable", f"{annotation.file_name}: quarantined"))
            continue
        if annotation.content_hash is not None:
            key = spec.key(annotation.content_hash, annotation.box, annotation.theta_rad)
            if _is_whole(chip_path(folder, key), spec) and not reader.seems_changed(annotation):
                keys[annotation.annotation_id] = key
                continue
        to_cut.append(annotation)
    already = len(failures)  # quarantined before: no news
    found: dict[int, FoundImage] = {}
    made = 0
    cut = parallel_map(lambda a: _cut(a, reader, folder, spec), to_cut, label="chips", total=len(to_cut))
    for annotation, outcome in zip(to_cut, cut, strict=True):
        if isinstance(outcome, Failure):
            failures.append(outcome)
            continue
        key, photo, was_cut = outcome
        made += was_cut
        keys[annotation.annotation_id] = key
        touched = annotation.image_modified_ns != photo.modified_ns  # the same content, written again
        if annotation.content_hash is None or photo.moved_to is not None or touched:
            found[annotation.image_id] = FoundImage(
                annotation.image_id,
                len(photo.content),
                photo.modified_ns,
                read_facts(photo.content, photo.name),
                photo.moved_to,
            )
    _tell(failures[already:], [image.moved_to for image in found.values() if image.moved_to is not None])
    return ChipSet(folder, keys, made, tuple(failures), tuple(found.values()))


def _tell(failures: Sequence[Failure], moved: Sequence[tuple[str, str]]) -> None:
    if moved:
        logger.info("%d photos were found again in another place, such as %s", len(moved), "/".join(moved[0]))
    for failure in failures[:SHOWN_FAILURES]:
        logger.warning("no chip of %s: %s", failure.file_name, failure.message)
    if len(failures) > SHOWN_FAILURES:
        logger.warning("and %d more annotations without a chip", len(failures) - SHOWN_FAILURES)


def _claim(folder: Path, spec: ChipSpec) -> None:
    passport = folder / "passport.json"
    if passport.is_file():
        Passport.read(passport).require_fit(
            spec.passport, where=folder, remedy="delete that folder, chips are made again when they are needed"
        )
    elif folder.is_dir() and not all(path.name.startswith(".") for path in folder.iterdir()):
        raise ArtefactMismatch(f"{folder} holds chips without a passport; delete it, chips are made again when needed")
    else:
        spec.passport.write(passport)


def _cut(
    annotation: Annotation, reader: PhotoReader, folder: Path, spec: ChipSpec
) -> tuple[str, Photo, bool] | Failure:
    try:
        photo = reader.read(annotation)
        key = spec.key(photo.content_hash, annotation.box, annotation.theta_rad)
        target = chip_path(folder, key)
        missing = not _is_whole(target, spec)
        if missing:
            chip = cut_chip(photo.content, photo.name, annotation.box, annotation.theta_rad, spec.size)
            write_chip(target, chip)
    except ImageMissing as error:
        return _failure(annotation, "missing", str(error))
    except ImageChanged as error:
        return _failure(annotation, "changed", str(error))
    except ImageUnreachable as error:
        return _failure(annotation, "unreachable", str(error))
    except ImageUnreadable as error:
        return _failure(annotation, "unreadable", str(error))
    except ImageError as error:
        return _failure(annotation, "box", str(error))
    return key, photo, missing


def write_chip(target: Path, chip: NDArray[np.uint8]) -> None:
    """Write one chip, whole or not at all."""
    with atomic_path(target, durable=False) as temporary:
        np.save(temporary, chip)


def _failure(annotation: Annotation, reason: str, message: str) -> Failure:
    return Failure(annotation.annotation_id, annotation.image_id, annotation.file_name, reason, message)
