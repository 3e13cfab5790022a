"""What an import finds out about its pictures before anything is written: are they there, whole, and do boxes fit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resight.errors import ImageError, ImageMissing, ImageUnreachable
from resight.image_files import is_to_come, plausible_time
from resight.images import inspect, read_file
from resight.parallel import parallel_map
from resight.types import Box, Problem, Record

CLOCK_ZERO = "1970-01-01"  # the day that computers count from: nobody has taken a photo for a catalogue on it
INSIDE_SHARE = 0.5  # a box of which less lies inside its image is taken for a mistake


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """One picture of a dataset as it was found; ``status`` is ``ok``, ``unverified`` or ``quarantined``.

    ``clock_unset`` says that the camera had a time that cannot be right; it is not known then.
    """

    status: str
    problem: str | None = None
    content_hash: str | None = None
    byte_size: int | None = None
    modified_ns: int | None = None
    width: int | None = None
    height: int | None = None
    taken_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    clock_unset: bool = False


@dataclass(frozen=True)
class Checked:
    """The pictures of a dataset and everything wrong with them.

    Attributes:
        images: file name → what was found; missing files are not in it.
        problems: Missing files and misplaced boxes (refused), undecodable files (quarantined).
        notes: Lines for the user.
    """

    images: Mapping[str, CheckedImage]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def stated(rows: Sequence[Record]) -> tuple[str | None, float | None, float | None]:
    """Date, latitude and longitude that the rows of one image state: the same in any order of rows.

    Where rows disagree, the earliest date and the southernmost place are taken; :func:`check_images` counts that, and
    the dates that cannot be right, which count as not known.
    """
    dates = {row.taken_at for row in rows if row.taken_at is not None and _can_be_right(row.taken_at)}
    places = {(row.latitude, row.longitude) for row in rows if row.latitude is not None and row.longitude is not None}
    latitude, longitude = min(places) if places else (None, None)
    return min(dates, default=None), latitude, longitude


def check_images(
    records: Sequence[Record], images_dir: Path, *, verify: bool, known: Mapping[str, CheckedImage]
) -> Checked:
    """Look at every picture once and at every box.

    Args:
        records: The annotations of the dataset.
        images_dir: The folder that file names are below.
        verify: Whether to decode; otherwise nothing on disk is touched and sizes are those the source claims.
        known: file name → what the catalogue holds; a file of the same size and time is not decoded again.
    """
    rows: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        rows[record.file_name].append(record)
    problems: list[Problem] = []
    images: dict[str, CheckedImage] = {}
    if verify:
        looked = parallel_map(
            lambda name: _look(images_dir, rows[name], known.get(name)),
            rows,
            label="pictures",
            total=len(rows),
        )
        for name, found in zip(rows, looked, strict=True):
            if isinstance(found, str):
                problems.extend(Problem(record.row, "file_name", name, found) for record in rows[name])
                continue
            images[name] = found
            if found.problem is not None:
                problems.extend(
                    Problem(record.row, "image", name, found.problem, "quarantined") for record in rows[name]
                )
    else:
        images = {name: _unseen(rows[name][0], known.get(name)) for name in rows}
    problems.extend(_box_problems(records, images))
    return Checked(
        images, tuple(problems), (*_size_notes(rows, images), *_disagreement_notes(rows), *_date_notes(rows, images))
    )


def _look(images_dir: Path, rows: Sequence[Record], known: CheckedImage | None) -> CheckedImage | str:
    """What was found, or why the file cannot be looked at."""
    name = rows[0].file_name
    path = images_dir / name
    absent = f"no such file in {images_dir}; name the folder that holds it with --images"
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return absent
    except OSError as error:
        return f"cannot be reached ({error.strerror}); see to its permissions or drive"
    if known is not None and known.status == "ok" and known.content_hash is not None:
        unchanged = (facts.st_size, facts.st_mtime_ns) == (known.byte_size, known.modified_ns)
        # The catalogue's date and place may be the source's; where it states none now, the picture is asked again.
        taken_at, latitude, _ = stated(rows)
        dated = taken_at is not None or known.taken_at is None
        placed = latitude is not None or known.latitude is None
        if unchanged and dated and placed:
            return known
    try:
        content = read_file(path)
        seen = inspect(content, name)
    except ImageMissing:
        return absent
    except ImageUnreachable as error:
        return str(error).removeprefix(f"{path}: ")
    except ImageError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{name}: ")
        return CheckedImage("quarantined", reason, byte_size=facts.st_size, modified_ns=facts.st_mtime_ns)
    clock_unset = seen.taken_at is not None and not plausible_time(seen.taken_at)
    return CheckedImage(
        "ok",
        None,
        seen.content_hash,
        len(content),
        facts.st_mtime_ns,
        seen.width,
        seen.height,
        None if clock_unset else seen.taken_at,
        seen.latitude,
        seen.longitude,
        clock_unset,
    )


def _unseen(record: Record, known: CheckedImage | None) -> CheckedImage:
    if known is not None:
        return known
    return CheckedImage("unverified", width=record.image_width, height=record.image_height)


def _box_problems(records: Iterable[Record], images: Mapping[str, CheckedImage]) -> Iterable[Problem]:
    for record in records:
        image = images.get(record.file_name)
        if image is None or record.box is None or image.width is None or image.height is None:
            continue
        box = record.box
        share = share_inside(box, record.theta_rad, image.width, image.height)
        if share < INSIDE_SHARE:
            yield Problem(
                record.row,
                "bbox",
                f"[{box.x:g}, {box.y:g}, {box.w:g}, {box.h:g}]",
                f"{share:.0%} of the box lies inside the image of {image.width} x {image.height} pixels; "
                "expected [x, y, w, h] in pixels of this image",
            )


def share_inside(box: Box, theta_rad: float, width: int, height: int) -> float:
    """The share of a box that lies inside its image; of a turned one, whether its centre does."""
    if theta_rad != 0:
        return float(0 <= box.x + box.w / 2 <= width and 0 <= box.y + box.h / 2 <= height)
    across = max(0.0, min(box.x + box.w, width) - max(box.x, 0.0))
    down = max(0.0, min(box.y + box.h, height) - max(box.y, 0.0))
    return across * down / (box.w * box.h)


def _size_notes(rows: Mapping[str, Sequence[Record]], images: Mapping[str, CheckedImage]) -> Iterable[str]:
    differing = 0
    for name, image in images.items():
        claimed = (rows[name][0].image_width, rows[name][0].image_height)
        differing += image.status == "ok" and None not in claimed and claimed != (image.width, image.height)
    if differing:
        yield (
            f"{differing} images have another size (upright) than the file claims; boxes are read as pixels of the "
            "images as they are"
        )


def _can_be_right(stated_date: str) -> bool:
    """Whether a date that a source states may be one; catalogues reach back before the first digital cameras."""
    return not (stated_date.startswith(CLOCK_ZERO) or is_to_come(stated_date))


def _date_notes(rows: Mapping[str, Sequence[Record]], images: Mapping[str, CheckedImage]) -> Iterable[str]:
    clocks = sum(image.clock_unset for image in images.values())
    if clocks:
        yield f"{clocks:,} images have the time of a clock that was never set (before 1990, or to come); it is not used"
    stated_dates = [row.taken_at for records in rows.values() for row in records if row.taken_at is not None]
    wrong = sum(not _can_be_right(one) for one in stated_dates)
    if wrong:
        yield f"{wrong:,} rows have a date that cannot be right ({CLOCK_ZERO}, or to come); it counts as not known"


def _disagreement_notes(rows: Mapping[str, Sequence[Record]]) -> Iterable[str]:
    shared = [records for records in rows.values() if len(records) > 1]
    dates = sum(len({record.taken_at for record in records} - {None}) > 1 for records in shared)
    if dates:
        yield f"{dates} images have rows with different dates; the earliest is taken"
    places = sum(
        len({(record.latitude, record.longitude) for record in records} - {(None, None)}) > 1 for records in shared
    )
    if places:
        yield f"{places} images have rows with different positions; the southernmost is taken"
