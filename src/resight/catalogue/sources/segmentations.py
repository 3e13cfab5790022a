"""The outline of an animal as annotation files write it: COCO polygons or runs of pixels (RLE), as JSON or as its text.

What is looked at here is its form alone, for a file may hold a million corners; the room ``resight.outlines`` checks
every number before it draws one.
"""

from __future__ import annotations

import json
import re
from typing import Any

from resight.catalogue.sources import values
from resight.catalogue.sources.parsed import Findings
from resight.catalogue.sources.values import Bad

# How Python prints a compressed RLE; tables that it wrote are full of them. Backslashes are doubled in it, and counts
# have neither quotes nor control characters, so nothing needs to be evaluated.
_COUNTS = r"'counts': b?'(?P<counts>[^']*)'"
_SIZE = r"'size': \[(?P<height>[0-9]{1,9}), ?(?P<width>[0-9]{1,9})\]"
_PRINTED_RUNS = (re.compile(rf"\{{{_SIZE}, {_COUNTS}\}}"), re.compile(rf"\{{{_COUNTS}, {_SIZE}\}}"))


def parse_segmentation(cell: object) -> list[Any] | dict[str, Any] | Bad | None:
    """A COCO segmentation: a list of polygons, one polygon alone, or an object with ``size`` and ``counts``.

    A text is read as JSON, or as a compressed RLE printed by Python; it is data, and is never evaluated.
    """
    if isinstance(cell, str):
        if values.is_unknown(cell):
            return None
        cell = _of_text(cell.strip())
    elif cell is None or (isinstance(cell, float) and cell != cell):
        return None
    if isinstance(cell, list):
        if not cell:
            return None
        if all(isinstance(part, list) for part in cell) or all(_is_number(part) for part in cell):
            return cell
    elif isinstance(cell, dict):
        if not cell:
            return None
        if {"size", "counts"} <= cell.keys():
            return cell
    return Bad("expected polygons [[x, y, x, y, …], …], or an RLE, an object with size and counts")


def read_segmentation(cell: object, findings: Findings) -> list[Any] | dict[str, Any] | None:
    """The outline of one annotation; one that cannot be read is counted, and the annotation has none."""
    segmentation = parse_segmentation(cell)
    if isinstance(segmentation, Bad):
        findings.count("segmentation that is neither polygons nor an RLE left out")
        return None
    return segmentation


def _of_text(text: str) -> object:
    for pattern in _PRINTED_RUNS:
        if found := pattern.fullmatch(text):
            counts = found["counts"].replace("\\\\", "\\")
            return {"size": [int(found["height"]), int(found["width"])], "counts": counts}
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
