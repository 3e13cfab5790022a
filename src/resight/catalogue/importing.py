"""Writing a checked dataset into the catalogue, in one transaction, so that doing it twice adds nothing.

An annotation is known again by its source and id, else by its file name and box. A value that the source has
changed since is updated; a value that a person has changed since is left alone. Every change of an identity is a
row of the ledger.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update

from resight.catalogue import measuring, schema
from resight.catalogue.checking import CheckedImage, stated
from resight.catalogue.policy import MergeTable, ViewpointTable, part_of
from resight.catalogue.proposals import settled
from resight.settings import Settings
from resight.types import Record

_STATED_FIELDS = ("taken_at", "latitude", "longitude")
_NAMESPACE = uuid.UUID("8d3b1a52-5a70-4c5e-9c5b-6f1f0d4f7c11")
_KEPT_FIELDS = (
    "file_name", "species", "source_species", "part", "viewpoint", "source_viewpoint", "image_id", "encounter_id",
    "box_x", "box_y", "box_w", "box_h", "theta_rad", "quality", "outline", "detector", "confidence",
)  # fmt: skip
DETECTED, BY_HAND = "detect:", "hand:"  # how the source_key of an annotation begins that no source gave
_SHOWN_FIELDS = frozenset({"box_x", "box_y", "box_w", "box_h", "theta_rad", "image_id", "photo_content"})
DECISIONS = ("accept", "correct")  # actions of the ledger by which a person settles species and viewpoint
_UNTOLD_FIELDS = ("source_key", "source_species")


@dataclass(frozen=True)
class Change:
    """One value that importing a corrected file changed.

    ``field`` is a column of an annotation, or of what it refers to: individual, encounter, photo (where it lies),
    photo_content (its hash), taken_at, latitude, longitude.
    """

    annotation_id: str
    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Applied:
    """What an import did.

    Attributes:
        added: Annotations that are new.
        updated: Annotations of which something changed.
        unchanged: Annotations that were there as they are.
        absent: Annotations of this source that the file no longer has; they are kept.
        other_photo: Annotations known before that are on another photo now: another name, or another content.
        changes: Every value that changed.
        annotation_ids: The annotations of the file, in its order.
    """

    added: int
    updated: int
    unchanged: int
    absent: int
    other_photo: int
    changes: tuple[Change, ...]
    annotation_ids: tuple[str, ...]


def annotation_key(source: str, source_key: str) -> str:
    """The stable id of an annotation: the same for the same source and id on every machine."""
    return str(uuid.uuid5(_NAMESPACE, f"{source}\n{source_key}"))


def source_key(record: Record) -> str:
    """By what an annotation is known again inside its source: its id, else its file name and box."""
    if record.source_id is not None:
        return f"id:{record.source_id}"
    box = record.box
    # Nine digits tell boxes apart to a fraction of a pixel, and are the same for 10, 10.0 and what a spreadsheet saved.
    place = "whole" if box is None else f"{box.x:.9g},{box.y:.9g},{box.w:.9g},{box.h:.9g}"
    return f"file:{record.file_name}@{place}@{record.theta_rad:g}"


def unmapped_viewpoints(records: Iterable[Record], settings: Settings) -> dict[str, int]:
    """Spellings of viewpoints that no alias maps, with how many annotations bear each."""
    table = ViewpointTable(settings.viewpoint_aliases)
    spellings = Counter(record.viewpoint for record in records if record.viewpoint is not None)
    return {name: count for name, count in spellings.most_common() if table.canonical(name) is None}


def apply_import(
    connection: Connection,
    revision: int,
    *,
    source: str,
    source_format: str,
    source_path: str,
    root: str,
    records: Sequence[Record],
    images: Mapping[str, CheckedImage],
    settings: Settings,
    actor: str,
    photos: Sequence[Record] = (),
) -> Applied:
    """Add and update a dataset's annotations.

    Args:
        connection: From :meth:`Database.writing`.
        revision: The catalogue's new revision number.
        source: Name of the source.
        source_format: The format it was read as.
        source_path: The file or folder it was read from.
        root: Name of the image root its file names are below.
        records: Its annotations; each has a file name in ``images``, and a species where it has an individual.
        images: file name → what was found there.
        settings: Merge table, viewpoint aliases, sources with global ids.
        actor: Who imports, for the ledger.
        photos: Photos in which the source found no animal; each has a file name in ``images``.
    """
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    source_id = upsert_source(connection, source, source_format, source_path)
    image_ids, image_changes = _upsert_images(connection, source_id, root, [*records, *photos], images)
    _note_detectors(connection, source_id, [*records, *photos], image_ids)
    _note_photos(connection, source_id, {image_ids[photo.file_name] for photo in photos})
    prepared = _prepare(connection, source, source_id, records, image_ids, settings)
    existing: dict[str, Mapping[str, Any]] = {
        row.source_key: dict(row._mapping)
        for row in connection.execute(
            select(schema.annotation_table).where(schema.annotation_table.c.source_id == source_id)
        )
    }
    _recognise_moved_boxes(prepared, existing)
    keys = {before["key"] for before in existing.values()}
    individuals = _Individuals.read(connection)
    decided = _decided_here(connection)
    new, changed, changes, ledger_rows = [], [], [], []
    updated = 0
    for row in prepared:
        known_as = row.pop("known_as", None)
        before = existing.get(row["source_key"]) or existing.get(known_as)
        if before is None:
            row["key"] = _free_key(row["key"], source, row["source_key"], keys)
            keys.add(row["key"])
            new.append(row)
            if row["individual_id"] is not None:
                name = individuals.name(row["individual_id"])
                ledger_rows.append(_ledger_row(row["key"], None, None, row["species"], name))
            continue
        row["key"] = before["key"]
        _keep_decisions(before, row, decided)
        row["individual_id"] = individuals.after(before, row)
        differing = [name for name in (*_KEPT_FIELDS, "source_key") if row[name] != before[name]]
        identity_changed = row["individual_id"] != before["individual_id"]
        was, now = individuals.name(before["individual_id"]), individuals.name(row["individual_id"])
        if identity_changed or ("species" in differing and now is not None):
            ledger_rows.append(_ledger_row(row["key"], before["species"], was, row["species"], now))
        mine = [Change(row["key"], name, before[name], row[name]) for name in differing if name not in _UNTOLD_FIELDS]
        if was != now:
            mine.insert(0, Change(row["key"], "individual", was, now))
        mine += [Change(row["key"], *values) for values in image_changes.get(row["file_name"], ())]
        changes += mine
        if differing or identity_changed or row["source_individual_id"] != before["source_individual_id"]:
            changed.append(row)
        updated += bool(mine) or identity_changed
    _write_annotations(connection, new, changed)
    measuring.forget_measures(connection, {change.annotation_id for change in changes if change.field in _SHOWN_FIELDS})
    common = {"revision": revision, "at_utc": moment, "actor": actor, "action": "import", "note": f"source {source}"}
    if ledger_rows:
        connection.execute(insert(schema.ledger), [common | row for row in ledger_rows])
    return Applied(
        added=len(new),
        updated=updated,
        unchanged=len(prepared) - len(new) - updated,
        absent=sum(not key.startswith((DETECTED, BY_HAND)) for key in existing) - (len(prepared) - len(new)),
        other_photo=_count_other_photos(connection, changes),
        changes=_in_words(connection, changes),
        annotation_ids=tuple(row["key"] for row in prepared),
    )


@dataclass(frozen=True)
class _Individuals:
    """The individuals of the catalogue by their id, and those made on the way."""

    connection: Connection
    known: dict[int, tuple[str, str]]

    @classmethod
    def read(cls, connection: Connection) -> _Individuals:
        c = schema.individuals.c
        rows = connection.execute(select(c.id, c.scope, c.name))
        return cls(connection, {row.id: (row.scope, row.name) for row in rows})

    def name(self, individual_id: int | None) -> str | None:
        return None if individual_id is None else self.known[individual_id][1]

    def after(self, before: Mapping[str, Any], row: Mapping[str, Any]) -> int | None:
        """The individual that holds from now on: the source's where it names another one, else what was decided."""
        decided: int | None = before["individual_id"]
        said: int | None = before["source_individual_id"]
        says: int | None = row["source_individual_id"]
        if decided == said or self.name(said) != self.name(says):
            return says
        if decided is None or said == says or self.known[decided][0] == schema.GLOBAL_SCOPE:
            return decided
        # The source names the same animal under another species now; the decision moves there too.
        scoped_name = (row["species"], self.known[decided][1])
        moved = _ids_of(self.connection, schema.individuals, ("scope", "name"), {scoped_name})[scoped_name]
        self.known[moved] = scoped_name
        return moved


