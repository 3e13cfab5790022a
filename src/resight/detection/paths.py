"""Which photo of a catalogue a path means that was written on another machine.

A path is taken for a photo's only where one of the two ends with all of the other: ``E:\\cards\\A\\DCIM\\1.jpg`` may be
``A/DCIM/1.jpg`` and is not ``B/DCIM/1.jpg``. A box on a wrong photo would be worse than none.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

_DRIVE = re.compile(r"[A-Za-z]:")
_SHOWN = 3

Parts = tuple[str, ...]
Score = tuple[int, bool]  # how many names agree from the end on, and whether the whole path below the root does


@dataclass(frozen=True, slots=True)
class Place:
    """Where a photo lies: its path below the image root, and its full path where the root is known."""

    path: str
    full: str | None = None


@dataclass(frozen=True)
class Matches:
    """Which files are which photos.

    Attributes:
        image_of: File name → image id.
        unmatched: The other files → why.
    """

    image_of: Mapping[str, int]
    unmatched: Mapping[str, str]


def match_files(files: Iterable[str], places: Mapping[int, Place]) -> Matches:
    """Find the photo of every file: by its path below the image root, else by the longest end that fits.

    A file that fits several photos equally well is none of them, and neither are several files that fit one photo.

    Args:
        files: Paths of any machine.
        places: image id → where it lies.
    """
    ends = _Ends(places)
    best: dict[str, tuple[int, Score]] = {}
    unmatched: dict[str, str] = {}
    for file in files:
        found = ends.best(_parts(file))
        if not found:
            unmatched[file] = "no photo of the catalogue has this path or the end of it"
        elif len(found) > 1:
            shown = ", ".join(places[image_id].full or places[image_id].path for image_id, _ in found[:_SHOWN])
            more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
            unmatched[file] = f"several photos fit equally well: {shown}{more}"
        else:
            best[file] = found[0]
    image_of: dict[str, int] = {}
    for image_id, claims in _by_image(best).items():
        highest = max(score for _, score in claims)
        winners = [file for file, score in claims if score == highest]
        if len(winners) == 1:
            image_of[winners[0]] = image_id
        for file, _ in claims:
            if file not in image_of:
                others = ", ".join(islice((other for other, _ in claims if other != file), _SHOWN))
                unmatched[file] = f"its photo {places[image_id].path} is also that of {others}"
    return Matches(image_of, unmatched)


class _Ends:
    """Photos by the ends of their paths; the frames of ten thousand videos all bear the same few names."""

    def __init__(self, places: Mapping[int, Place]) -> None:
        self._path = {image_id: _parts(place.path) for image_id, place in places.items()}
        self._full = {image_id: _parts(place.full or place.path) for image_id, place in places.items()}
        self._of_path: dict[Parts, list[int]] = defaultdict(list)
        for image_id, path in self._path.items():
            self._of_path[path].append(image_id)
        self._of_end: dict[int, dict[Parts, list[int]]] = {}  # by how many names the end has

    def best(self, file: Parts) -> list[tuple[int, Score]]:
        """The photos that fit best, all with one score."""
        if not file:
            return []
        whole = self._ending(len(file)).get(file, ())
        exact = [image_id for image_id in whole if self._path[image_id] == file]
        if whole:
            return [(image_id, (len(file), bool(exact))) for image_id in exact or whole]
        for count in range(len(file), 0, -1):
            found = self._of_path.get(file[-count:])
            if found:
                return [(image_id, (count, False)) for image_id in found]
        return []

    def _ending(self, count: int) -> Mapping[Parts, list[int]]:
        if count not in self._of_end:
            found: dict[Parts, list[int]] = defaultdict(list)
            for image_id, full in self._full.items():
                if self._path[image_id] and len(full) >= count:
                    found[full[-count:]].append(image_id)
            self._of_end[count] = found
        return self._of_end[count]


def _by_image(best: Mapping[str, tuple[int, Score]]) -> dict[int, list[tuple[str, Score]]]:
    claims: dict[int, list[tuple[str, Score]]] = defaultdict(list)
    for file, (image_id, score) in best.items():
        claims[image_id].append((file, score))
    return claims


def _parts(path: str) -> Parts:
    """The names a path is made of, without a drive; composed letters are one letter on every system."""
    text = unicodedata.normalize("NFC", path).replace("\\", "/")
    return tuple(part for part in _DRIVE.sub("", text, count=1).split("/") if part not in ("", "."))
