"""Animals that a detector found or a person boxed, and that a dataset then says more of: one annotation stays one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from resight.catalogue import schema
from resight.catalogue.blocks import by_blocks
from resight.catalogue.detecting import pair
from resight.catalogue.importing import BY_HAND, DETECTED, source_key, upsert_source
from resight.types import Box, Record


def adopt(
    connection: Connection, source: str, source_format: str, path: Path, root: str, records: Sequence[Record]
) -> int:
    """Let a dataset have the annotations of its animals that no source gave; gives how many.

    An annotation that was boxed on one of its photos, and whose box is the record's by
    :data:`resight.catalogue.detecting.SAME_BOX`, is known to the dataset from here on. It keeps its id, and what was
    decided about it, and takes everything else when the dataset is written.

    Args:
        connection: From :meth:`Database.writing`, in which the dataset is written next.
        source: Name of the dataset.
        source_format: As what it is read.
        path: From where.
        root: Name of the image root its file names are below.
        records: Its annotations.
    """
    of_file: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.theta_rad == 0:  # a box that is turned is not to be compared with one that is not
            of_file[record.file_name].append(record)
    known = _known(connection, source)
    changed = []
    for rows in _boxed(connection, root, sorted(of_file)):
        fresh = [one for one in of_file[rows[0]["path"]] if source_key(one) not in known]
        whole = Box(0.0, 0.0, float(rows[0]["width"] or 1), float(rows[0]["height"] or 1))
        pairs = pair([one.box for one in fresh], rows, whole)
        changed += [{"annotation": row["id"], "known_as": source_key(fresh[n])} for n, row in pairs.items()]
    if changed:
        table = schema.annotation_table
        connection.execute(
            update(table)
            .where(table.c.id == bindparam("annotation"))
            .values(source_id=upsert_source(connection, source, source_format, str(path.resolve())),
                    source_key=bindparam("known_as")),
            changed,
        )  # fmt: skip
    return len(changed)


def _known(connection: Connection, source: str) -> set[str]:
    a, s = schema.annotation_table.c, schema.sources.c
    query = select(a.source_key).join(schema.sources, a.source_id == s.id).where(s.name == source)
    return set(connection.execute(query).scalars())


def _boxed(connection: Connection, root: str, paths: Sequence[str]) -> Iterator[list[Mapping[str, Any]]]:
    """Annotations that no source gave, photo by photo, each with the photo's path and size."""
    a, i = schema.annotation_table, schema.images.c
    query = (
        select(a, i.path, i.width, i.height)
        .join(schema.images, a.c.image_id == i.id)
        .where(i.root == root, a.c.source_key.startswith(DETECTED) | a.c.source_key.startswith(BY_HAND))
        .order_by(a.c.id)
    )
    for block in by_blocks(paths):
        of_photo: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for row in connection.execute(query.where(i.path.in_(block))).mappings():
            of_photo[row["image_id"]].append(dict(row))
        yield from of_photo.values()