def _decided_here(connection: Connection) -> set[tuple[str, str]]:
    """Annotation key and field (species, viewpoint, quality) of everything that a person accepted or corrected."""
    c = schema.ledger.c
    query = select(c.annotation_key, c.species_before, c.species_after, c.viewpoint_before, c.viewpoint_after)
    rows = connection.execute(query.where(c.action.in_(DECISIONS)))
    decided = {(key, "quality") for key in settled(connection, "quality")}
    for row in rows:
        if row.species_before != row.species_after:
            decided.add((row.annotation_key, "species"))
        if row.viewpoint_before != row.viewpoint_after:
            decided.add((row.annotation_key, "viewpoint"))
    return decided


def _keep_decisions(before: Mapping[str, Any], row: dict[str, Any], decided: set[tuple[str, str]]) -> None:
    """What a person has decided since stays, unless the source says something new.

    What the source said of a grade is not kept beside it, so a grade that was decided stays whatever the source says.
    """
    key = before["key"]
    if (key, "species") in decided and row["source_species"] == before["source_species"]:
        row["species"], row["part"] = before["species"], before["part"]
    if (key, "viewpoint") in decided and row["source_viewpoint"] == before["source_viewpoint"]:
        row["viewpoint"] = before["viewpoint"]
    if row["quality"] is None or (key, "quality") in decided:
        row["quality"] = before["quality"]


