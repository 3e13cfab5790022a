"""Animals found in photos, in the catalogue: which photos are to be looked at, and writing down what was found.

A box that is found again, by whatever detector, is the annotation that is there already. What a source gave or a person
drew is never touched, and nothing goes that somebody has decided about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    exists,
    insert,
    not_,
    or_,
    select,
    update,
)

from resight.catalogue import schema
from resight.catalogue.blocks import by_blocks
from resight.catalogue.importing import BY_HAND, DETECTED, annotation_key
from resight.catalogue.policy import MergeTable, part_of
from resight.catalogue.proposals import settled
from resight.errors import UnknownName
from resight.settings import Settings
from resight.types import Box, Detection

SAME_BOX = 0.9
"""The overlap (intersection over union) from which two boxes are of one animal."""


_BOX = ("box_x", "box_y", "box_w", "box_h")
_DEPENDENTS = (schema.proposals, schema.measures, schema.comparisons)

Item = TypeVar("Item")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RawPhoto:
    """A photo of which no source said what animals are in it.

    Attributes:
        image_id: Key of the image inside the catalogue.
        source: Name of its source.
        source_id: Key of its source.
        image_root: Name of the image root in ``resight.toml``.
        image_path: Path below its root.
        content_hash: SHA-256 of the file, ``None`` until first read.
        image_bytes: Size of the file.
        image_modified_ns: When the file was last written.
        width: Pixels, upright; ``None`` until first decoded.
        height: Pixels, upright.
        status: ``ok``, ``unverified`` or ``quarantined``.
        problem: Why it is quarantined.
        species: Of every animal in it, where the import said so.
        detector: What looked for animals last; ``None`` where nothing has.
        detector_best: The highest confidence below the threshold, where nothing was found.
    """

    image_id: int
    source: str
    source_id: int
    image_root: str
    image_path: str
    content_hash: str | None
    image_bytes: int | None
    image_modified_ns: int | None
    width: int | None
    height: int | None
    status: str
    problem: str | None
    species: str | None
    detector: str | None
    detector_best: float | None

    @property
    def file_name(self) -> str:
        """How messages call it."""
        return self.image_path


@dataclass(frozen=True, slots=True)
class Looked:
    """What a detector found in one photo: animals from the threshold on, and the highest confidence below it."""

    photo: RawPhoto
    animals: tuple[Detection, ...]
    best_below: float | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What became of annotations.

    Attributes:
        added: New ones.
        kept: Found again, where they were.
        removed: Found by a detector before and not any more.
        not_found_again: Likewise, and kept, since something depends on them.
        repeated: Detections of an animal that a surer one in the same photo shows already.
    """

    added: int = 0
    kept: int = 0
    removed: int = 0
    not_found_again: int = 0
    repeated: int = 0

    def __add__(self, other: Written) -> Written:
        """Both together."""
        return Written(
            self.added + other.added,
            self.kept + other.kept,
            self.removed + other.removed,
            self.not_found_again + other.not_found_again,
            self.repeated + other.repeated,
        )


def photos(connection: Connection, *, source: str | None = None, anew: bool = False) -> list[RawPhoto]:
    """The photos in which a detector is to look for animals, in the order of their import.

    Those are the photos of which a source gave no annotation. Quarantined ones are among them, for they may be readable
    now.

    Args:
        connection: From :meth:`Database.reading`.
        source: Only those of this source.
        anew: Also photos in which a detector has looked already.

    Raises:
        UnknownName: there is no such source.
    """
    a = schema.annotation_table.c
    ours = or_(a.source_key.startswith(DETECTED), a.source_key.startswith(BY_HAND))
    query = _raw(source, connection).where(~exists().where(a.image_id == schema.images.c.id, not_(ours)))
    if not anew:
        query = query.where(schema.images.c.detector.is_(None))
    return _read(connection, query)


def not_looked_at(connection: Connection, *, source: str | None = None) -> list[RawPhoto]:
    """The photos without any annotation in which no detector has looked yet.

    Raises:
        UnknownName: there is no such source.
    """
    return _read(connection, _raw(source, connection).where(_empty(), schema.images.c.detector.is_(None)))


def without_animals(connection: Connection, *, source: str | None = None) -> list[RawPhoto]:
    """The photos in which a detector has looked and that have no annotation, the most promising first.

    Raises:
        UnknownName: there is no such source.
    """
    found = _read(connection, _raw(source, connection).where(_empty(), schema.images.c.detector.is_not(None)))
    return sorted(found, key=lambda photo: -(photo.detector_best or 0.0))


