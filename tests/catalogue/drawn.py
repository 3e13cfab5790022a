"""Small datasets made by code, in the formats that the import adapters read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

LACKING = object()
"""Given as a value, it takes the key out."""


def coco_image(number: int, **changes: Any) -> Row:
    """An image as plain COCO has it."""
    image = {"id": number, "file_name": f"{number}.jpg", "width": 400, "height": 300}
    return _changed(image, changes)


def coco_annotation(number: int, **changes: Any) -> Row:
    """An annotation of a zebra on the image with the same number."""
    annotation = {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "bbox": [10, 20, 200, 100],
        "name": f"z{number}",
        "viewpoint": "left",
    }
    return _changed(annotation, changes)


def coco_document(annotations: Sequence[Any], images: Sequence[Any] | None = None, **changes: Any) -> Row:
    """A COCO document; without ``images`` every annotation gets the image of its number."""
    if images is None:
        images = [coco_image(number) for number in range(len(annotations))]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "zebra"}]}
    return _changed(document, changes)


def wild_me_image(number: int, **changes: Any) -> Row:
    """An image as Wild Me's software exports it: nothing is known but the file."""
    image = coco_image(
        number,
        uuid=f"image-{number}",
        date_captured="NA",
        gps_lat_captured="-1.000000",
        gps_lon_captured="-1.000000",
    )
    return _changed(image, changes)


def wild_me_annotation(number: int, **changes: Any) -> Row:
    """An annotation as Wild Me's software exports it."""
    annotation = coco_annotation(
        number, uuid=f"annot-{number}", image_uuid=f"image-{number}", theta="none", individual_ids=[]
    )
    return _changed(annotation, changes)


def write_json(file: Path, document: Any) -> Path:
    """Write a document as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def write_table(file: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> Path:
    """Write rows with the same keys as a table; cells must not hold the delimiter."""
    lines = [delimiter.join(rows[0]), *(delimiter.join(str(cell) for cell in row.values()) for row in rows)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_sheet(file: Path, rows: Sequence[Sequence[object]], more: Mapping[str, Sequence[Sequence[object]]]) -> Path:
    """Write rows as the first sheet of a workbook, and further sheets by their names."""
    import openpyxl

    book = openpyxl.Workbook()
    first = book.active
    assert first is not None
    for row in rows:
        first.append(list(row))
    for title, others in more.items():
        sheet = book.create_sheet(title)
        for row in others:
            sheet.append(list(row))
    book.save(file)
    return file


def write_pictures(folder: Path, *names: str) -> Path:
    """Files in the place of pictures; adapters look whether they are there and do not decode them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"picture")
    return folder


def _changed(row: Row, changes: Mapping[str, Any]) -> Row:
    return {key: value for key, value in {**row, **changes}.items() if value is not LACKING}
