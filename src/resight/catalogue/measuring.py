"""Storing what was measured of annotations, and which of them are near-duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from resight.catalogue import schema
from resight.catalogue.blocks import by_blocks


@dataclass(frozen=True, slots=True)
class Numbers:
    """The quality of one annotation in numbers; :mod:`resight.quality.numbers` defines them.

    Attributes:
        sharpness: From 0 to 100.
        side_px: The shorter side of the box, in pixels of the photo.
        contrast: In levels of grey, from 0 to 255.
        cut_share: Share of the box outside the frame or cut by it, from 0 to 1.
        phash: 64 bits; almost the same pictures differ in few.
    """

    sharpness: float
    side_px: float
    contrast: float
    cut_share: float
    phash: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """The numbers of an annotation, and the key of what they were measured on."""

    annotation_id: str
    measured_key: str
    numbers: Numbers


def measured_keys(connection: Connection) -> dict[str, str]:
    """Annotation → key of what its numbers were measured on."""
    a, m = schema.annotation_table.c, schema.measures.c
    query = select(a.key, m.measured_key).join(schema.measures, a.id == m.annotation_id)
    return {row.key: row.measured_key for row in connection.execute(query)}


def store_measures(connection: Connection, measured: Sequence[Measurement]) -> None:
    """Add or replace the numbers of annotations; those that are no longer in the catalogue are passed over."""
    table = schema.measures
    rows = {
        one.annotation_id: {
            **asdict(one.numbers),
            "phash": f"{one.numbers.phash:016x}",
            "measured_key": one.measured_key,
        }
        for one in measured
    }
    new, changed = [], []
    for key, (row_id, is_measured) in _known(connection, rows).items():
        if is_measured:
            changed.append({f"new_{name}": value for name, value in rows[key].items()} | {"annotation": row_id})
        else:
            new.append(rows[key] | {"annotation_id": row_id})
    if new:
        connection.execute(insert(table), new)
    if changed:
        names = [name.removeprefix("new_") for name in changed[0] if name != "annotation"]
        connection.execute(
            update(table)
            .where(table.c.annotation_id == bindparam("annotation"))
            .values({name: bindparam(f"new_{name}") for name in names}),
            changed,
        )


def forget_measures(connection: Connection, annotation_ids: Iterable[str]) -> None:
    """Remove numbers that are of another box or photo than the annotation's own now."""
    stale = [
        {"annotation": row_id} for row_id, is_measured in _known(connection, annotation_ids).values() if is_measured
    ]
    if stale:
        table = schema.measures
        connection.execute(delete(table).where(table.c.annotation_id == bindparam("annotation")), stale)


def fingerprints(connection: Connection) -> dict[str, tuple[int, float]]:
    """Annotation → perceptual hash and sharpness, of all that are measured."""
    a, m = schema.annotation_table.c, schema.measures.c
    query = select(a.key, m.phash, m.sharpness).join(schema.measures, a.id == m.annotation_id)
    return {row.key: (int(row.phash, 16), row.sharpness) for row in connection.execute(query)}


def store_duplicates(connection: Connection, among: Iterable[str], duplicate_of: Mapping[str, str]) -> None:
    """Note which annotation stands for each near-duplicate.

    Args:
        connection: From :meth:`Database.writing`.
        among: The annotations that were looked at; those of them that ``duplicate_of`` lacks stand for themselves.
        duplicate_of: Annotation → the one that stands for it.
    """
    a, m = schema.annotation_table.c, schema.measures.c
    query = select(a.key, m.annotation_id, m.duplicate_of).join(schema.measures, a.id == m.annotation_id)
    looked_at = set(among)
    changed = [
        {"annotation": row.annotation_id, "standing": duplicate_of.get(row.key)}
        for row in connection.execute(query)
        if row.key in looked_at and row.duplicate_of != duplicate_of.get(row.key)
    ]
    if changed:
        connection.execute(
            update(schema.measures)
            .where(m.annotation_id == bindparam("annotation"))
            .values(duplicate_of=bindparam("standing")),
            changed,
        )


def _known(connection: Connection, annotation_ids: Iterable[str]) -> dict[str, tuple[int, bool]]:
    """Annotation → its row id, and whether it has numbers."""
    a, m = schema.annotation_table.c, schema.measures.c
    query = select(a.key, a.id, m.annotation_id).outerjoin(schema.measures, a.id == m.annotation_id)
    found = {}
    for block in by_blocks(annotation_ids):
        rows = connection.execute(query.where(a.key.in_(block)))
        found.update({row.key: (row.id, row.annotation_id is not None) for row in rows})
    return found
