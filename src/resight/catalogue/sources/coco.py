"""COCO JSON: plain, and in the flavour of Wild Me's software.

A row is an annotation. What is wrong with an image is one problem of the image, and its annotations are left out.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resight.catalogue.sources import places, values
from resight.catalogue.sources.parsed import Findings, Parsed
from resight.catalogue.sources.segmentations import read_segmentation
from resight.catalogue.sources.values import Bad, show
from resight.errors import InputError
from resight.progress import bar
from resight.types import Record

# The keys that state one thing; the first that is there (for names: that is known) counts.
_FILE_NAME = ("file_name", "file_path")
_DATE = ("date_captured", "taken_at", "datetime", "date")
_LATITUDE = ("gps_lat_captured", "gps_lat", "latitude", "lat")
_LONGITUDE = ("gps_lon_captured", "gps_lon", "longitude", "lon")
_INDIVIDUAL = ("name", "individual", "individual_id", "identity")
_VIEWPOINT = ("viewpoint", "side", "orientation")
_ENCOUNTER = ("encounter_id", "encounter", "encounter_uuid")

_WILD_ME_ANNOTATION = ("individual_ids", "theta", "image_uuid")
_WILD_ME_IMAGE = ("gps_lat_captured",)
_STEP = 1000

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Image:
    file_name: str
    taken_at: str | None
    latitude: float | None
    longitude: float | None
    width: int | None
    height: int | None
    encounter: str | None


@dataclass(frozen=True, slots=True)
class _Images:
    """The images by their two keys; ``None`` is one that is refused."""

    by_id: dict[Any, _Image | None]
    by_uuid: dict[Any, _Image | None]


def load(file: Path) -> Any:
    """Read a JSON file; bytes that are no UTF-8 stay in its texts as lone surrogates.

    Raises:
        InputError: The file cannot be read, or is no JSON.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{file}: the file is UTF-16; save it as UTF-8")
    text = content.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    del content  # a large file need not lie in memory twice
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{file}: no JSON: {error.msg} at {where}; write the file anew") from None
    except RecursionError:
        raise InputError(f"{file}: no JSON that can be read: lists within lists too deep") from None
    except ValueError:
        raise InputError(f"{file}: no JSON that can be read: a number has thousands of digits") from None


def recognise(document: object) -> str | None:
    """Why a JSON document is COCO, and of which flavour, as the end of a sentence; ``None`` where it is not."""
    if not isinstance(document, dict) or not {"images", "annotations"} <= document.keys():
        return None
    holds = "images, annotations and categories" if "categories" in document else "images and annotations"
    sign = _wild_me_sign(document)
    return f"it holds {holds}; " + (f"Wild Me flavour, for {sign}" if sign else "plain")


def _wild_me_sign(document: Entry) -> str | None:
    for kind, keys in (("annotations", _WILD_ME_ANNOTATION), ("images", _WILD_ME_IMAGE)):
        entries = document[kind]
        first = entries[0] if isinstance(entries, list) and entries else None
        if isinstance(first, dict) and (signs := [key for key in keys if key in first]):
            return f"its {kind} have {', '.join(signs)}"
    return None


def read(file: Path, *, images: Path | None = None, document: Any = None) -> Parsed:
    """Read a COCO file.

    Args:
        file: The file.
        images: The folder that file names start from; ``None`` looks beside the file.
        document: The file's content where it was loaded already; it is used up.

    Raises:
        InputError: The file cannot be read, is no COCO, or holds no annotations.
    """
    if document is None:
        document = load(file)
    if recognise(document) is None:
        raise InputError(f"{file}: no COCO; expected an object with images, annotations and categories")
    is_wild_me = _wild_me_sign(document) is not None
    kinds: dict[str, list[Any]] = {}
    for kind in ("images", "categories", "annotations"):
        entries = document.pop(kind, None)
        kinds[kind] = [] if entries is None else entries
        if not isinstance(kinds[kind], list):
            raise InputError(f"{file}: {kind} is {show(entries)}; expected a list")
    if not kinds["annotations"]:
        raise InputError(f"{file}: nothing to import, for its list of annotations is empty")
    names = [_first(entry, _FILE_NAME)[1] for entry in kinds["images"] if isinstance(entry, dict)]
    folder, _, note = places.find_images(file, images, [names])
    findings = Findings()
    if note:
        findings.remark(note)
    found = _read_images(kinds["images"], is_wild_me, findings)
    categories = _read_categories(kinds["categories"], findings)
    records = _read_annotations(kinds["annotations"], found, categories, findings)
    return Parsed(
        "coco", records, findings.problems, folder, places.source_name(file), findings.notes(), findings.faulty
    )


