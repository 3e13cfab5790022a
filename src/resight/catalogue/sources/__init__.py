"""Import adapters: a path becomes records, problems and notes.

One small module reads each format. An adapter knows neither the catalogue nor the pictures: it reads what the
annotation file states, and another room checks files, decodes pictures and writes the catalogue. Only where boxes are
fractions of a picture is the header of the picture asked for its size. ``TEMPLATE.py`` is the skeleton of the next one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from resight.catalogue.sources import coco, folders, megadetector, tables, wildbook, wildlife_datasets
from resight.catalogue.sources.detection import FORMATS, Found, annotation_file
from resight.catalogue.sources.detection import find as recognise
from resight.catalogue.sources.parsed import Parsed
from resight.errors import UnknownName

__all__ = ["FORMATS", "Found", "Parsed", "detect", "find", "read", "read_found"]

_OF_FOLDERS = ("folders", "photos")


def detect(path: Path) -> tuple[str, str]:
    """What ``--format auto`` takes a path for, and the sentence that says why.

    Args:
        path: An annotation file, a folder with exactly one, or a folder of pictures sorted by individual.

    Returns:
        The name of the format, and one line for the user.

    Raises:
        InputError: The path is not there, is nothing known, or holds several annotation files.
    """
    found = recognise(path)
    return found.format, found.why


def find(path: Path, format: str = "auto") -> Found:
    """Which format a path is to be read as.

    Args:
        path: An annotation file, a folder with exactly one, or a folder of pictures.
        format: One of ``FORMATS``, or ``auto``, which looks.

    Raises:
        UnknownName: There is no format of this name.
        InputError: The path is not there, is nothing known, or holds several annotation files.
    """
    if format == "auto":
        return recognise(path)
    if format not in FORMATS:
        raise UnknownName.among("format", format, ("auto", *FORMATS))
    if format in _OF_FOLDERS:
        return Found(format, path, "")
    return Found(format, annotation_file(path, format), "")


def read(path: Path, *, format: str = "auto", images: Path | None = None) -> Parsed:
    """Recognise a dataset and read it: :func:`find` and :func:`read_found`."""
    return read_found(find(path, format), images=images)


def read_found(found: Found, *, images: Path | None = None) -> Parsed:
    """Read a dataset.

    Args:
        found: From :func:`find`; where it looked itself, the first note says what the path was taken for.
        images: The folder that file names start from; ``None`` looks beside the annotation file.

    Returns:
        Records and problems together: the caller decides whether one problem refuses the whole.

    Raises:
        InputError: The path cannot be read as this format at all.
        ValueError: Raw photos, which no file states anything of: :mod:`resight.catalogue.raw_photos` reads them.
    """
    parsed = _read_as(found, images)
    return replace(parsed, notes=[found.why, *parsed.notes]) if found.why else parsed


def _read_as(found: Found, images: Path | None) -> Parsed:
    if found.format == "coco":
        return coco.read(found.path, images=images, document=found.document)
    if found.format == "csv":
        return tables.read(found.path, images=images)
    if found.format == "wildlife-datasets":
        return wildlife_datasets.read(found.path, images=images)
    if found.format == "megadetector":
        return megadetector.read(found.path, images=images, document=found.document)
    if found.format == "wildbook":
        return wildbook.read(found.path, images=images)
    if found.format == "folders":
        return folders.read(found.path, images=images)
    raise ValueError(f"{found.path}: {found.format} are no annotation file")