def select_photos(source_id: ColumnElement[Any]) -> Select[Any]:
    """The query whose rows are the fields of :class:`RawPhoto`; ``source_id`` says whose photos they are."""
    i, s = schema.images.c, schema.sources.c
    return (
        select(
            i.id, s.name, s.id, i.root, i.path, i.content_hash, i.byte_size, i.modified_ns, i.width, i.height,
            i.status, i.problem, i.species, i.detector, i.detector_best,
        )
        .select_from(schema.images)
        .join(schema.sources, source_id == s.id)
        .order_by(i.id)
    )  # fmt: skip


def places(connection: Connection, *, source: str | None = None) -> dict[int, tuple[str, str]]:
    """Where every photo lies, labelled or not: image_id → root and path below it.

    Raises:
        UnknownName: there is no such source.
    """
    i, a = schema.images.c, schema.annotation_table.c
    query = select(i.id, i.root, i.path).order_by(i.id)
    if source is not None:
        source_id = _source_id(connection, source)
        of_source = exists().where(a.image_id == i.id, a.source_id == source_id)
        query = query.where(or_(i.source_id == source_id, of_source))
    return {row.id: (row.root, row.path) for row in connection.execute(query)}


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, from 0 to 1."""
    across = min(one.x + one.w, other.x + other.w) - max(one.x, other.x)
    down = min(one.y + one.h, other.y + other.h) - max(one.y, other.y)
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    return shared / (one.w * one.h + other.w * other.h - shared)


def write_looked(
    connection: Connection, settings: Settings, looked: Sequence[Looked], *, detector: str, species: str | None = None
) -> Written:
    """Write down what a detector found in some photos.

    A box that overlaps an annotation of its photo by :data:`SAME_BOX` is that annotation; where a detector made it and
    nobody has decided about it, it takes the new box. What a detector found before and this one does not is removed,
    unless something depends on it.

    Args:
        connection: From :meth:`Database.writing`.
        settings: Whose merge table counts.
        looked: At most one for each photo.
        detector: The name of the detector.
        species: Of the animals that the detector does not name; else that of their photo counts.
    """
    written = _Writing(connection, MergeTable.of(settings), detector, species)
    existing = _existing(connection, [one.photo.image_id for one in looked])
    reasons = what_depends(connection, [row for rows in existing.values() for row in rows])
    for one in looked:
        written.take(one, existing.get(one.photo.image_id, ()), reasons)
    written.finish()
    _note_looked(connection, looked, detector)
    return written.counts


def take_species(connection: Connection, settings: Settings, source_id: int) -> int:
    """Let found animals have the species that was said of their photos since; gives how many have one now.

    Where a species is stated, or a person has said that it cannot be told, nothing is changed.

    Args:
        connection: From :meth:`Database.writing`.
        settings: Whose merge table counts.
        source_id: Of the photos.
    """
    a, i, s = schema.annotation_table.c, schema.images.c, schema.sources.c
    query = (
        select(a.id, a.key, i.species, s.name)
        .join(schema.images, a.image_id == i.id)
        .join(schema.sources, a.source_id == s.id)
        .where(i.source_id == source_id, i.species.is_not(None), a.species.is_(None), a.source_species.is_(None))
        .where(or_(a.source_key.startswith(DETECTED), a.source_key.startswith(BY_HAND)))
    )
    merges, said = MergeTable.of(settings), settled(connection, "species")
    changed = []
    for row in connection.execute(query):
        if row.key not in said:
            species = merges.species_name(row.name, row.species)
            changed.append({"annotation": row.id, "now": species, "shows": part_of(species)})
    if changed:
        statement = update(schema.annotation_table).where(a.id == bindparam("annotation"))
        statement = statement.values(species=bindparam("now"), source_species=bindparam("now"), part=bindparam("shows"))
        connection.execute(statement, changed)
    return len(changed)


def what_depends(connection: Connection, rows: Sequence[Row]) -> dict[str, str]:
    """Annotation key → why an annotation must stay as it is, for those of which something depends.

    Args:
        connection: Any.
        rows: Rows of the table of annotations.
    """
    reasons: dict[str, str] = {}
    keys = [row["key"] for row in rows]
    for block in by_blocks(keys):
        ledger, members = schema.ledger.c.annotation_key, schema.split_members.c.annotation_key
        split_id, splits = schema.split_members.c.split_id, schema.splits
        decided = connection.execute(select(ledger).where(ledger.in_(block)).distinct()).scalars()
        reasons |= dict.fromkeys(decided, "a decision about it stands in the ledger")
        query = select(members, splits.c.name).join(splits, splits.c.id == split_id).where(members.in_(block))
        reasons |= {key: f"it is in the frozen split {name!r}" for key, name in connection.execute(query)}
    for row in rows:
        if row["individual_id"] is not None or row["source_individual_id"] is not None:
            reasons[row["key"]] = "it is of a known individual"
        elif _is_decided(row):
            reasons[row["key"]] = "a person has decided about it"
    return reasons


def remove(connection: Connection, annotation_ids: Sequence[int]) -> None:
    """Delete annotations, by their row ids, with everything that was computed of them."""
    for block in by_blocks(annotation_ids):
        for table in _DEPENDENTS:
            connection.execute(delete(table).where(table.c.annotation_id.in_(block)))
        connection.execute(delete(schema.annotation_table).where(schema.annotation_table.c.id.in_(block)))


def new_row(photo: RawPhoto, box: Box | None, *, prefix: str, species: str | None, detector: str) -> dict[str, Any]:
    """An annotation that no source gave, for :func:`insert_rows`.

    Args:
        photo: On which it is.
        box: ``None`` is the whole photo.
        prefix: :data:`DETECTED` or :data:`BY_HAND`.
        species: As it is kept.
        detector: What found it.
    """
    return {
        "source": photo.source,
        "source_id": photo.source_id,
        "source_key": f"{prefix}{photo.image_path}@{_place(box)}",
        "image_id": photo.image_id,
        "file_name": photo.image_path,
        "species": species,
        "source_species": species,
        "part": None if species is None else part_of(species),
        **_box_values(box),
        "theta_rad": 0.0,
        "outline": None,
        "detector": detector,
        "confidence": None,
    }


def insert_rows(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Insert annotations, and give their keys.

    Two cards of one source may have photos of one path, and a box that has moved keeps the key of its first place: a
    key that is taken is numbered.

    Args:
        connection: From :meth:`Database.writing`.
        rows: From :func:`new_row`.
    """
    c = schema.annotation_table.c
    taken: set[tuple[int, str]] = set()
    for block in by_blocks(row["source_key"] for row in rows):
        found = connection.execute(select(c.source_id, c.source_key).where(c.source_key.in_(block)))
        taken |= {(source_id, source_key) for source_id, source_key in found}

    def free(source_id: int, wanted: str) -> str:
        source_key, number = wanted, 1
        while (source_id, source_key) in taken:
            number += 1
            source_key = f"{wanted}#{number}"
            there = select(c.id).where(c.source_id == source_id, c.source_key == source_key)
            if connection.execute(there).first() is not None:
                taken.add((source_id, source_key))
        taken.add((source_id, source_key))
        return source_key

    complete: list[dict[str, Any]] = []
    for row in rows:
        source_key = free(row["source_id"], row["source_key"])
        values = {name: value for name, value in row.items() if name != "source"}
        complete.append({**values, "source_key": source_key, "key": annotation_key(row["source"], source_key)})
    if complete:
        connection.execute(insert(schema.annotation_table), complete)
    return [row["key"] for row in complete]