def _read_images(entries: list[Any], is_wild_me: bool, findings: Findings) -> _Images:
    images = _Images({}, {})
    first_rows: dict[Any, str] = {}
    for number, entry in enumerate(entries):
        row = f"images[{number}]"
        entries[number] = None  # its memory serves the records
        if not isinstance(entry, dict):
            findings.refuse(row, "image", entry, "expected an object with id and file_name")
            continue
        keys = [(name, entry[name]) for name in ("id", "uuid") if _is_key(entry.get(name))]
        if not keys:
            findings.refuse(row, "id", entry.get("id"), "an image without id; expected a number or text")
            continue
        if any(_is_taken(row, name, key, first_rows, findings) for name, key in keys):
            continue
        image = _read_image(row, entry, is_wild_me, findings)
        for name, key in keys:
            (images.by_id if name == "id" else images.by_uuid)[key] = image
    return images


def _read_image(row: str, entry: Entry, is_wild_me: bool, findings: Findings) -> _Image | None:
    before = len(findings.problems)
    file_name = findings.take(row, *_first(entry, _FILE_NAME), values.parse_file_name)
    taken_at = findings.take(row, *_first(entry, _DATE), values.parse_date)
    latitude = findings.take(row, *_first(entry, _LATITUDE), values.parse_latitude)
    longitude = findings.take(row, *_first(entry, _LONGITUDE), values.parse_longitude)
    encounter = _first_known(row, entry, _ENCOUNTER, findings)
    if file_name is None or len(findings.problems) > before:
        return None
    latitude, longitude, note = values.settle_position(latitude, longitude, minus_one_is_unknown=is_wild_me)
    if note:
        findings.count(f"images with {note}")
    width, height = (_size(entry.get(key), findings) for key in ("width", "height"))
    return _Image(file_name, taken_at, latitude, longitude, width, height, encounter)


def _size(value: object, findings: Findings) -> int | None:
    size = values.parse_pixels(value)
    if isinstance(size, Bad):
        findings.count(values.NO_SIZE)
        return None
    return size


def _read_categories(entries: Sequence[Any], findings: Findings) -> dict[Any, str | None]:
    """The species by the id of its category."""
    categories: dict[Any, str | None] = {}
    first_rows: dict[Any, str] = {}
    for number, entry in enumerate(entries):
        row = f"categories[{number}]"
        key = entry.get("id") if isinstance(entry, dict) else None
        if not _is_key(key):
            findings.refuse(row, "id", key if isinstance(entry, dict) else entry, "expected an object with id and name")
        elif not _is_taken(row, "id", key, first_rows, findings):
            categories[key] = findings.take(row, "name", entry.get("name"), values.parse_text)
    return categories


def _read_annotations(
    entries: list[Any], images: _Images, categories: Mapping[Any, str | None], findings: Findings
) -> list[Record]:
    records = []
    used: set[int] = set()
    with bar("annotations", len(entries)) as running:
        for number, entry in enumerate(entries):
            if number % _STEP == 0 and number:
                running.advance(_STEP)
            row = f"annotations[{number}]"
            if not isinstance(entry, dict):
                findings.refuse(row, "annotation", entry, "expected an object with image_id, category_id and bbox")
                continue
            before = len(findings.problems)
            image = _image_of(row, entry, images, findings)
            used.add(id(image))
            record = _read_annotation(row, entry, image, categories, findings)
            if len(findings.problems) > before:
                findings.set_aside(record)
            elif image is None:
                findings.count("annotations left out with their image, which is refused")
            elif record.source_id is not None or not findings.is_repeat_of_place(record):
                records.append(record)
                if record.box is None:
                    findings.count("annotations without a box: the whole image is taken")
            else:
                findings.set_aside(record)
    all_images = {id(image) for image in (*images.by_id.values(), *images.by_uuid.values()) if image is not None}
    findings.count("images left out, for they have no annotation", len(all_images - used))
    return records


def _image_of(row: str, entry: Entry, images: _Images, findings: Findings) -> _Image | None:
    """The image of an annotation; ``None`` where it is refused, or where there is none, which is a problem."""
    key, field, known = entry.get("image_id"), "image_id", images.by_id
    if key is None and entry.get("image_uuid") is not None:
        key, field, known = entry["image_uuid"], "image_uuid", images.by_uuid
    if _is_key(key) and key in known:
        return known[key]
    findings.refuse(row, field, key, "no image has this key; expected that of an entry of images")
    return None


