"""Folders of individuals: ``individual/picture`` or ``species/individual/picture``."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from resight.catalogue.sources import places, values
from resight.catalogue.sources.parsed import Findings, Parsed
from resight.errors import InputError
from resight.images import SUFFIXES
from resight.types import Record

_DIGITS = re.compile(r"([0-9]+)")
_SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "query", "gallery"})
_HIDDEN_NAMES = frozenset({"thumbs.db", "desktop.ini", "@eadir", "__macosx", "$recycle.bin"})


def recognise(root: Path) -> str | None:
    """Why a folder is one of individuals, as the end of a sentence; ``None`` where it is not."""
    for below in _visible_folders(root):
        for folder in (below, *_visible_folders(below)):
            if any(is_picture(path.name) for path in _entries(folder)):
                return f"it has sub-folders with pictures, such as {values.show(below.name)}"
    return None


def read(root: Path, *, images: Path | None = None) -> Parsed:
    """Read a folder of individuals.

    Pictures in one level of folders name the individual alone, and the species is not known. In two levels, the
    first is the species, unless all its folders are parts of a split, such as ``train``. Which of the two it is, most
    pictures decide; those at another depth are problems. The row of a record is the path of its picture.

    Args:
        root: The folder.
        images: ``None``, or the same folder again.

    Raises:
        InputError: There is no such folder, or it has no pictures in folders of individuals.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with a sub-folder for each individual")
    if images is not None and images.resolve() != root.resolve():
        raise InputError(f"--images {images}: in the format folders the pictures are below {root}; leave --images out")
    findings = Findings()
    pictures = sorted(_pictures(root, findings), key=lambda picture: [_natural(part) for part in picture.parts])
    if not pictures:
        raise InputError(f"{root}: no pictures in it; expected a sub-folder with pictures for each individual")
    depths = Counter(len(picture.parts) - 1 for picture in pictures)
    depth = 2 if depths[2] > depths[1] else 1
    if not depths[depth]:
        raise InputError(
            f"{root}: {len(pictures)} pictures, none of them in a folder of an individual; "
            "expected individual/picture or species/individual/picture"
        )
    has_species = depth == 2 and _says_species([picture for picture in pictures if len(picture.parts) == 3], findings)
    records = []
    for picture in pictures:
        found = len(picture.parts) - 1
        if found == depth:
            record = _record(picture, has_species, findings)
            if record is not None:
                records.append(record)
            continue
        row = values.show(str(picture))
        why = f"the picture lies {_folders(found)} deep where most lie {_folders(depth)} deep; move it or take it out"
        findings.refuse(row, "file", str(picture), why)
    return Parsed("folders", records, findings.problems, root, places.source_name(root), findings.notes())


def is_picture(name: str) -> bool:
    """Whether a file is taken for a picture, by its name."""
    return not _is_hidden(name) and PurePath(name).suffix.lower() in SUFFIXES


def _record(picture: PurePath, has_species: bool, findings: Findings) -> Record | None:
    before = len(findings.problems)
    path = picture.as_posix()
    row = path if path.isprintable() else values.show(path)
    file_name = findings.take(row, "file", path, values.parse_file_name)
    if file_name is not None and file_name != path:
        findings.refuse(row, "file", path, "the path begins or ends with a blank, or has a backslash; rename the file")
    individual = findings.take(row, "folder", picture.parts[-2], values.parse_text)
    species = findings.take(row, "folder", picture.parts[0], values.parse_text) if has_species else None
    if file_name is None or len(findings.problems) > before:
        return None
    return Record(row=row, file_name=file_name, species=species, individual=individual)


def _says_species(pictures: Sequence[PurePath], findings: Findings) -> bool:
    """Whether the first of two levels is the species; the notes say what it was taken for."""
    names = sorted({picture.parts[0] for picture in pictures}, key=_natural)
    shown = ", ".join(values.show(name) for name in names)
    if all(name.casefold() in _SPLIT_NAMES for name in names):
        findings.remark(f"first-level folders taken for parts of a split, not for species: {shown}")
        return False
    findings.remark(f"first-level folders taken for species: {shown}")
    return True


def _pictures(root: Path, findings: Findings) -> Iterator[PurePath]:
    """The paths of all pictures below a folder; all else is counted."""

    def refuse(error: OSError) -> None:
        row = values.show(os.path.relpath(error.filename, root))
        findings.refuse(row, "folder", row, f"the folder cannot be read ({error.strerror})")

    for folder, folder_names, names in os.walk(root, onerror=refuse):
        here = Path(folder)
        for name in list(folder_names):
            if _is_hidden(name):
                findings.count("hidden folders ignored")
                folder_names.remove(name)
            elif (here / name).is_symlink():
                findings.count("folders that are links not followed")
                folder_names.remove(name)
        for name in names:
            if is_picture(name):
                yield (here / name).relative_to(root)
            elif _is_hidden(name):
                findings.count("hidden files ignored")
            else:
                suffix = values.show(PurePath(name).suffix.lower()) or "without suffix"
                findings.count(f"files that are no pictures ignored, {suffix}")


def visible_entries(folder: Path) -> list[Path]:
    """What lies in a folder and is not hidden, by name; nothing where it may not be read."""
    shown = (path for path in _entries(folder) if not _is_hidden(path.name))
    return sorted(shown, key=lambda path: _natural(path.name))


def _visible_folders(folder: Path) -> list[Path]:
    return [path for path in visible_entries(folder) if path.is_dir() and not path.is_symlink()]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # a folder that may not be read shows nothing; reading it reports the problem
        return []


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _HIDDEN_NAMES


def _folders(count: int) -> str:
    return f"{count} folder" if count == 1 else f"{count} folders"


def _natural(text: str) -> list[tuple[str, int, str]]:
    """A key by which ``a2`` comes before ``a10``, and capitals matter only between equals."""
    chunks = _DIGITS.split(text)
    return [
        ("", int(chunk), chunk) if number % 2 else (chunk.casefold(), 0, chunk) for number, chunk in enumerate(chunks)
    ]