class _Writing:
    """Gathers the changes of one block of photos and writes them at once."""

    def __init__(self, connection: Connection, merges: MergeTable, detector: str, species: str | None) -> None:
        self.counts = Written()
        self._connection = connection
        self._merges = merges
        self._detector = detector
        self._species = species
        self._new: list[dict[str, Any]] = []
        self._changed: list[dict[str, Any]] = []
        self._gone: list[int] = []

    def take(self, looked: Looked, existing: Sequence[Row], reasons: Mapping[str, str]) -> None:
        animals = _distinct(looked.animals, looked.photo)
        pairs = pair([found.box for found in animals], existing, _whole(None, looked.photo))
        for number, found in enumerate(animals):
            if number not in pairs:
                self._add(looked.photo, found)
        for number, row in pairs.items():
            if row["source_key"].startswith(DETECTED) and row["key"] not in reasons:
                self._renew(looked.photo, animals[number], row)
        again = {row["id"] for row in pairs.values()}
        lost = [row for row in existing if row["id"] not in again and row["source_key"].startswith(DETECTED)]
        gone = [row["id"] for row in lost if row["key"] not in reasons]
        self._gone += gone
        self.counts += Written(
            added=len(animals) - len(pairs),
            kept=len(pairs),
            removed=len(gone),
            not_found_again=len(lost) - len(gone),
            repeated=len(looked.animals) - len(animals),
        )

    def finish(self) -> None:
        """Write all of it; an annotation that goes is deleted before another one may take its key."""
        remove(self._connection, self._gone)
        insert_rows(self._connection, self._new)
        for values in self._changed:
            row_id = values.pop("id")
            table = schema.annotation_table
            self._connection.execute(update(table).where(table.c.id == row_id).values(values))

    def _species_of(self, photo: RawPhoto, found: Detection) -> str | None:
        name = found.species or self._species or photo.species
        return None if name is None else self._merges.species_name(photo.source, name)

    def _add(self, photo: RawPhoto, found: Detection) -> None:
        species = self._species_of(photo, found)
        row = new_row(photo, found.box, prefix=DETECTED, species=species, detector=self._detector)
        self._new.append(row | {"outline": found.outline, "confidence": found.confidence})

    def _renew(self, photo: RawPhoto, found: Detection, row: Row) -> None:
        values: dict[str, Any] = {
            **_box_values(found.box),
            "detector": self._detector,
            "confidence": found.confidence,
        }
        # A detector that draws no outline takes none away, and one that names nothing takes no name away.
        if found.outline is not None:
            values["outline"] = found.outline
        species = self._species_of(photo, found)
        if species is not None:
            values |= {"species": species, "source_species": species, "part": part_of(species)}
        if any(row[name] != value for name, value in values.items()):
            self._changed.append({"id": row["id"], **values})


