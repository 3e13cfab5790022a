"""The results of MegaDetector: JSON with an entry for each picture, and boxes in fractions of it.

The format is described at https://lila.science/megadetector-output-format. A box is of the picture turned upright, as
MegaDetector sees it. The dates in the file are the cameras' own; they are left to the photos, which state them as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resight.catalogue.sources import cards, coco, places, values
from resight.catalogue.sources.parsed import Findings, Parsed
from resight.catalogue.sources.segmentations import read_segmentation
from resight.catalogue.sources.sizes import Size, find_sizes
from resight.catalogue.sources.values import Bad, show
from resight.errors import ImageError, ImageMissing, ImageUnreadable, InputError
from resight.types import Box, Record

DEFAULT_THRESHOLD = 0.2  # the confidence from which a detection counts, as recommended for MegaDetector v5
DEFAULT_DETECTOR = "megadetector"

ANIMAL = "animal"
NO_ANIMALS = frozenset({"person", "human", "vehicle", "empty", "blank"})
"""Categories that are no animal's; any other than these and ``animal`` is the name of a species."""

_BEYOND = 0.01  # of the picture's side: how far a box may lie outside
_DIGITS = 2  # of a box in pixels after the point, so that it is the same on any machine
_MOST_SHOWN = 5
_ABSOLUTE = re.compile(r"(?:[A-Za-z]:)?/")
_NEEDS_SIZE = "the boxes are fractions of the picture, whose size is needed"


@dataclass(frozen=True, slots=True)
class RelativeDetection:
    """One detection as the file states it.

    Attributes:
        category: The name of its category, such as ``animal``.
        confidence: From 0 to 1.
        x: The left side, as a fraction of the upright picture's width, from 0 to 1 or a hundredth beyond.
        y: The upper side, as a fraction of the height.
        w: As a fraction of the width.
        h: As a fraction of the height.
        segmentation: Polygons, in the same fractions or in pixels, or an RLE; ``None`` where there is none.
        row: Where it stands, such as ``images[3].detections[0]``.
        classification: What a classifier took it for, or ``None``.
    """

    category: str
    confidence: float
    x: float
    y: float
    w: float
    h: float
    segmentation: Any = None
    row: str = ""
    classification: str | None = None


@dataclass(frozen=True, slots=True)
class FileDetections:
    """What the file states of one picture.

    Attributes:
        detections: In the order of the file, whatever their category and confidence.
        failure: Why the picture was not looked at, or what was found is not known whole; else ``None``.
        width: Of the upright picture in pixels, where the file states it.
        height: Likewise.
        row: Where it stands, such as ``images[3]``.
    """

    detections: tuple[RelativeDetection, ...]
    failure: str | None
    width: int | None
    height: int | None
    row: str = ""

    @property
    def size(self) -> Size | None:
        """Width and height in pixels, where the file states both."""
        return None if self.width is None or self.height is None else (self.width, self.height)


def recognise(document: object) -> str | None:
    """Why a JSON document is one of results, as the end of a sentence; ``None`` where it is not."""
    if isinstance(document, dict) and {"images", "detection_categories"} <= document.keys():
        return "it holds images and detection_categories"
    return None


def detections_by_file(document: Any, file: Path) -> dict[str, FileDetections]:
    """What a file of results states of each picture.

    Args:
        document: The content of the file.
        file: Its name, for messages.

    Returns:
        By the file name of the picture, with ``/`` between its parts; it may be an absolute path.

    Raises:
        InputError: It is no file of results, or something in it is wrong; the first problem is told.
    """
    findings = Findings()
    found = _read_images(document, file, findings)
    if findings.problems:
        first, more = findings.problems[0], len(findings.problems) - 1
        others = f", and {more:,} more problems" if more else ""
        raise InputError(f"{file}: {first.row}: {first.field} {first.value!r}: {first.problem}{others}; mend the file")
    return found


def detector_name(document: Any) -> str:
    """The detector that the file names, else ``megadetector``."""
    info = document.get("info") if isinstance(document, dict) else None
    name = values.parse_text(info.get("detector")) if isinstance(info, dict) else None
    return DEFAULT_DETECTOR if name is None or isinstance(name, Bad) else name


def is_animal(category: str) -> bool:
    """Whether detections of a category are animals."""
    return category.casefold() not in NO_ANIMALS


def species_of(category: str) -> str | None:
    """The species that a category of animals names; ``animal`` names none."""
    return None if category.casefold() == ANIMAL else category


