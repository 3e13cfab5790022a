"""The detector that has looked already: MegaDetector's results of a batch, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from resight.artefacts import content_hash
from resight.catalogue.detecting import RawPhoto
from resight.catalogue.sources import coco, megadetector
from resight.catalogue.sources.megadetector import FileDetections
from resight.detection.detector import Found, Ready, sort_out
from resight.detection.paths import Place, match_files
from resight.errors import ImageError, InputError
from resight.types import Detection

_PROPORTIONS = 0.02  # by how much width : height of a down-scaled copy may differ from its photo's


class JsonFile:
    """What a file of results says of photos; the photos themselves are not read."""

    def __init__(self, file: Path) -> None:
        """Read a file of results.

        Raises:
            InputError: it cannot be read, or holds no results.
        """
        self._stated = megadetector.detections_by_file(coco.load(file), file)
        if not self._stated:
            raise InputError(f"{file}: its list of images names no photo; run the detector on the photos again")
        self._name = f"json:{file.name}@{content_hash(file.read_bytes())[:8]}"

    @property
    def name(self) -> str:
        """The file's name and the beginning of its hash."""
        return self._name

    def ready(self, places: Mapping[int, Place]) -> Ready:
        """Find out which photos the file names."""
        matches = match_files(self._stated, places)
        of_image = {image_id: self._stated[file] for file, image_id in matches.image_of.items()}

        def look(photo: RawPhoto, read: Callable[[], bytes]) -> Found:
            return _found(photo, of_image[photo.image_id])

        return Ready(look, frozenset(of_image), matches.unmatched)


def _found(photo: RawPhoto, stated: FileDetections) -> Found:
    name, width, height = photo.file_name, photo.width, photo.height
    if stated.failure is not None:
        raise ImageError(f"{name}: the detector did not look at it ({stated.failure}); run it again on this photo")
    if width is None or height is None:
        raise ImageError(f"{name}: its size is not known, and the boxes are fractions of it; import the photo again")
    if stated.size is not None and not _is_alike(stated.size, (width, height)):
        raise ImageError(
            f"{name}: the results are of a picture of {stated.size[0]} x {stated.size[1]} pixels and the photo has "
            f"{width} x {height}; it is another photo of that name, run the detector again"
        )
    seen = []
    for one in stated.detections:
        box = megadetector.box_in_pixels(one, width, height)
        if box.w > 0 and box.h > 0:
            outline = megadetector.outline_in_pixels(one, width, height)
            seen.append((one.category, Detection(box, one.confidence, outline=outline)))
    return sort_out(seen)


def _is_alike(stated: tuple[int, int], own: tuple[int, int]) -> bool:
    """Whether a picture of one size may be a copy of the photo; some programs state the sides before turning it."""
    proportion = own[0] / own[1]
    return any(abs(w / h / proportion - 1) <= _PROPORTIONS for w, h in (stated, stated[::-1]))
