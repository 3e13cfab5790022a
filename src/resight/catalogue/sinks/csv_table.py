"""``resight export csv``: one row an annotation, with identity and encounter as they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from resight.artefacts import write_csv as write_table
from resight.catalogue.store import TEST, TRAIN, StoredSplit
from resight.types import Annotation

COLUMNS = (
    "annotation_id", "source", "file_name", "species", "individual", "viewpoint", "encounter", "identity",
    "box_x", "box_y", "box_w", "box_h", "theta",
)  # fmt: skip


def write_csv(annotations: Sequence[Annotation], target: Path, split: StoredSplit | None = None) -> int:
    """Write one row an annotation, unknown values empty; with a split, its ``subset`` beside each.

    With a split, identity and encounter are those the split was frozen with. ``set_aside`` and annotations outside
    the split have an empty subset. A box that is the whole image is written from the image's size where known. Where
    any value is a proposal that nobody has accepted, the last column ``proposed`` names such fields of each row.

    Returns:
        The number of rows.
    """
    columns = COLUMNS if split is None else (*COLUMNS, "subset")
    if any(annotation.proposed for annotation in annotations):
        columns = (*columns, "proposed")
    write_table(target, columns, (_cells(annotation, columns, split) for annotation in annotations))
    return len(annotations)


def _cells(annotation: Annotation, columns: Sequence[str], split: StoredSplit | None) -> list[object]:
    row = _row(annotation)
    if split is not None:
        key = annotation.annotation_id
        subset = split.subset.get(key)
        row["identity"] = split.identity.get(key, row["identity"])
        row["encounter"] = split.encounter.get(key, row["encounter"])
        row["subset"] = subset if subset in (TRAIN, TEST) else None
    return [row[name] for name in columns]


def _row(annotation: Annotation) -> dict[str, object]:
    box = annotation.box
    if box is not None:
        place: Mapping[str, float | None] = {"box_x": box.x, "box_y": box.y, "box_w": box.w, "box_h": box.h}
    elif annotation.image_width is not None and annotation.image_height is not None:
        place = {"box_x": 0, "box_y": 0, "box_w": annotation.image_width, "box_h": annotation.image_height}
    else:
        place = dict.fromkeys(("box_x", "box_y", "box_w", "box_h"))
    return {
        "annotation_id": annotation.annotation_id,
        "source": annotation.source,
        "file_name": annotation.file_name,
        "species": annotation.species,
        "individual": annotation.individual,
        "viewpoint": annotation.viewpoint,
        "encounter": annotation.encounter,
        "identity": annotation.identity,
        **place,
        "theta": annotation.theta_rad,
        "proposed": " ".join(sorted(annotation.proposed)),
    }
