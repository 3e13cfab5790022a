"""What becomes of each file of a block of raw photos: new, known, a copy, moved, changed, or not to be used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, bindparam, insert, select, update

from resight.artefacts import content_hash
from resight.catalogue import schema
from resight.catalogue.clocks import clock_of, taken_at
from resight.errors import ImageError, ImageUnreadable
from resight.image_files import is_cut_short
from resight.images import ImageFacts, inspect, read_facts, read_file

Kind = Literal["added", "updated", "unchanged", "moved", "copy", "quarantined", "skipped"]
Row = Mapping[str, Any]
"""A row of the table ``images``."""

_KEYS_A_QUERY = 500  # below every database's limit on the values of one query
_NEW_ROW: Row = {column.name: None for column in schema.images.c if column.name != "id"}


@dataclass(frozen=True, slots=True)
class Look:
    """What looking at one file told.

    Attributes:
        path: Below the image root, with ``/`` between its parts.
        problem: Why the photo cannot be used; ``None`` where it can.
        content_hash: SHA-256; ``None`` where the file was not read, or could not be.
        byte_size: Of the file, where it could be asked.
        modified_ns: When it was last written.
        facts: What its header tells, where it can be used.
        decoded: Whether its pixels were seen to be there.
    """

    path: str
    problem: str | None = None
    content_hash: str | None = None
    byte_size: int | None = None
    modified_ns: int | None = None
    facts: ImageFacts | None = None
    decoded: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one file.

    Attributes:
        kind: ``skipped`` is a file that is not in the catalogue as it is now.
        path: Below the image root.
        row: The image as the catalogue has it from now on; of a copy the one that it is a copy of.
        problem: What is wrong, or ``None``.
        at_zero: Whether the file places itself at 0 N 0 E.
        replaces: Whether it stands in the place of another picture, of which nothing is left.
    """

    kind: Kind
    path: str
    row: Row
    problem: str | None = None
    at_zero: bool = False
    replaces: bool = False


@dataclass(frozen=True)
class Target:
    """Where the photos of an import go.

    Attributes:
        source_id: The source's row.
        root: Name of the image root.
        species: Of every animal in them, where the user said so.
        roots: Name → folder of every image root, this one among them.
        clocks: See :func:`resight.catalogue.clocks.clock_of`.
    """

    source_id: int
    root: str
    species: str | None
    roots: Mapping[str, Path]
    clocks: Mapping[str, timedelta]


@dataclass(frozen=True)
class Known:
    """The images of the catalogue that a block of files may be.

    Attributes:
        at_path: Path below the root → its image.
        by_content: SHA-256 → all images of that content.
        annotated: Keys of those with an animal.
        by_id: Key → image, of all of these, as the catalogue has it.
    """

    at_path: Mapping[str, Row]
    by_content: dict[str, list[Row]]
    annotated: frozenset[int]
    by_id: Mapping[int, Row]


def known_paths(connection: Connection, root: str, paths: Sequence[str]) -> dict[str, Row]:
    """Path → image, of those paths below a root that the catalogue has."""
    c = schema.images.c
    return {row["path"]: row for row in _images(connection, c.path, paths, c.root == root)}


def known_images(connection: Connection, root: str, looks: Sequence[Look], more: Mapping[str, Row]) -> Known:
    """What the catalogue has at these paths and of these contents.

    Args:
        connection: A connection to the catalogue.
        root: Name of the image root.
        looks: The block.
        more: SHA-256 → image, of what a dry run would have written before.
    """
    hashes = sorted({look.content_hash for look in looks if look.content_hash is not None})
    by_content: dict[str, list[Row]] = defaultdict(list)
    for row in _images(connection, schema.images.c.content_hash, hashes):
        by_content[row["content_hash"]].append(row)
    at_path = known_paths(connection, root, [look.path for look in looks])
    by_id = {row["id"]: row for rows in (*by_content.values(), at_path.values()) for row in rows}
    for found in hashes:
        if found in more:
            by_content[found].append(more[found])
    a = schema.annotation_table.c
    ids = [row["id"] for row in at_path.values()]
    annotated: set[int] = set()
    for start in range(0, len(ids), _KEYS_A_QUERY):
        query = select(a.image_id).distinct().where(a.image_id.in_(ids[start : start + _KEYS_A_QUERY]))
        annotated.update(connection.execute(query).scalars())
    return Known(at_path, by_content, frozenset(annotated), by_id)


def _images(connection: Connection, column: Any, values: Sequence[str], *more: ColumnElement[bool]) -> Iterable[Row]:
    for start in range(0, len(values), _KEYS_A_QUERY):
        query = select(schema.images).where(column.in_(values[start : start + _KEYS_A_QUERY]), *more)
        for row in connection.execute(query.order_by(schema.images.c.id)).mappings():
            yield dict(row)