def _note_photos(connection: Connection, source_id: int, image_ids: Iterable[int]) -> None:
    """Whose photos without an animal these are, so that animals are looked for in them."""
    table = schema.images
    mine = [{"image": image_id} for image_id in sorted(image_ids)]
    if mine:
        statement = update(table).where(table.c.id == bindparam("image"), table.c.source_id.is_(None))
        connection.execute(statement.values(source_id=source_id), mine)


def _note_detectors(
    connection: Connection, source_id: int, records: Sequence[Record], image_ids: Mapping[str, int]
) -> None:
    """Whose photos these are and what has looked for animals in them, so that those without any can be listed."""
    table = schema.images
    best: dict[int, tuple[str, float | None]] = {}
    for record in records:
        if record.detector is not None:
            image_id = image_ids[record.file_name]
            empty = record.box is None
            best[image_id] = (record.detector, record.confidence if empty else None)
    if best:
        connection.execute(
            update(table)
            .where(table.c.id == bindparam("image"))
            .values(
                source_id=func.coalesce(table.c.source_id, source_id),
                detector=bindparam("by"),
                detector_best=bindparam("highest"),
            ),
            [{"image": image_id, "by": by, "highest": highest} for image_id, (by, highest) in sorted(best.items())],
        )


def _free_key(key: str, source: str, source_key: str, taken: set[str]) -> str:
    """``key``, or the next free one: an annotation whose box was corrected keeps the key of the box it had first."""
    number = 2
    while key in taken:
        key, number = annotation_key(source, f"{source_key}#{number}"), number + 1
    return key


def _count_other_photos(connection: Connection, changes: Iterable[Change]) -> int:
    moved = {change.annotation_id: change for change in changes if change.field == "image_id"}
    found = {change.annotation_id for change in changes if change.field in ("file_name", "photo_content")}
    if moved:
        c = schema.images.c
        content = {row.id: row.content_hash for row in connection.execute(select(c.id, c.content_hash))}
        for annotation_id, change in moved.items():
            was, now = content[change.before], content[change.after]
            if None not in (was, now) and was != now:
                found.add(annotation_id)
    return len(found)


