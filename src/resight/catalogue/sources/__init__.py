"""Import adapters: a path becomes records, problems and notes.

One small module reads each format. An adapter knows neither the catalogue nor the pictures: it reads what the
annotation file states, and another room checks files, decodes pictures and writes the catalogue. ``TEMPLATE.py``
is the skeleton of the next one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from resight.catalogue.sources import coco, folders, tables, wildlife_datasets
from resight.catalogue.sources.detection import FORMATS, NOT_BUILT, Found, annotation_file, find
from resight.catalogue.sources.parsed import Parsed
from resight.errors import NotBuiltYet, UnknownName

__all__ = ["FORMATS", "Parsed", "detect", "read"]


def detect(path: Path) -> tuple[str, str]:
    """What ``--format auto`` takes a path for, and the sentence that says why.

    Args:
        path: An annotation file, a folder with exactly one, or a folder of pictures sorted by individual.

    Returns:
        The name of the format, which may be one that is not built yet, and one line for the user.

    Raises:
        InputError: The path is not there, is nothing known, or holds several annotation files.
    """
    found = find(path)
    return found.format, found.why


def read(path: Path, *, format: str = "auto", images: Path | None = None) -> Parsed:
    """Read a dataset.

    Args:
        path: An annotation file, a folder with exactly one, or a folder of pictures sorted by individual.
        format: One of ``FORMATS``, or ``auto``; then the first note says what the path was taken for.
        images: The folder that file names start from; ``None`` looks beside the annotation file.

    Returns:
        Records and problems together: the caller decides whether one problem refuses the whole.

    Raises:
        NotBuiltYet: The format is part of the plan and cannot be read yet.
        UnknownName: There is no format of this name.
        InputError: The path is not there, or cannot be read as this format at all.
    """
    if format == "auto":
        found = find(path)
        parsed = _read_found(found, images)
        return replace(parsed, notes=[found.why, *parsed.notes])
    if format not in FORMATS:
        raise UnknownName.among("format", format, ("auto", *FORMATS))
    if format in NOT_BUILT or format == "folders":
        return _read_found(Found(format, path, ""), images)
    return _read_found(Found(format, annotation_file(path, format), ""), images)


def _read_found(found: Found, images: Path | None) -> Parsed:
    if found.format == "coco":
        return coco.read(found.path, images=images, document=found.document)
    if found.format == "csv":
        return tables.read(found.path, images=images)
    if found.format == "wildlife-datasets":
        return wildlife_datasets.read(found.path, images=images)
    if found.format == "folders":
        return folders.read(found.path, images=images)
    built = ", ".join(name for name in FORMATS if name not in NOT_BUILT)
    raise NotBuiltYet(f"{found.path}: the format {found.format} cannot be read yet; those that can are {built}")
