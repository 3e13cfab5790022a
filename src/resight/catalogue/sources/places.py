"""Where a dataset's pictures are, and what its source is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from resight.catalogue.sources.values import Bad, parse_file_name
from resight.errors import InputError

_SAMPLE = 20  # how many files of a dataset are looked for
_WORD = "(?:annotations?|metadata|instances?|labels?|data|dataset|table|coco|images?|photos?|train|test|val|all)"
_GENERIC = re.compile(rf"{_WORD}(?:[ _.-]*(?:{_WORD}|[0-9]+))*", re.IGNORECASE)
_GENERIC_FOLDERS = 2  # how far above the file its name is sought


def find_images(file: Path, images: Path | None, columns: Sequence[Sequence[object]]) -> tuple[Path, int, str | None]:
    """The folder below which file names lead to files, and the column whose names do.

    Without ``images``, the annotation file's folder is tried, then ``images`` in it, ``images`` beside it, and the
    folder above it. What leads to most of a sample of the files is taken; of equals the first.

    Args:
        file: The annotation file.
        images: The folder the user names, or ``None``.
        columns: One or more columns of file names, the preferred one first.

    Returns:
        The folder, the number of the column, and a line for the notes where the folder is not the first choice.

    Raises:
        InputError: The folder that the user names is not there.
    """
    if images is not None:
        if not images.is_dir():
            raise InputError(f"--images {images}: no such folder; expected the folder that file names start from")
        folders = [images]
    else:
        above = file.absolute().parent.parent
        others = (file.parent / "images", above / "images", above)
        folders = [file.parent, *(folder for folder in others if folder.is_dir())]
    samples = [_some_names(column) for column in columns]
    best, best_score = (folders[0], 0), (-1, -1)
    for folder in folders:
        for number, names in enumerate(samples):
            score = (sum(_is_file(folder / name) for name in names), len(names))
            if score > best_score:
                best, best_score = (folder, number), score
    folder, number = best
    note = None
    if folder != folders[0]:
        note = f"pictures are sought below {folder}, for the files named are there and not below {folders[0]}"
    return folder, number, note


def source_name(path: Path) -> str:
    """The name of a source: that of its file without suffix, or of its folder.

    Where that says nothing, such as ``annotations``, the folder's name is taken, or the one above.
    """
    path = path.absolute()
    first = path.name if path.is_dir() else path.stem
    for name in (first, *(folder.name for folder in list(path.parents)[:_GENERIC_FOLDERS])):
        if name and not _GENERIC.fullmatch(name):
            return name
    return first


def _some_names(column: Sequence[object]) -> list[str]:
    """File names spread over a column, without those that cannot be used."""
    step = max(1, len(column) // _SAMPLE)
    names = (parse_file_name(cell) for cell in column[::step][:_SAMPLE])
    return [name for name in names if not isinstance(name, Bad)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a folder that may not be entered
        return False