def _read_annotation(
    row: str, entry: Entry, image: _Image | None, categories: Mapping[Any, str | None], findings: Findings
) -> Record:
    """One annotation; it is of no use where ``findings`` has a new problem."""
    source_id = _source_id(row, entry, findings)
    species = _species(row, entry.get("category_id"), categories, findings)
    individual = _individual(row, entry, findings)
    viewpoint = _first_known(row, entry, _VIEWPOINT, findings)
    if viewpoint is None and "attributes" in entry:
        viewpoint = _first_known(row, _attributes(entry), _VIEWPOINT, findings)
    encounter = _first_known(row, entry, _ENCOUNTER, findings)
    box = findings.take(row, "bbox", entry.get("bbox"), values.parse_box)
    theta_rad = findings.take(row, "theta", entry.get("theta"), values.parse_theta)
    quality = values.parse_number(entry.get("quality"))
    if isinstance(quality, Bad):
        findings.count(values.NO_QUALITY)
        quality = None
    return Record(
        row=row,
        file_name=image.file_name if image else "",
        source_id=source_id,
        species=species,
        individual=individual,
        viewpoint=viewpoint,
        encounter=encounter or (image.encounter if image else None),
        box=box,
        theta_rad=theta_rad or 0.0,
        taken_at=image.taken_at if image else None,
        latitude=image.latitude if image else None,
        longitude=image.longitude if image else None,
        image_width=image.width if image else None,
        image_height=image.height if image else None,
        quality=quality,
        outline=read_segmentation(entry.get("segmentation"), findings),
    )


def _source_id(row: str, entry: Entry, findings: Findings) -> str | None:
    """The uuid, else the id; each must differ from those of all other annotations."""
    keys: list[str | None] = []
    is_repeat = False
    for name in ("id", "uuid"):
        value = entry.get(name)
        key = None if value is None else findings.take(row, name, value, values.parse_text)
        if key is not None and not is_repeat:
            is_repeat = findings.is_repeat(row, name, key, entry)
        keys.append(key)
    return keys[1] or keys[0]


def _species(row: str, key: Any, categories: Mapping[Any, str | None], findings: Findings) -> str | None:
    if key is None:
        return None
    if _is_key(key) and key in categories:
        return categories[key]
    if categories:
        findings.refuse(row, "category_id", key, "no category has this id; expected that of an entry of categories")
    else:
        findings.count("category_id in a file without categories: species taken as not known")
    return None


def _individual(row: str, entry: Entry, findings: Findings) -> str | None:
    """The name; else that in ``attributes``; else the only one of ``individual_ids``."""
    individual = _first_known(row, entry, _INDIVIDUAL, findings)
    if individual is None and "attributes" in entry:
        individual = _first_known(row, _attributes(entry), _INDIVIDUAL, findings)
    keys = entry.get("individual_ids")
    if individual is not None or not keys:
        return individual
    if isinstance(keys, list) and len(keys) > 1:
        findings.count("several individual_ids on one annotation: individual taken as not known")
        return None
    key = keys[0] if isinstance(keys, list) else keys
    return findings.take(row, "individual_ids", key, values.parse_text)


def _attributes(entry: Entry) -> Entry:
    attributes = entry["attributes"]
    return attributes if isinstance(attributes, dict) else {}


def _first(entry: Entry, keys: Sequence[str]) -> tuple[str, Any]:
    """The first key that is there, and its value; the first of all where none is."""
    for key in keys:
        if key in entry:
            return key, entry[key]
    return keys[0], None


def _first_known(row: str, entry: Entry, keys: Sequence[str], findings: Findings) -> str | None:
    """The first text that is known; a bad one before it is a problem."""
    for key in keys:
        value = entry.get(key)
        if value is not None:
            text = findings.take(row, key, value, values.parse_text)
            if text is not None:
                return text
    return None


def _is_key(value: object) -> bool:
    return isinstance(value, (int, str, float)) and not isinstance(value, bool)


def _is_taken(row: str, name: str, key: Any, first_rows: dict[Any, str], findings: Findings) -> bool:
    """Whether an earlier image or category has the same key; if so, that is a problem of this one."""
    first_row = first_rows.setdefault((name, key), row)
    if first_row == row:
        return False
    findings.refuse(row, name, key, f"{first_row} has it already; expected another for each")
    return True