def box_in_pixels(detection: RelativeDetection, width: int, height: int) -> Box:
    """The box in pixels of the upright picture, rounded to 0.01."""
    numbers = (detection.x * width, detection.y * height, detection.w * width, detection.h * height)
    return Box(*(round(number, _DIGITS) for number in numbers))


def outline_in_pixels(detection: RelativeDetection, width: int, height: int) -> Any:
    """The segmentation in pixels of the upright picture; one whose numbers all lie from 0 to 1 is in fractions."""
    segmentation = detection.segmentation
    if not isinstance(segmentation, list):
        return segmentation
    is_one = not isinstance(segmentation[0], list)
    polygons = [segmentation] if is_one else segmentation
    numbers = [number for polygon in polygons for number in polygon]
    if not all(isinstance(number, (int, float)) and 0 <= number <= 1 for number in numbers):
        return segmentation
    sides = (width, height)
    return [[round(n * sides[at % 2], _DIGITS) for at, n in enumerate(polygon)] for polygon in polygons]


def read(
    file: Path, *, images: Path | None = None, document: Any = None, threshold: float = DEFAULT_THRESHOLD
) -> Parsed:
    """Read a file of results.

    Animals from ``threshold`` on are annotations; a picture without any is one of ``photos``. The size of a picture is
    taken from the file where it is stated and holds for a sample of the pictures, else from the picture's header.

    Args:
        file: The file.
        images: The folder that file names start from; ``None`` looks beside the file.
        document: The file's content where it was loaded already.
        threshold: The least confidence of an annotation, from 0 to 1.

    Raises:
        InputError: The file cannot be read, holds no results, or names no picture.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold {threshold:g}: expected a confidence from 0 to 1")
    findings = Findings()
    document = coco.load(file) if document is None else document
    by_path = _read_images(document, file, findings)
    if not by_path and not findings.problems:
        raise InputError(f"{file}: nothing to import, for its list of images is empty")
    folder, by_name = _below_folder(file, images, by_path, findings)
    kept = {name: [one for one in state.detections if _is_kept(one, threshold)] for name, state in by_name.items()}
    sizes, note = find_sizes({name: by_name[name].size for name, some in kept.items() if some}, folder)
    if note:
        findings.remark(note)
    detector = detector_name(document)
    records: list[Record] = []
    photos: list[Record] = []
    for name, state in by_name.items():
        _count_left_out(state.detections, threshold, findings)
        size = sizes.get(name)
        photo = Record(state.row, name, image_width=state.width, image_height=state.height)
        found: Sequence[Record] = ()
        if isinstance(size, ImageUnreadable):
            findings.count("pictures that cannot be decoded: their boxes left out")
        elif isinstance(size, ImageError):
            findings.refuse(state.row, "file", name, f"{_reason(size, folder)}; {_NEEDS_SIZE}")
            continue
        elif size is not None:
            found = _records(photo, kept[name], detector, size, findings)
        elif state.failure is not None:
            findings.count(f"pictures of which the detector says nothing ({state.failure})")
        if found:
            records.extend(found)
        elif state.failure is not None or isinstance(size, ImageError):
            photos.append(photo)
        else:
            findings.count(f"pictures without an animal at or above the confidence {threshold:g}")
            unsure = (one.confidence for one in state.detections if is_animal(one.category))
            best = max((confidence for confidence in unsure if confidence < threshold), default=None)
            photos.append(replace(photo, detector=detector, confidence=best))
    _tell_classifications(kept.values(), findings)
    return Parsed(
        "megadetector", records, findings.problems, folder, places.source_name(file), findings.notes(), photos=photos
    )


def _is_kept(detection: RelativeDetection, threshold: float) -> bool:
    return is_animal(detection.category) and detection.confidence >= threshold


def _count_left_out(detections: Iterable[RelativeDetection], threshold: float, findings: Findings) -> None:
    for one in detections:
        if not is_animal(one.category):
            if one.confidence >= threshold:
                findings.count(f"detections of category {show(one.category)}, which is no animal, left out")
        elif one.confidence < threshold:
            findings.count(f"detections of animals below the confidence {threshold:g} left out")


def _records(
    photo: Record, kept: Sequence[RelativeDetection], detector: str, size: Size, findings: Findings
) -> list[Record]:
    """The annotations of one picture; of several with the very same box, the surest."""
    surest: dict[Box, Record] = {}
    for one in kept:
        box = box_in_pixels(one, *size)
        if box.w == 0 or box.h == 0:
            findings.count("detections with a box of no area left out")
            continue
        record = replace(
            photo,
            row=one.row,
            species=species_of(one.category),
            box=box,
            image_width=size[0],
            image_height=size[1],
            outline=outline_in_pixels(one, *size),
            detector=detector,
            confidence=one.confidence,
        )
        other = surest.get(box)
        if other is not None:
            findings.count("detections with the very box of a surer one left out")
        if other is None or (other.confidence or 0) < one.confidence:
            surest[box] = record
    return list(surest.values())


def _tell_classifications(kept: Iterable[Sequence[RelativeDetection]], findings: Findings) -> None:
    classes = Counter(one.classification for some in kept for one in some if one.classification is not None)
    if classes:
        shown = ", ".join(f"{show(name)} {count}" for name, count in classes.most_common(_MOST_SHOWN))
        more = f" and {len(classes) - _MOST_SHOWN} more kinds" if len(classes) > _MOST_SHOWN else ""
        findings.remark(f"classifications are not used ({shown}{more}); name the species with --species")


def _read_images(document: Any, file: Path, findings: Findings) -> dict[str, FileDetections]:
    if recognise(document) is None:
        kind = f"with {show(sorted(document))}" if isinstance(document, dict) else "that is no object"
        raise InputError(
            f"{file}: no results of MegaDetector; expected an object with images and detection_categories, found JSON "
            f"{kind}"
        )
    entries = document["images"]
    if not isinstance(entries, list):
        raise InputError(f"{file}: images is {show(entries)}; expected a list")
    categories = _read_names(file, document, "detection_categories")
    classes = _read_names(file, document, "classification_categories")
    found: dict[str, FileDetections] = {}
    for number, entry in enumerate(entries):
        row = f"images[{number}]"
        if not isinstance(entry, dict):
            findings.refuse(row, "image", entry, "expected an object with file and detections")
            continue
        path = findings.take(row, "file", entry.get("file"), _parse_path)
        if path is None or findings.is_repeat(row, "file", path, entry):
            continue
        if "frame_rate" in entry or cards.is_video(path):
            findings.count("videos left out: import their frames with --format photos, and detect on them")
            continue
        found[path] = _read_image(row, entry, categories, classes, findings)
    return found


def _read_names(file: Path, document: Mapping[str, Any], kind: str) -> dict[str, str]:
    """The names of categories by their ids."""
    entries = document.get(kind)
    if entries is None and kind != "detection_categories":
        return {}
    if not isinstance(entries, dict):
        raise InputError(f'{file}: {kind} is {show(entries)}; expected an object such as {{"1": "animal"}}')
    names = {}
    for key, value in entries.items():
        name = values.parse_text(value)
        if name is None or isinstance(name, Bad):
            raise InputError(f"{file}: {kind} has no name for {show(key)}, but {show(value)!r}; expected a text")
        names[key.strip()] = name
    return names


def _read_image(
    row: str,
    entry: Mapping[str, Any],
    categories: Mapping[str, str],
    classes: Mapping[str, str],
    findings: Findings,
) -> FileDetections:
    width, height = (_side(entry.get(key), findings) for key in ("width", "height"))
    stated = entry.get("detections")
    failure = entry.get("failure")
    if failure is None:
        failure = entry.get("failed")
    if failure or stated is None:
        return FileDetections((), show(failure or "no detections stated"), width, height, row)
    if not isinstance(stated, list):
        findings.refuse(row, "detections", stated, "expected a list")
        return FileDetections((), "its detections are no list", width, height, row)
    before = len(findings.problems)
    detections = []
    for number, one in enumerate(stated):
        detection = _read_detection(f"{row}.detections[{number}]", one, categories, classes, findings)
        if detection is not None:
            detections.append(detection)
    refused = "some of its detections are refused" if len(findings.problems) > before else None
    return FileDetections(tuple(detections), refused, width, height, row)


def _side(value: object, findings: Findings) -> int | None:
    side = values.parse_pixels(value)
    if isinstance(side, Bad):
        findings.count(values.NO_SIZE)
        return None
    return side


def _read_detection(
    row: str, entry: object, categories: Mapping[str, str], classes: Mapping[str, str], findings: Findings
) -> RelativeDetection | None:
    if not isinstance(entry, dict):
        findings.refuse(row, "detection", entry, "expected an object with category, conf and bbox")
        return None
    before = len(findings.problems)
    key = findings.take(row, "category", entry.get("category"), values.parse_text)
    if key is None and len(findings.problems) == before:
        findings.refuse(row, "category", entry.get("category"), "no category; expected one of detection_categories")
    confidence = findings.take(row, "conf", entry.get("conf"), _parse_confidence)
    box = findings.take(row, "bbox", entry.get("bbox"), _parse_relative_box)
    segmentation = read_segmentation(entry.get("segmentation"), findings)
    if len(findings.problems) > before or key is None or confidence is None or box is None:
        return None
    category = categories.get(key)
    if category is None:
        findings.count(f"detections of category {show(key)}, which the file does not name, left out")
        return None
    return RelativeDetection(
        category, confidence, *box, segmentation, row, _classification(entry.get("classifications"), classes)
    )


def _classification(entries: object, classes: Mapping[str, str]) -> str | None:
    """The name of the class that a classifier was surest of; the file has the surest first."""
    first = entries[0] if isinstance(entries, list) and entries else None
    if not isinstance(first, list) or not first:
        return None
    key = show(first[0]).strip()
    return classes.get(key, key)


def _parse_path(cell: object) -> str | Bad:
    """The path of a picture, with ``/`` between its parts; unlike that of a table it may be absolute."""
    text = cell.strip().replace("\\", "/") if isinstance(cell, str) else cell
    root = _ABSOLUTE.match(text) if isinstance(text, str) else None
    if root is None or not isinstance(text, str):
        return values.parse_file_name(text)
    below = values.parse_file_name(text[root.end() :].lstrip("/"))
    return below if isinstance(below, Bad) else root[0] + below


def _parse_confidence(cell: object) -> float | Bad:
    confidence = values.parse_number(cell)
    if confidence is None:
        return Bad("no confidence; expected a number from 0 to 1")
    if isinstance(confidence, float) and not 0 <= confidence <= 1:
        return Bad("expected a confidence from 0 to 1")
    return confidence


def _parse_relative_box(cell: object) -> tuple[float, float, float, float] | Bad:
    """A box in fractions of the picture; it may lie a little outside, as boxes drawn by hand and rounded ones do."""
    if not isinstance(cell, list) or len(cell) != 4:
        return Bad("expected a box [x, y, width, height] in fractions of the picture")
    numbers: list[float] = []
    for name, value in zip(("x", "y", "width", "height"), cell, strict=True):
        number = values.parse_number(value)
        if number is None or isinstance(number, Bad):
            why = "expected a number" if number is None else number.why
            return Bad(f"{name} of the box: {why}")
        numbers.append(number)
    x, y, w, h = numbers
    if w < 0 or h < 0:
        return Bad("negative width or height; expected [x, y, width, height] in fractions of the picture")
    if min(x, y) < -_BEYOND or max(x + w, y + h) > 1 + _BEYOND:
        return Bad("the box lies outside 0 to 1: pixels? expected [x, y, width, height] in fractions of the picture")
    return x, y, w, h


def _below_folder(
    file: Path, images: Path | None, by_path: Mapping[str, FileDetections], findings: Findings
) -> tuple[Path, dict[str, FileDetections]]:
    """The folder of the pictures, and what is stated of each by its path below it.

    Absolute paths start where all of them agree, or at the folder that the user names where they lie below that.
    """
    absolute = {path for path in by_path if _ABSOLUTE.match(path)}
    start = _common_folder(sorted(absolute)) if absolute else None
    if start is not None:
        if images is None and Path(start or "/").is_dir():
            images = Path(start or "/")
        above = [] if images is None else [images.absolute().as_posix(), images.resolve().as_posix()]
        start = next((folder for folder in above if f"{start}/".startswith(f"{folder}/")), start)
    by_name: dict[str, FileDetections] = {}
    for path, state in by_path.items():
        name = path
        if path in absolute and start is not None:
            name = path.removeprefix(f"{start}/")
        if _ABSOLUTE.match(name):
            findings.refuse(state.row, "file", path, "an absolute path that has no folder in common with the others")
        elif not findings.is_repeat(state.row, "picture", name, path):
            by_name[name] = state
    folder, _, note = places.find_images(file, images, [list(by_name)])
    if absolute and start is not None:
        findings.remark(f"absolute paths are taken from {show(start or '/')} on and sought below {show(str(folder))}")
    elif note:
        findings.remark(note)
    return folder, by_name


def _common_folder(paths: Sequence[str]) -> str | None:
    """The folder that absolute paths have in common, without a slash at its end; ``None`` where there is none."""
    folders = [path.split("/")[:-1] for path in paths]
    common: list[str] = []
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return "/".join(common) if common else None


def _reason(error: ImageError, folder: Path) -> str:
    if isinstance(error, ImageMissing):
        return f"no such file in {folder}; name the folder that holds it with --images"
    return str(error).partition(": ")[2]
