"""Boxes that a person draws where no detector found an animal, and taking boxes away again."""

from __future__ import annotations

import math

from sqlalchemy import Connection, func, or_, select

from resight.catalogue import schema
from resight.catalogue.checking import INSIDE_SHARE, share_inside
from resight.catalogue.detecting import (
    RawPhoto,
    insert_rows,
    new_row,
    remove,
    select_photos,
    what_depends,
)
from resight.catalogue.importing import BY_HAND, DETECTED
from resight.catalogue.policy import MergeTable
from resight.errors import InputError
from resight.settings import Settings
from resight.types import Box

HAND = "hand"  # the detector of a box that a person drew

_SHOWN = 3


def add_box(connection: Connection, settings: Settings, image: str, box: Box, species: str | None = None) -> str:
    """Draw a box on a photo; drawing the very same one again adds nothing.

    Args:
        connection: From :meth:`Database.writing`.
        settings: Whose merge table counts.
        image: The photo's file name or path below its image root, or the end of the path, as long as it is only one.
        box: In pixels of the upright image.
        species: Of the animal; ``None`` takes what the import said of the photo, if anything.

    Returns:
        The annotation's id.

    Raises:
        InputError: no such photo, or several; or a box that does not lie in it.
    """
    photo = _photo(connection, image)
    _require_inside(photo, box)
    name = species or photo.species
    kept = None if name is None else MergeTable.of(settings).species_name(photo.source, name)
    row = new_row(photo, box, prefix=BY_HAND, species=kept, detector=HAND)
    table = schema.annotation_table.c
    drawn = select(table.key).where(
        table.image_id == photo.image_id,
        table.source_key.startswith(BY_HAND),
        *(table[side] == row[side] for side in ("box_x", "box_y", "box_w", "box_h")),
    )
    known: str | None = connection.execute(drawn).scalars().first()
    if known is not None:
        return known
    return insert_rows(connection, [row])[0]


def remove_box(connection: Connection, annotation_id: str) -> None:
    """Take a box away that a person drew or a detector found.

    Args:
        connection: From :meth:`Database.writing`.
        annotation_id: The annotation's.

    Raises:
        InputError: there is no such annotation, its source gave it, or something depends on it.
    """
    table = schema.annotation_table
    row = connection.execute(select(table).where(table.c.key == annotation_id)).first()
    if row is None:
        raise InputError(f"no annotation {annotation_id!r}: expected its id, as `resight export csv` writes it")
    if not row.source_key.startswith((BY_HAND, DETECTED)):
        raise InputError(
            f"annotation {annotation_id} on {row.file_name} was given by its source; take it out of the source's file, "
            "boxes are only removed where a person drew them or a detector found them"
        )
    reason = what_depends(connection, [dict(row._mapping)]).get(annotation_id)
    if reason is not None:
        raise InputError(f"annotation {annotation_id} on {row.file_name} stays: {reason}")
    remove(connection, [row.id])


def _photo(connection: Connection, image: str) -> RawPhoto:
    i, a = schema.images.c, schema.annotation_table.c
    name = image.strip().replace("\\", "/").removeprefix("./")
    # A photo of a labelled dataset has the source of its annotations.
    of_annotations = select(func.min(a.source_id)).where(a.image_id == i.id).scalar_subquery()
    query = select_photos(func.coalesce(i.source_id, of_annotations)).where(
        or_(i.path == name, i.root + "/" + i.path == name, i.path.endswith(f"/{name}", autoescape=True))
    )
    found = [RawPhoto(*row) for row in connection.execute(query)] if name else []
    exact = [photo for photo in found if name in (photo.image_path, f"{photo.image_root}/{photo.image_path}")]
    if len(exact) == 1 or not found:
        found = exact
    if not found:
        raise InputError(
            f"no photo {image!r} in the catalogue: expected a file name or a path below its image root; import it first"
        )
    if len(found) > 1:
        shown = ", ".join(f"{photo.image_root}/{photo.image_path}" for photo in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        raise InputError(f"{image!r} is the name of {len(found):,} photos: {shown}{more}; give the path of one of them")
    return found[0]


def _require_inside(photo: RawPhoto, box: Box) -> None:
    numbers = (box.x, box.y, box.w, box.h)
    shown = f"the box [{', '.join(f'{number:g}' for number in numbers)}]"
    if not all(map(math.isfinite, numbers)) or box.w <= 0 or box.h <= 0:
        raise InputError(f"{shown} has no area: expected x, y, width and height in pixels of the upright photo")
    if photo.width is None or photo.height is None:
        why = "was never read" if photo.problem is None else f"cannot be read ({photo.problem})"
        raise InputError(f"{photo.image_path} {why}, so that its size is not known; mend the file and import it again")
    share = share_inside(box, 0.0, photo.width, photo.height)
    if share < INSIDE_SHARE:
        raise InputError(
            f"{share:.0%} of {shown} lies inside {photo.image_path} of {photo.width} x {photo.height} pixels; expected "
            "x, y, width and height in pixels of the upright photo"
        )