def _in_words(connection: Connection, changes: Sequence[Change]) -> tuple[Change, ...]:
    """Ids of rows replaced by what they stand for."""
    words: dict[str, dict[int | None, str]] = {}
    fields = {change.field for change in changes}
    if "image_id" in fields:
        i = schema.images.c
        words["image_id"] = {
            row.id: f"{row.root}/{row.path}" for row in connection.execute(select(i.id, i.root, i.path))
        }
    if "encounter_id" in fields:
        e = schema.encounters.c
        words["encounter_id"] = {row.id: row.key for row in connection.execute(select(e.id, e.key))}
    names = {"image_id": "photo", "encounter_id": "encounter"}
    return tuple(
        Change(c.annotation_id, names[c.field], words[c.field].get(c.before), words[c.field].get(c.after))
        if c.field in words
        else c
        for c in changes
    )


def upsert_source(connection: Connection, name: str, source_format: str, path: str) -> int:
    """The row of a source that is imported now, made where it is new."""
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    table = schema.sources
    values = {"format": source_format, "path": path, "imported_at_utc": moment}
    found = connection.execute(select(table.c.id).where(table.c.name == name)).scalar_one_or_none()
    if found is None:
        connection.execute(insert(table).values(name=name, **values))
        return int(connection.execute(select(table.c.id).where(table.c.name == name)).scalar_one())
    connection.execute(update(table).where(table.c.id == found).values(**values))
    return int(found)


def _upsert_images(
    connection: Connection,
    source_id: int,
    root: str,
    records: Sequence[Record],
    images: Mapping[str, CheckedImage],
) -> tuple[dict[str, int], dict[str, list[tuple[str, Any, Any]]]]:
    """Ids of all images of the root, and what the dataset changed of them: file name → (field, before, after)."""
    table, annotations = schema.images, schema.annotation_table.c
    rows_of: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        rows_of[record.file_name].append(record)
    existing = {row.path: row._mapping for row in connection.execute(select(table).where(table.c.root == root))}
    of_others = select(annotations.image_id).join(table, annotations.image_id == table.c.id).distinct()
    shared = set(
        connection.execute(of_others.where(table.c.root == root, annotations.source_id != source_id)).scalars()
    )
    new, changed = [], []
    changes: dict[str, list[tuple[str, Any, Any]]] = {}
    for name, rows in rows_of.items():
        image = images[name]
        taken_at, latitude, longitude = stated(rows)
        row = {
            "root": root,
            "path": name,
            "status": image.status,
            "problem": image.problem,
            "content_hash": image.content_hash,
            "byte_size": image.byte_size,
            "modified_ns": image.modified_ns,
            "width": image.width,
            "height": image.height,
            "taken_at": taken_at or image.taken_at,
            "latitude": image.latitude if latitude is None else latitude,
            "longitude": image.longitude if longitude is None else longitude,
        }
        before = existing.get(name)
        if before is None:
            new.append(row)
            continue
        if before["camera_time"] is not None and taken_at is None:  # that of a raw photo is by its camera's clock
            row["taken_at"] = before["taken_at"]
        if before["id"] in shared:  # what another source stated of the photo is not lost for this one's silence
            for field in _STATED_FIELDS:
                row[field] = before[field] if row[field] is None else row[field]
        if any(row[field] != before[field] for field in row):
            changed.append({f"new_{field}": value for field, value in row.items()} | {"image": before["id"]})
        told = [(field, before[field], row[field]) for field in _STATED_FIELDS if row[field] != before[field]]
        contents = before["content_hash"], row["content_hash"]
        if None not in contents and contents[0] != contents[1]:
            told.append(("photo_content", *contents))
        if told:
            changes[name] = told
    if new:
        connection.execute(insert(table), new)
    if changed:
        fields = [field.removeprefix("new_") for field in changed[0] if field != "image"]
        connection.execute(
            update(table)
            .where(table.c.id == bindparam("image"))
            .values({field: bindparam(f"new_{field}") for field in fields}),
            changed,
        )
    found = connection.execute(select(table.c.path, table.c.id).where(table.c.root == root))
    return {row.path: row.id for row in found}, changes


