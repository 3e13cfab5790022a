"""What lies below a folder of raw photos: pictures, videos, and everything else, each file in one count."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from resight.catalogue.sources.cards import VIDEO_SUFFIXES
from resight.catalogue.sources.values import show
from resight.images import SUFFIXES
from resight.types import Problem

SIDECAR_SUFFIXES = frozenset({".xmp", ".thm", ".aae", ".lrv", ".pp3", ".dop", ".on1", ".cos"})
"""Files that programs or cameras put beside a photo or video."""
RAW_SUFFIXES = frozenset(
    {".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw", ".x3f"}
)
"""Formats in which cameras keep the readings of their sensor."""
_HIDDEN_NAMES = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx", "$recycle.bin", "system volume information"}
)


@dataclass
class CardFiles:
    """The files below a folder.

    Attributes:
        pictures: Paths of pictures below the folder, with ``/`` between their parts, in a stable order.
        videos: The same of videos.
        other: Suffix → files that are neither.
        hidden_files: Files that the system hides, or that a Mac or a disk station has left.
        hidden_folders: Folders of that kind; they are not looked into.
        own_folders: Folders in which this project keeps what it made; they are not looked into.
        linked_again: Links to folders that are looked into anyway.
        problems: Folders that cannot be read, and files that cannot be named in the catalogue.
    """

    pictures: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    hidden_files: int = 0
    hidden_folders: int = 0
    own_folders: int = 0
    linked_again: int = 0
    problems: list[Problem] = field(default_factory=list)

    def notes(self) -> Iterable[str]:
        """Lines for the user on all that was passed over."""
        raw = {suffix: count for suffix, count in self.other.items() if suffix in RAW_SUFFIXES}
        beside = {suffix: count for suffix, count in self.other.items() if suffix in SIDECAR_SUFFIXES}
        rest = {suffix: count for suffix, count in self.other.items() if suffix not in raw and suffix not in beside}
        if raw:
            yield (
                f"{_listed(raw)}: raw files of a camera are not readable here; develop them to JPEG or TIFF and import "
                "those, unless the camera has written JPEGs as well"
            )
        if beside:
            yield f"{_listed(beside)}: files that go with a photo or video, passed over"
        if rest:
            yield f"{_listed(rest)}: files that are neither pictures nor videos, passed over"
        if self.hidden_files or self.hidden_folders:
            yield (
                f"{self.hidden_files:,} hidden files passed over and {self.hidden_folders:,} hidden folders not looked "
                "into (such as .Trashes or @eaDir)"
            )
        if self.own_folders:
            yield f"{self.own_folders:,} folders of the project itself not looked into"
        if self.linked_again:
            yield f"{self.linked_again:,} links to folders that are looked into anyway"


def list_files(folder: Path, *, own: Iterable[Path] = ()) -> CardFiles:
    """List a folder and all below it, links to folders too, each folder once; nothing is opened.

    A path takes some 100 bytes, so 100,000 photos take 10 MB.

    Args:
        folder: Where to begin.
        own: Folders that are passed over.
    """
    found = CardFiles()
    own_folders = {path.resolve() for path in own}
    seen: set[Path] = set()
    # Links come last, so that a folder is known by its own path wherever it has one below the first folder.
    links: list[str] = []
    waiting = [""]
    while waiting or links:
        is_link = not waiting
        path = links.pop(0) if is_link else waiting.pop()
        here = folder / path
        try:
            identity = here.resolve(strict=True)
            if identity in seen:
                found.linked_again += is_link
                continue
            seen.add(identity)
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            reason = f"the folder cannot be read ({error.strerror}); see to its permissions or drive"
            found.problems.append(Problem(show(path or "."), "folder", show(path or "."), reason))
            continue
        below = []
        for entry in entries:
            inside = f"{path}/{entry.name}" if path else entry.name
            if _is_folder(entry):
                if is_hidden(entry.name):
                    found.hidden_folders += 1
                elif own_folders and Path(entry.path).resolve() in own_folders:
                    found.own_folders += 1
                elif entry.is_symlink():
                    links.append(inside)
                else:
                    below.append(inside)
            else:
                _sort_in(found, entry.name, inside)
        waiting.extend(reversed(below))
    return found


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems keep out of people's sight."""
    return name.startswith(".") or name.casefold() in _HIDDEN_NAMES


def _sort_in(found: CardFiles, name: str, path: str) -> None:
    suffix = PurePath(name).suffix.lower()
    if is_hidden(name):
        found.hidden_files += 1
    elif suffix not in SUFFIXES and suffix not in VIDEO_SUFFIXES:
        found.other[show(suffix) or "without suffix"] += 1
    elif not is_text(path):
        problem = "the name is not UTF-8, so the catalogue cannot keep it; rename the file or its folder"
        found.problems.append(Problem(show(path), "file", show(path), problem))
    elif suffix in VIDEO_SUFFIXES:
        found.videos.append(path)
    else:
        found.pictures.append(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle of links, or a broken sector
        return False


def is_text(path: str) -> bool:
    """Whether a path can be kept in the catalogue: some names on a disk are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _listed(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count:,} {suffix}" for suffix, count in ordered[:10])
    rest = sum(count for _, count in ordered[10:])
    return shown + (f" and {rest:,} others" if rest else "")
