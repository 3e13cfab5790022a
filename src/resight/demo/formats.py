"""Writes the drawn annotations in three of the formats that people hold."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from resight.demo.animals import Side
from resight.types import Box


@dataclass(frozen=True, slots=True)
class Row:
    """One annotation to be written.

    Attributes:
        file: Path of the photo below the dataset's folder, with ``/``.
        species: Full species string.
        individual: Its name.
        side: The side seen.
        encounter: Key of the encounter.
        day: Day of the encounter.
        box: In pixels, before it is turned by ``theta_rad``.
        theta_rad: Clockwise with y down, about the box's centre.
        width, height: Of the photo, in pixels.
    """

    file: str
    species: str
    individual: str
    side: Side
    encounter: str
    day: date
    box: Box
    theta_rad: float
    width: int
    height: int


def write_coco(path: Path, rows: Sequence[Row]) -> None:
    """COCO in the Wild Me flavour: dates and GPS are not known and say so in its own way."""
    species = sorted({row.species for row in rows})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        image_uuid = str(uuid5(NAMESPACE_URL, f"{row.species}/{row.file}"))
        images.append(
            {
                "id": number,
                "uuid": image_uuid,
                "file_name": row.file,
                "width": row.width,
                "height": row.height,
                "date_captured": "NA",
                "gps_lat_captured": "-1.000000",
                "gps_lon_captured": "-1.000000",
                "license": 0,
            }
        )
        annotations.append(
            {
                "id": number,
                "uuid": str(uuid5(NAMESPACE_URL, f"{row.species}/{row.file}#0")),
                "image_id": number,
                "image_uuid": image_uuid,
                "category_id": species.index(row.species),
                "bbox": [row.box.x, row.box.y, row.box.w, row.box.h],
                "theta": row.theta_rad,
                "viewpoint": row.side,
                "name": row.individual,
                "individual_ids": [],
                "area": row.box.w * row.box.h,
                "iscrowd": 0,
                "encounter_id": row.encounter,
            }
        )
    whole = {
        "info": {"description": "Drawn by resight demo; no such animal exists."},
        "licenses": [],
        "categories": [{"id": number, "name": name, "supercategory": "animal"} for number, name in enumerate(species)],
        "images": images,
        "annotations": annotations,
    }
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def write_metadata(path: Path, rows: Sequence[Row]) -> None:
    """The table of wildlife-datasets; its boxes stand upright."""
    header = ("image_id", "identity", "path", "bbox", "orientation", "species", "date")
    body = [
        (
            number,
            row.individual,
            row.file,
            f"[{row.box.x}, {row.box.y}, {row.box.w}, {row.box.h}]",
            row.side,
            row.species,
            row.day.isoformat(),
        )
        for number, row in enumerate(rows)
    ]
    _write_table(path, header, body)


def write_miewid_csv(path: Path, rows: Sequence[Row]) -> None:
    """The CSV that MiewID's code reads, and a date."""
    header = ("theta", "viewpoint", "name", "file_name", "species", "file_path", "x", "y", "w", "h", "date")
    body = [
        (
            row.theta_rad,
            row.side,
            row.individual,
            row.file.rsplit("/", 1)[-1],
            row.species,
            row.file,
            row.box.x,
            row.box.y,
            row.box.w,
            row.box.h,
            row.day.isoformat(),
        )
        for row in rows
    ]
    _write_table(path, header, body)


def _write_table(path: Path, header: Sequence[str], body: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(body)