def _prepare(
    connection: Connection,
    source: str,
    source_id: int,
    records: Sequence[Record],
    image_ids: Mapping[str, int],
    settings: Settings,
) -> list[dict[str, Any]]:
    """Rows as they would be inserted, their individuals and encounters made where new."""
    merges, viewpoints = MergeTable.of(settings), ViewpointTable(settings.viewpoint_aliases)
    has_global_ids = source in settings.global_id_sources
    named: list[tuple[str, str] | None] = []
    species_of: list[str | None] = []
    for record in records:
        species = None if record.species is None else merges.species_name(source, record.species)
        species_of.append(species)
        if record.individual is None or species is None:
            named.append(None)
        else:
            name = merges.individual_name(source, species, record.individual)
            named.append((schema.GLOBAL_SCOPE if has_global_ids else species, name))
    individual_ids = _ids_of(connection, schema.individuals, ("scope", "name"), {n for n in named if n is not None})
    wanted = {(source_id, record.encounter) for record in records if record.encounter is not None}
    encounter_ids = _ids_of(connection, schema.encounters, ("source_id", "key"), wanted)
    rows = []
    for record, species, scoped_name in zip(records, species_of, named, strict=True):
        key = source_key(record)
        box = record.box
        individual_id = None if scoped_name is None else individual_ids[scoped_name]
        rows.append(
            {
                "key": annotation_key(source, key),
                "source_id": source_id,
                "source_key": key,
                "image_id": image_ids[record.file_name],
                "file_name": record.file_name,
                "species": species,
                "source_species": species,
                "part": None if species is None else part_of(species),
                "viewpoint": viewpoints.canonical(record.viewpoint),
                "source_viewpoint": record.viewpoint,
                "individual_id": individual_id,
                "source_individual_id": individual_id,
                "encounter_id": None if record.encounter is None else encounter_ids[source_id, record.encounter],
                "box_x": None if box is None else box.x,
                "box_y": None if box is None else box.y,
                "box_w": None if box is None else box.w,
                "box_h": None if box is None else box.h,
                "theta_rad": record.theta_rad,
                "quality": record.quality,
                "outline": record.outline,
                "detector": record.detector,
                "confidence": record.confidence,
            }
        )
    return rows


def _ids_of(
    connection: Connection, table: Table, columns: tuple[str, str], wanted: set[tuple[Any, str]]
) -> dict[tuple[Any, str], int]:
    first, second = (table.c[name] for name in columns)

    def known() -> dict[tuple[Any, str], int]:
        return {(row[0], row[1]): row[2] for row in connection.execute(select(first, second, table.c.id))}

    missing = wanted - known().keys()
    if missing:
        ordered = sorted(missing, key=lambda pair: (str(pair[0]), pair[1]))
        connection.execute(insert(table), [dict(zip(columns, pair, strict=True)) for pair in ordered])
    return known()


def _recognise_moved_boxes(prepared: list[dict[str, Any]], existing: Mapping[str, Mapping[str, Any]]) -> None:
    """A lone annotation of a file whose box was corrected is the same annotation, not another one."""
    keys = {row["source_key"] for row in prepared}
    left_over: dict[str, list[str]] = defaultdict(list)
    for key, before in existing.items():
        if key not in keys and key.startswith("file:"):
            left_over[before["file_name"]].append(key)
    fresh: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in prepared:
        if row["source_key"] not in existing and row["source_key"].startswith("file:"):
            fresh[row["file_name"]].append(row)
    for name, rows in fresh.items():
        if len(rows) == 1 and len(left_over.get(name, ())) == 1:
            rows[0]["known_as"] = left_over[name][0]


def _ledger_row(
    key: str, species_before: str | None, before: str | None, species_after: str | None, after: str | None
) -> dict[str, Any]:
    return {
        "annotation_key": key,
        "species_before": species_before,
        "individual_before": before,
        "species_after": species_after,
        "individual_after": after,
    }


def _write_annotations(connection: Connection, new: list[dict[str, Any]], changed: list[dict[str, Any]]) -> None:
    table = schema.annotation_table
    if new:
        connection.execute(insert(table), new)
    if changed:
        fields = (*_KEPT_FIELDS, "source_key", "individual_id", "source_individual_id")
        connection.execute(
            update(table)
            .where(table.c.key == bindparam("annotation"))
            .values({field: bindparam(f"new_{field}") for field in fields}),
            [{f"new_{field}": row[field] for field in fields} | {"annotation": row["key"]} for row in changed],
        )