def look(folder: Path, path: str, known: Row | None) -> Look:
    """Look at a file: nothing is read where the catalogue has it with the same size and time.

    Its pixels are decoded only where it seems to be cut short.

    Args:
        folder: The image root.
        path: Below it.
        known: The image that the catalogue has at this path.
    """
    file = folder / path
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Look(path, f"cannot be reached ({reason}); see to its permissions or drive")
    size, modified = status.st_size, status.st_mtime_ns
    usable = known is not None and known["status"] != "quarantined" and known["content_hash"] is not None
    if known is not None and usable and (size, modified) == (known["byte_size"], known["modified_ns"]):
        return Look(path, None, known["content_hash"], size, modified)
    try:
        content = read_file(file)
    except ImageError as error:  # not to be reached, empty, or gone meanwhile
        return Look(path, str(error).removeprefix(f"{file}: "), None, size, modified)
    cut_short = is_cut_short(content)
    try:
        facts = inspect(content, path) if cut_short else read_facts(content, path)
    except ImageUnreadable as error:
        reason = str(error).removeprefix(f"{path}: ")
        if cut_short:
            reason = "cut short: the end of the file is missing; copy it from the card anew"
        return Look(path, reason, content_hash(content), size, modified)
    return Look(path, None, facts.content_hash, len(content), modified, facts, decoded=cut_short)


def decide(looks: Iterable[Look], known: Known, target: Target) -> list[Outcome]:
    """What becomes of each file of a block; nothing is written."""
    outcomes = []
    for seen in looks:
        row = known.at_path.get(seen.path)
        if row is not None:
            outcome = _at_known_path(seen, row, known, target)
        elif seen.content_hash is None:
            outcome = Outcome("quarantined", seen.path, _new(seen, target), seen.problem)
        else:
            outcome = _at_new_path(seen, known.by_content[seen.content_hash], target)
        _note(outcome, known)
        outcomes.append(outcome)
    return outcomes


def _note(outcome: Outcome, known: Known) -> None:
    """Where contents lie from now on, for the copies of them further on in the block."""
    if outcome.kind in ("copy", "skipped", "unchanged"):
        return
    before = known.at_path.get(outcome.path)
    if before is not None and before["content_hash"] is not None:
        left = known.by_content.get(before["content_hash"], [])
        known.by_content[before["content_hash"]] = [row for row in left if not _is_same(row, before)]
    content = outcome.row["content_hash"]
    if content is not None:
        left = known.by_content.get(content, [])
        known.by_content[content] = [outcome.row, *(row for row in left if row.get("id", 0) != outcome.row.get("id"))]


def _at_known_path(seen: Look, row: Row, known: Known, target: Target) -> Outcome:
    if seen.content_hash is None:
        if row["content_hash"] is None:
            now = {**row, "status": "quarantined", "problem": seen.problem}
            return Outcome("quarantined", seen.path, now, seen.problem)
        return Outcome("skipped", seen.path, row, f"{seen.problem}; the catalogue keeps what it knows of the photo")
    if row["content_hash"] in (None, seen.content_hash):
        return _same_photo(seen, row, target)
    if seen.problem is not None and row["status"] != "quarantined":
        return Outcome("skipped", seen.path, row, f"{seen.problem}; it was a good photo when it was imported")
    why = "animals" if row["id"] in known.annotated else "another camera or time" if _is_other(seen, row) else None
    if why is not None:
        problem = (
            f"another photo than the one of this name in the catalogue, which has {why}; put that one back, or copy "
            "the new one into a folder of its own and import that"
        )
        return Outcome("skipped", seen.path, row, problem)
    others = [other for other in known.by_content.get(seen.content_hash, ()) if not _is_same(other, row)]
    if others:
        other = f"{others[0]['root']}/{others[0]['path']}"
        problem = f"holds the photo known as {other} now, and the one of this name has gone; put that one back"
        return Outcome("skipped", seen.path, row, problem)
    now = {**_new(seen, target), "id": row["id"], "source_id": row["source_id"]}
    replaces = seen.problem is None and row["status"] != "quarantined"
    kind: Kind = "updated" if seen.problem is None else "quarantined"
    return Outcome(kind, seen.path, now, seen.problem, _at_zero(seen), replaces)


def _is_other(seen: Look, row: Row) -> bool:
    """Whether a file was surely taken otherwise than the photo known by its name: a card that took another's place.

    A photo that was edited where it lies keeps its camera and time.
    """
    facts = seen.facts
    if facts is None or facts.taken_at is None or row["camera_time"] is None:
        return False
    return (facts.camera, facts.taken_at) != (row["camera"], row["camera_time"])