def _distinct(animals: Iterable[Detection], photo: RawPhoto) -> list[Detection]:
    """One detection for each animal, the surest, in the order of their confidence."""
    kept: list[Detection] = []
    for found in sorted(animals, key=lambda one: -one.confidence):
        box = _whole(found.box, photo)
        if all(overlap(box, _whole(other.box, photo)) < SAME_BOX for other in kept):
            kept.append(found)
    return kept


def pair(boxes: Sequence[Box | None], existing: Sequence[Row], whole: Box) -> dict[int, Row]:
    """Place of a box → the annotation that it is; those that overlap most come first.

    Args:
        boxes: Of animals in a photo; ``None`` is all of it.
        existing: Rows of the table of annotations, of this photo.
        whole: The box of the photo.
    """
    candidates = []
    for number, box in enumerate(boxes):
        for row in existing:
            shared = overlap(box or whole, _box_of(row) or whole)
            if shared >= SAME_BOX:
                candidates.append((-shared, number, row["id"], row))
    pairs: dict[int, Row] = {}
    claimed: set[int] = set()
    for _, number, row_id, row in sorted(candidates, key=lambda one: one[:3]):
        if number not in pairs and row_id not in claimed:
            pairs[number] = row
            claimed.add(row_id)
    return pairs


def _whole(box: Box | None, photo: RawPhoto) -> Box:
    """The box, or all of the photo."""
    return Box(0.0, 0.0, float(photo.width or 1), float(photo.height or 1)) if box is None else box


def _box_of(row: Row) -> Box | None:
    return None if row["box_x"] is None else Box(*(row[name] for name in _BOX))


def _box_values(box: Box | None) -> dict[str, float | None]:
    return dict(zip(_BOX, (None,) * 4 if box is None else (box.x, box.y, box.w, box.h), strict=True))


def _place(box: Box | None) -> str:
    return "whole" if box is None else f"{box.x:.9g},{box.y:.9g},{box.w:.9g},{box.h:.9g}"


def _is_decided(row: Row) -> bool:
    """Whether something of an annotation that no source gave is not as it was when it was made."""
    stated = row["species"] == row["source_species"] and row["viewpoint"] == row["source_viewpoint"]
    return not stated or row["quality"] is not None or row["encounter_id"] is not None or row["theta_rad"] != 0


def _existing(connection: Connection, image_ids: Sequence[int]) -> dict[int, list[Row]]:
    table = schema.annotation_table
    found: dict[int, list[Row]] = defaultdict(list)
    for block in by_blocks(image_ids):
        for row in connection.execute(select(table).where(table.c.image_id.in_(block)).order_by(table.c.id)):
            found[row.image_id].append(dict(row._mapping))
    return found


def _note_looked(connection: Connection, looked: Sequence[Looked], detector: str) -> None:
    columns = schema.images.c
    if looked:
        connection.execute(
            update(schema.images)
            .where(columns.id == bindparam("image"))
            .values(detector=detector, detector_best=bindparam("best")),
            [{"image": one.photo.image_id, "best": None if one.animals else one.best_below} for one in looked],
        )


def _raw(source: str | None, connection: Connection) -> Select[Any]:
    query = select_photos(schema.images.c.source_id)
    return query if source is None else query.where(schema.images.c.source_id == _source_id(connection, source))


def _empty() -> ColumnElement[bool]:
    return ~exists().where(schema.annotation_table.c.image_id == schema.images.c.id)


def _read(connection: Connection, query: Select[Any]) -> list[RawPhoto]:
    return [RawPhoto(*row) for row in connection.execute(query)]


def _source_id(connection: Connection, source: str) -> int:
    c = schema.sources.c
    known = {row.name: int(row.id) for row in connection.execute(select(c.name, c.id))}
    if source not in known:
        raise UnknownName.among("source", source, known)
    return known[source]
