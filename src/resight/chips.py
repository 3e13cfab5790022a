"""Chips: the animals cut out of their photos, made once and kept by what they were made from.

A chip is a (size, size, 3) uint8 RGB array in an ``.npy`` file, named by a key of the photo's content, the box, theta
and the parameters. A corrected box or another size makes another chip; nothing is ever overwritten.

A background chip shows what is around an animal and not the animal: how well individuals are told apart by these tells
how much of a score the places may have earned.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

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
from resight.images import (
    COVER_GREY,
    CUT_VERSION,
    cut_chip,
    cut_covered_chip,
    read_facts,
    share_covered,
    upright_size,
)
from resight.outlines import Outline, outline_of_box, read_outline
from resight.parallel import parallel_map
from resight.types import Annotation, Box

logger = logging.getLogger(__name__)

SIZES = range(16, 2049)
SHOWN_FAILURES = 5

BACKGROUND_VERSION = 1  # raise it whenever the pixels of a background chip change
SURROUNDINGS = 1.5  # without an outline: width and height of what is shown, in those of the box that is covered
LEAST_SHOWN = 0.01  # of such a chip that is photo around the box; with less, the photo is the animal cut out already
LEAST_COVERED = 0.01  # of the box; an outline that covers less is of something else, or in other units
_GRID = 64


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
    """An annotation without a chip.

    ``reason`` is ``missing``, ``changed``, ``unreachable``, ``unreadable``, ``box`` or ``no_background``.
    """

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


@dataclass(frozen=True)
class BackgroundChips(ChipSet):
    """Background chips of some annotations.

    Attributes:
        by_outline: Annotations whose animal was covered by its outline; those of the others by their whole box.
        broken: Annotations with an outline that counted as none → what is wrong with it.
    """

    by_outline: frozenset[str]
    broken: Mapping[str, str]


class _NoBackground(ImageError):
    """Nothing of a photo is known to be background."""


class _Kind(Protocol):
    """One kind of chip: where such chips lie, how they are named and how they are cut."""

    @property
    def size(self) -> int: ...

    @property
    def folder_name(self) -> str: ...

    @property
    def passport(self) -> Passport: ...

    def known_key(self, annotation: Annotation, content_hash: str) -> str | None:
        """The key, where it can be told without reading the photo.

        Raises:
            ImageError: the annotation cannot have such a chip.
        """

    def plan(self, annotation: Annotation, photo: Photo) -> tuple[str, Callable[[], NDArray[np.uint8]]]:
        """The key, and how to cut the chip where it is not there.

        Raises:
            ImageError: the annotation cannot have such a chip.
        """


@dataclass(frozen=True)
class _Whole:
    """Chips that show the animal."""

    spec: ChipSpec

    @property
    def size(self) -> int:
        return self.spec.size

    @property
    def folder_name(self) -> str:
        return self.spec.folder_name

    @property
    def passport(self) -> Passport:
        return self.spec.passport

    def known_key(self, annotation: Annotation, content_hash: str) -> str | None:
        return self.spec.key(content_hash, annotation.box, annotation.theta_rad)

    def plan(self, annotation: Annotation, photo: Photo) -> tuple[str, Callable[[], NDArray[np.uint8]]]:
        box, theta_rad = annotation.box, annotation.theta_rad
        key = self.spec.key(photo.content_hash, box, theta_rad)
        return key, lambda: cut_chip(photo.content, photo.name, box, theta_rad, self.size)


@dataclass(frozen=True)
class _Background:
    """Chips that show what is around the animal; ``broken`` gathers the outlines that count as none."""

    spec: ChipSpec
    outlines: Mapping[str, Any]
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return self.spec.size

    @property
    def folder_name(self) -> str:
        return f"{self.spec.folder_name}-background{BACKGROUND_VERSION}"

    @property
    def passport(self) -> Passport:
        decides = {
            **self.spec.passport.decides,
            "background_version": BACKGROUND_VERSION,
            "grey": COVER_GREY,
            "surroundings": SURROUNDINGS,
            "least_shown": LEAST_SHOWN,
            "least_covered": LEAST_COVERED,
        }
        return Passport("background chips", decides)

    def known_key(self, annotation: Annotation, content_hash: str) -> str | None:
        width, height = annotation.image_width, annotation.image_height
        if width is None or height is None:
            return None
        outline = self._outline(annotation, width, height)
        if outline is None:
            _surroundings(annotation, width, height)
        return self._key(annotation, content_hash, outline)

    def plan(self, annotation: Annotation, photo: Photo) -> tuple[str, Callable[[], NDArray[np.uint8]]]:
        content, name, box, theta_rad = photo.content, photo.name, annotation.box, annotation.theta_rad
        width, height = upright_size(content, name)
        outline = self._outline(annotation, width, height)
        if outline is not None:
            mask = outline.mask()
            share = share_covered(mask, name, box, theta_rad)
            if share >= LEAST_COVERED:
                key = self._key(annotation, photo.content_hash, outline)
                return key, lambda: cut_covered_chip(content, name, box, theta_rad, self.size, mask)
            self.broken[annotation.annotation_id] = f"the outline covers {share:.1%} of its box"
        box, around = _surroundings(annotation, width, height)
        covered = outline_of_box(box, theta_rad, width, height).mask()
        share_covered(covered, name, box, theta_rad)  # a box outside the photo may have surroundings inside it
        key = self._key(annotation, photo.content_hash, None)
        return key, lambda: cut_covered_chip(content, name, around, theta_rad, self.size, covered)

    def _outline(self, annotation: Annotation, width: int, height: int) -> Outline | None:
        segmentation = self.outlines.get(annotation.annotation_id)
        if segmentation is None:
            return None
        try:
            return read_outline(segmentation, width, height)
        except InputError as error:
            self.broken[annotation.annotation_id] = str(error)
            return None

    def _key(self, annotation: Annotation, content_hash: str, outline: Outline | None) -> str:
        covered = "box" if outline is None else outline.key
        shown = self.spec.key(content_hash, annotation.box, annotation.theta_rad)
        return key_of("background chip", BACKGROUND_VERSION, shown, covered)


def _surroundings(annotation: Annotation, width: int, height: int) -> tuple[Box, Box]:
    """The box that is covered and the box around it that is shown, of a photo of this upright size.

    Raises:
        _NoBackground: there is no box, or next to nothing of the photo is around it.
    """
    box = annotation.box
    if box is None:
        raise _NoBackground(
            f"{annotation.file_name}: neither a box nor an outline that can be used, so that nothing is known to be "
            "background"
        )
    w, h = box.w * SURROUNDINGS, box.h * SURROUNDINGS
    around = Box(box.x + (box.w - w) / 2, box.y + (box.h - h) / 2, w, h)
    shown = _share_shown(box, annotation.theta_rad, width, height)
    if shown < LEAST_SHOWN:
        raise _NoBackground(
            f"{annotation.file_name}: no outline that can be used, and nothing of the photo lies around the box, so "
            "that nothing is known to be background"
        )
    return box, around


def _share_shown(box: Box, theta_rad: float, width: int, height: int) -> float:
    """How much of the surroundings of a box is photo and not box, from 0 to 1, by points on a grid."""
    steps = (np.arange(_GRID) + 0.5) / _GRID - 0.5
    across, down = np.meshgrid(steps * SURROUNDINGS, steps * SURROUNDINGS)  # in widths and heights of the box
    cosine, sine = math.cos(theta_rad), math.sin(theta_rad)
    x = box.x + box.w / 2 + cosine * across * box.w - sine * down * box.h
    y = box.y + box.h / 2 + sine * across * box.w + cosine * down * box.h
    inside_photo = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    inside_box = (np.abs(across) <= 0.5) & (np.abs(down) <= 0.5)
    return float((inside_photo & ~inside_box).mean())


def _is_whole(chip: Path, size: int) -> bool:
    """Whether the chip is there; one that a power failure cut short is not, since chips are written without waiting."""
    try:
        return chip.stat().st_size > 3 * size**2
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
    return _make(annotations, roots, chips_folder, _Whole(spec))


def make_background_chips(
    annotations: Iterable[Annotation],
    outlines: Mapping[str, Any],
    roots: Mapping[str, Path],
    chips_folder: Path,
    spec: ChipSpec,
) -> BackgroundChips:
    """Make the chips of the background alone that are not there yet, as :func:`make_chips` does.

    Where an animal's outline is known, its chip is the ordinary one with everything inside the outline painted grey.
    Its silhouette is still seen, and so is what the outline leaves out of it. Else the whole box is painted grey, and
    :data:`SURROUNDINGS` times its width and height are shown; what of the animal reaches out of its box is still seen.
    Other animals are seen in either.

    An outline that is broken, empty, of another size than its photo or away from its box counts as none; a warning says
    how many do. An outline that covers its whole box leaves nothing but grey. Without an outline, an annotation that
    has no box, or whose box takes the whole photo, is a failure.

    Args:
        annotations: Whose background is wanted.
        outlines: annotation_id → a COCO segmentation, where there is one.
        roots: Image roots, name → folder.
        chips_folder: The project's ``chips/``.
        spec: The parameters.

    Raises:
        ArtefactMismatch: the folder holds chips of other parameters.
    """
    kind = _Background(spec, outlines)
    chips = _make(annotations, roots, chips_folder, kind)
    broken = dict(sorted(kind.broken.items()))
    if broken:
        name, problem = next(iter(broken.items()))
        logger.warning("%d outlines count as none; the first is that of annotation %s: %s", len(broken), name, problem)
    by_outline = frozenset(name for name in chips.keys if outlines.get(name) is not None and name not in broken)
    return BackgroundChips(
        chips.folder, chips.keys, chips.made, chips.failures, chips.found, by_outline=by_outline, broken=broken
    )


def _make(annotations: Iterable[Annotation], roots: Mapping[str, Path], chips_folder: Path, kind: _Kind) -> ChipSet:
    folder = chips_folder / kind.folder_name
    _claim(folder, kind.passport)
    reader = PhotoReader(roots)
    keys: dict[str, str] = {}
    to_cut: list[Annotation] = []
    quarantined: list[Failure] = []
    failures: list[Failure] = []
    for annotation in annotations:
        if annotation.image_status == "quarantined":
            quarantined.append(quarantined_failure(annotation))
            continue
        if annotation.content_hash is not None:
            try:
                key = kind.known_key(annotation, annotation.content_hash)
            except ImageError as error:
                failures.append(failure_of(annotation, error))
                continue
            is_there = key is not None and _is_whole(chip_path(folder, key), kind.size)
            if key is not None and is_there and not reader.seems_changed(annotation):
                keys[annotation.annotation_id] = key
                continue
        to_cut.append(annotation)
    found: dict[int, FoundImage] = {}
    made = 0
    cut = parallel_map(lambda a: _cut(a, reader, folder, kind), to_cut, label="chips", total=len(to_cut))
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
    _tell(failures, [image.moved_to for image in found.values() if image.moved_to is not None])
    # What was quarantined before is no news, and still a failure.
    return ChipSet(folder, keys, made, (*quarantined, *failures), tuple(found.values()))


def _tell(failures: Sequence[Failure], moved: Sequence[tuple[str, str]]) -> None:
    if moved:
        logger.info("%d photos were found again in another place, such as %s", len(moved), "/".join(moved[0]))
    # What a dataset does not state is so for most of its annotations, and one example says it all.
    unknown = [failure for failure in failures if failure.reason == "no_background"]
    if unknown:
        logger.warning("no background chip of %d annotations, such as %s", len(unknown), unknown[0].message)
    mishaps = [failure for failure in failures if failure.reason != "no_background"]
    for failure in mishaps[:SHOWN_FAILURES]:
        logger.warning("no chip of %s: %s", failure.file_name, failure.message)
    if len(mishaps) > SHOWN_FAILURES:
        logger.warning("and %d more annotations without a chip", len(mishaps) - SHOWN_FAILURES)


def _claim(folder: Path, expected: Passport) -> None:
    passport = folder / "passport.json"
    if passport.is_file():
        Passport.read(passport).require_fit(
            expected, where=folder, remedy="delete that folder, chips are made again when they are needed"
        )
    elif folder.is_dir() and not all(path.name.startswith(".") for path in folder.iterdir()):
        raise ArtefactMismatch(f"{folder} holds chips without a passport; delete it, chips are made again when needed")
    else:
        expected.write(passport)


def _cut(annotation: Annotation, reader: PhotoReader, folder: Path, kind: _Kind) -> tuple[str, Photo, bool] | Failure:
    try:
        photo = reader.read(annotation)
        key, cut = kind.plan(annotation, photo)
        target = chip_path(folder, key)
        missing = not _is_whole(target, kind.size)
        if missing:
            write_chip(target, cut())
    except ImageError as error:
        return failure_of(annotation, error)
    return key, photo, missing


def _reason(error: ImageError) -> str:
    reasons = {
        ImageMissing: "missing",
        ImageChanged: "changed",
        ImageUnreachable: "unreachable",
        ImageUnreadable: "unreadable",
        _NoBackground: "no_background",
    }
    return reasons.get(type(error), "box")


def write_chip(target: Path, chip: NDArray[np.uint8]) -> None:
    """Write one chip, whole or not at all."""
    with atomic_path(target, durable=False) as temporary:
        np.save(temporary, chip)


def quarantined_failure(annotation: Annotation) -> Failure:
    """Of an annotation on a quarantined image, which is not tried."""
    return _failure(annotation, "unreadable", f"{annotation.file_name}: quarantined")


def failure_of(annotation: Annotation, error: ImageError) -> Failure:
    """Why an annotation has no chip, or nothing else that its photo is needed for."""
    return _failure(annotation, _reason(error), str(error))


def _failure(annotation: Annotation, reason: str, message: str) -> Failure:
    return Failure(annotation.annotation_id, annotation.image_id, annotation.file_name, reason, message)