def _same_photo(seen: Look, row: Row, target: Target) -> Outcome:
    """The photo that the catalogue has here, perhaps written anew, or readable at last."""
    now = dict(row)
    is_raw = row["source_id"] is not None  # else a file of annotations has brought it, and states what it knows
    if seen.facts is not None or seen.problem is not None:
        fresh = _new(seen, target)
        now |= {name: fresh[name] for name in ("content_hash", "byte_size", "modified_ns", "status", "problem")}
        if seen.problem is None:
            was_decoded = row["status"] == "ok" and row["content_hash"] is not None
            now["status"] = "ok" if was_decoded else fresh["status"]
            now |= {name: fresh[name] for name in ("width", "height")}
            now |= {name: fresh[name] for name in ("taken_at", "latitude", "longitude") if row[name] is None}
            if is_raw:
                now |= {name: fresh[name] for name in ("camera", "camera_time")}
                if row["camera_time"] is not None:  # else somebody has stated when it was taken
                    now["taken_at"] = fresh["taken_at"]
    if target.species is not None and is_raw:
        now["species"] = target.species
    if seen.problem is not None:
        return Outcome("quarantined", seen.path, now, seen.problem)
    touched = ("byte_size", "modified_ns", "taken_at", "status")
    is_new = row["status"] == "quarantined" or any(now[name] != row[name] for name in row if name not in touched)
    return Outcome("updated" if is_new else "unchanged", seen.path, now, None, _at_zero(seen))


def _at_new_path(seen: Look, others: Sequence[Row], target: Target) -> Outcome:
    if not others:
        kind: Kind = "added" if seen.problem is None else "quarantined"
        return Outcome(kind, seen.path, _new(seen, target), seen.problem, _at_zero(seen))
    for other in others:
        if not _is_gone(other, target):
            return Outcome("copy", seen.path, other)
    place = {"root": target.root, "path": seen.path, "byte_size": seen.byte_size, "modified_ns": seen.modified_ns}
    moved = {**others[0], **place}
    return Outcome("moved" if seen.problem is None else "quarantined", seen.path, moved, seen.problem)


def _is_gone(row: Row, target: Target) -> bool:
    """Whether a known photo is surely not where the catalogue says."""
    folder = target.roots.get(row["root"])
    if folder is None:
        return True
    try:
        return bool((folder / row["path"]).stat().st_size != row["byte_size"])
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False  # a drive that does not answer is no reason to give the place up


def _is_same(one: Row, other: Row) -> bool:
    return (one["root"], one["path"]) == (other["root"], other["path"])


def _at_zero(seen: Look) -> bool:
    return seen.facts is not None and seen.facts.at_zero


def _new(seen: Look, target: Target) -> Row:
    """An image as it would be inserted."""
    row = {
        **_NEW_ROW,
        "root": target.root,
        "path": seen.path,
        "status": "quarantined" if seen.problem is not None else "ok" if seen.decoded else "unverified",
        "problem": seen.problem,
        "content_hash": seen.content_hash,
        "byte_size": seen.byte_size,
        "modified_ns": seen.modified_ns,
        "source_id": target.source_id,
        "species": target.species,
    }
    facts = seen.facts
    if facts is not None:
        row |= {
            "width": facts.width,
            "height": facts.height,
            "latitude": facts.latitude,
            "longitude": facts.longitude,
            "camera": facts.camera,
            "camera_time": facts.taken_at,
            "taken_at": taken_at(facts.taken_at, clock_of(facts.camera, seen.path, target.clocks)),
        }
    return row


def writes_of(outcomes: Iterable[Outcome], known: Known) -> Writes:
    """What is to be written."""
    writes = Writes([], [])
    for outcome in outcomes:
        if outcome.kind in ("copy", "skipped"):
            continue
        if "id" not in outcome.row:
            writes.new.append(outcome.row)
        elif dict(outcome.row) != dict(known.by_id.get(outcome.row["id"], {})):
            writes.changed.append(outcome.row)
    return writes


@dataclass(frozen=True)
class Writes:
    """The rows that a block adds and changes."""

    new: list[Row]
    changed: list[Row]

    @property
    def is_empty(self) -> bool:
        """Whether the block tells nothing new."""
        return not (self.new or self.changed)

    def apply(self, connection: Connection) -> None:
        """Write them."""
        table = schema.images
        if self.new:
            connection.execute(insert(table), [dict(row) for row in self.new])
        if self.changed:
            values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _NEW_ROW}
            statement = update(table).where(table.c.id == bindparam("image")).values(values)
            rows = [{f"new_{name}": row[name] for name in _NEW_ROW} | {"image": row["id"]} for row in self.changed]
            connection.execute(statement, rows)
