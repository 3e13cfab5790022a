"""Which format a path holds, and the sentence that says why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resight.catalogue.sources import cards, coco, folders, grid, megadetector, tables, wildbook, wildlife_datasets
from resight.catalogue.sources.values import show
from resight.errors import InputError

FORMATS = ("coco", "csv", "folders", "wildlife-datasets", "photos", "megadetector", "wildbook")

_JSON_SUFFIXES = (".json",)
_JSON_FORMATS = frozenset({"coco", "megadetector"})
_FOLDER_TABLE_SUFFIXES = (".csv", ".tsv", *grid.SHEET_SUFFIXES)
_TABLE_SUFFIXES = (*_FOLDER_TABLE_SUFFIXES, ".txt")  # a .txt in a folder is rather a text for people


@dataclass(frozen=True)
class Found:
    """What a path was taken for.

    Attributes:
        format: One of ``FORMATS``.
        path: The annotation file, or the folder.
        why: One line for the user.
        document: The content of a JSON file, which need not be read again; ``None`` for all others.
    """

    format: str
    path: Path
    why: str
    document: Any = None


def find(path: Path) -> Found:
    """Recognise a format by content.

    Args:
        path: An annotation file, a folder with exactly one, or a folder of pictures.

    Raises:
        InputError: The path is not there, is nothing known, or holds several annotation files.
    """
    if not path.exists():
        raise _no_such(path)
    return _find_in_folder(path) if path.is_dir() else _find_in_file(path)


def annotation_file(path: Path, format_name: str) -> Path:
    """The one file of a format that the user names.

    Args:
        path: The file itself, whatever it holds, or the folder it is in.
        format_name: A format that is read from one file.

    Raises:
        InputError: The path is not there, or the folder holds no such file or several.
    """
    if not path.exists():
        raise _no_such(path)
    if not path.is_dir():
        return path
    files = _files(path, _JSON_SUFFIXES if format_name in _JSON_FORMATS else _FOLDER_TABLE_SUFFIXES)
    if len(files) == 1:
        return files[0]
    found, errors = _recognised(files)
    fitting = [one.path for one in found if one.format == format_name]
    if len(fitting) == 1:
        return fitting[0]
    there = f"there are: {_names(fitting)}; name the one to import" if fitting else "there is none"
    others = "".join(f"; not read: {error}" for error in errors)
    raise InputError(f"{path}: expected one file of format {format_name} in it, {there}{others}")


def _find_in_file(file: Path) -> Found:
    suffix = file.suffix.lower()
    if suffix in _JSON_SUFFIXES:
        return _find_in_document(file)
    if suffix in _TABLE_SUFFIXES:
        return _find_in_table(file)
    if folders.is_picture(file.name):
        return Found("photos", file, f"{file}: photos, for it is a picture")
    if cards.is_video(file.name):
        return Found("photos", file, f"{file}: photos, for it is a video, whose frames are photos")
    if suffix == ".xls":
        raise InputError(f"{file}: the old format of Excel cannot be read; save it as .xlsx")
    kind = f"with the suffix {show(suffix)}" if suffix else "without suffix"
    expected = ", ".join((*_JSON_SUFFIXES, *_TABLE_SUFFIXES))
    raise InputError(f"{file}: a file {kind} is of no known format; expected one of {expected}, or a folder")


def _find_in_document(file: Path) -> Found:
    document = coco.load(file)
    if why := coco.recognise(document):
        return Found("coco", file, f"{file}: COCO, for {why}", document)
    if why := megadetector.recognise(document):
        return Found("megadetector", file, f"{file}: results of MegaDetector, for {why}", document)
    raise InputError(
        f"{file}: JSON of no known format; expected COCO, an object with images and annotations, or results of "
        "MegaDetector, with images and detection_categories"
    )


def _find_in_table(file: Path) -> Found:
    columns = grid.read_columns(file)
    if why := wildbook.recognise(columns):
        return Found("wildbook", file, f"{file}: Wildbook's bulk import, for {why}")
    if why := wildlife_datasets.recognise(columns):
        return Found("wildlife-datasets", file, f"{file}: wildlife-datasets table, for {why}")
    if why := tables.recognise(columns):
        return Found("csv", file, f"{file}: table, for {why}")
    raise InputError(
        f"{file}: no column names the picture; expected one such as path or file_name, found {show(list(columns))}"
    )


def _find_in_folder(folder: Path) -> Found:
    found, errors = _recognised(_files(folder, (*_JSON_SUFFIXES, *_FOLDER_TABLE_SUFFIXES)))
    if len(found) > 1:
        names = _names([one.path for one in found])
        raise InputError(f"{folder}: it holds {len(found)} annotation files: {names}; name the one to import")
    if found:
        others = "".join(f"; not read: {error}" for error in errors)
        return replace(found[0], why=f"{found[0].why}; the one annotation file in {folder}{others}")
    from_camera, why = cards.recognise(folder), folders.recognise(folder)
    if errors:
        # An annotation file with a slip must not turn its folder of pictures into an individual.
        remedy = ""
        if from_camera:
            remedy = "; to import its photos alone, use --format photos"
        elif why:
            remedy = "; if its sub-folders are individuals, use --format folders"
        raise InputError("; ".join(map(str, errors)) + remedy)
    if from_camera:
        return Found("photos", folder, f"{folder}: photos, for {from_camera}")
    if why:
        doubt = ", with files named by a camera; if they are no individuals, use --format photos"
        return Found(
            "folders",
            folder,
            f"{folder}: folders of individuals, for {why}{doubt if cards.has_camera_names(folder) else ''}",
        )
    if any(folders.is_picture(path.name) or cards.is_video(path.name) for path in folder.iterdir()):
        return Found("photos", folder, f"{folder}: photos, for it has pictures and no annotation file")
    raise InputError(
        f"{folder}: nothing to import; expected an annotation file "
        f"({', '.join((*_JSON_SUFFIXES, *_FOLDER_TABLE_SUFFIXES))}) or a sub-folder with pictures for each individual"
    )


def _recognised(files: list[Path]) -> tuple[list[Found], list[InputError]]:
    found, errors = [], []
    for file in files:
        try:
            found.append(_find_in_file(file))
        except InputError as error:
            errors.append(error)
    return found, errors


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files with one of the suffixes, by name, without hidden ones and the locks of an office program."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith((".", "~$")) and path.is_file()
    )


def _names(files: list[Path]) -> str:
    return ", ".join(file.name for file in files)


def _no_such(path: Path) -> InputError:
    return InputError(f"{path}: no such file or folder; expected an annotation file or a folder")
