"""Folders that come from cameras: memory cards, and copies of them sorted by station or day.

They have sub-folders with pictures as a folder of individuals has, and taking the one for the other would turn every
camera into an animal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePath

from resight.catalogue.sources import folders, values

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".m4v", ".mkv", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".3gp"})

# The names that the standard of cameras (DCF) gives: 100CANON and, in it, IMG_0001.JPG.
_CAMERA_FOLDER = re.compile(r"[1-9][0-9]{2}(?![0-9]{5})[A-Z0-9_]{5}", re.IGNORECASE)
_CAMERA_FILE = re.compile(r"[A-Z0-9_]{4}[0-9]{4}(?:[ _-]?\(?[0-9]{1,3}\)?)?", re.IGNORECASE)
_DAY = re.compile(r"(?:19|20)[0-9]{2}([-_. ]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12][0-9]|3[01])")
_STATION = re.compile(
    r"(?:camera|cam|card|sd|sdcard|station|stn|site|trap|ct|deployment|grid|plot)[ _.-]?[0-9]+[a-z]?", re.IGNORECASE
)
_DEPTH = 3  # how far below the folder pictures are looked for: station/DCIM/100CANON
_MOST_FOLDERS = 300  # how many are looked into; the first ones tell
_SAMPLE = 20  # how many file names of a folder are looked at


def recognise(root: Path) -> str | None:
    """Why a folder with sub-folders is photos from cameras, as the end of a sentence; ``None`` where it is not.

    It is where there is a folder ``DCIM``, or where the names of all folders that hold pictures are those that cameras
    give (``100CANON``), days (``2024-05-06``), or stations (``cam 3``) with file names that cameras give
    (``IMG_0001``). Such file names alone say nothing, for they are found in folders of individuals as well.
    """
    with_pictures = islice(_folders_with_pictures(root, PurePath(), _DEPTH), _MOST_FOLDERS)
    below = [(path, names) for path, names in with_pictures if path.parts]
    if any(part.casefold() == "dcim" for path, _ in below for part in (root.name, *path.parts)):
        return "it is or has DCIM, the folder of a camera's card"
    signs = [_sign(path, names) for path, names in below]
    return f"its sub-folders are {signs[0]}" if signs and None not in signs else None


def has_camera_names(root: Path) -> bool:
    """Whether most pictures of the first folder that has any are named as cameras name them."""
    for path, names in _folders_with_pictures(root, PurePath(), _DEPTH):
        if path.parts:
            return _are_camera_files(names)
    return False


def is_video(name: str) -> bool:
    """Whether a file is taken for a video, by its name."""
    return not name.startswith(".") and PurePath(name).suffix.lower() in VIDEO_SUFFIXES


def _sign(path: PurePath, names: list[str]) -> str | None:
    """What tells that the pictures in a folder are a camera's."""
    if _CAMERA_FOLDER.fullmatch(path.name):
        return f"named by a camera, such as {values.show(path.name)}"
    if _DAY.fullmatch(path.name):
        return f"days, such as {values.show(path.name)}"
    station = next((part for part in path.parts if _STATION.fullmatch(part)), None)
    if station is not None and _are_camera_files(names):
        example = values.show(names[0])
        return f"stations, such as {values.show(station)}, with files named by a camera, such as {example}"
    return None


def _are_camera_files(names: list[str]) -> bool:
    return sum(bool(_CAMERA_FILE.fullmatch(PurePath(name).stem)) for name in names) * 2 > len(names)


def _folders_with_pictures(folder: Path, path: PurePath, depth: int) -> Iterator[tuple[PurePath, list[str]]]:
    """The folders that hold pictures or videos, by their paths below the root, with some of the files' names."""
    entries = folders.visible_entries(folder)
    names = [entry.name for entry in entries if folders.is_picture(entry.name) or is_video(entry.name)]
    if names:
        yield path, sorted(names)[:_SAMPLE]
    if depth:
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                yield from _folders_with_pictures(entry, path / entry.name, depth - 1)
