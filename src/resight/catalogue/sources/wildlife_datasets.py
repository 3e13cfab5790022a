"""The metadata table of wildlife-datasets: ``image_id, identity, path`` and optional columns."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from resight.catalogue.sources.parsed import Parsed
from resight.catalogue.sources.tables import COLUMNS, Columns, match_columns, read_as

_REQUIRED = ("image_id", "identity", "path")

# ``orientation`` in the tables themselves is ``position`` in their documentation; COLUMNS takes both for a viewpoint.
WILDLIFE_COLUMNS: Columns = {**COLUMNS, "file": ("path",), "id": ("imageid",), "individual": ("identity",)}


def recognise(columns: Iterable[str]) -> str | None:
    """Why a header is that of such a table, as the end of a sentence; ``None`` where it is not."""
    found = match_columns(list(columns), WILDLIFE_COLUMNS)
    if not {"file", "id", "individual"} <= found.keys():
        return None
    return f"it has the columns {', '.join(_REQUIRED)}"


def read(file: Path, *, images: Path | None = None) -> Parsed:
    """Read a table of wildlife-datasets.

    ``image_id`` is the id of the row. ``identity`` may be ``unknown``. Where neither an encounter nor a date is
    known, the frames of one ``video`` are one encounter, for they show nearly the same. ``segmentation`` is kept as the
    outline: polygons or an RLE, as JSON or as Python prints them.

    Args:
        file: The table.
        images: The folder that paths start from; ``None`` looks beside the table.

    Raises:
        InputError: The file cannot be read, is no table, has no column ``path``, or holds no rows.
    """
    return read_as("wildlife-datasets", file, WILDLIFE_COLUMNS, images=images)
