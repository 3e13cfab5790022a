"""Which raw photos were taken in one encounter: those of one folder or camera that follow each other closely."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from sqlalchemy import Connection, and_, bindparam, delete, insert, select, update

from resight.catalogue import schema
from resight.settings import EncounterRule

_ROWS_A_STATEMENT = 1000
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class TimedPhoto:
    """What the rule looks at.

    Attributes:
        image_id: Key of the image.
        root: Name of its image root.
        path: Its path below the root, with ``/`` between its parts.
        camera: The camera's name, ``None`` where it is not known.
        taken_at: ISO 8601; a photo that has none, or a day without a time, is in no encounter.
    """

    image_id: int
    root: str
    path: str
    camera: str | None
    taken_at: str | None


@dataclass(frozen=True)
class Assigned:
    """How many encounters the photos of a source have, and how many photos are in another one than before."""

    encounters: int
    changed: int


def encounter_keys(photos: Iterable[TimedPhoto], rule: EncounterRule, source: str) -> dict[int, str]:
    """image_id → key of its encounter, for the photos of one source that have a time.

    Photos of one folder (or camera) in the order of their time are one encounter as long as none follows later than
    ``within_minutes`` after the one before. The key is the folder or camera and the time of the first photo, so it
    stays the same as long as that photo does. Photos that name no camera are taken by folder under either rule.

    Args:
        photos: In any order.
        rule: ``[encounters]`` of resight.toml.
        source: Name of the source; a folder below another image root than that of this name is told by its root too.
    """
    groups: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for photo in photos:
        moment = _moment(photo.taken_at)
        if moment is not None:
            groups[_group(photo, rule, source)].append((moment, photo.image_id))
    keys: dict[int, str] = {}
    for group, members in groups.items():
        members.sort()
        before, key = float("-inf"), ""
        for moment, image_id in members:
            if moment - before > rule.within_minutes * 60:
                key = f"{group}@{(_EPOCH + timedelta(seconds=moment)).isoformat()}"
            keys[image_id] = key
            before = moment
    return keys


def _moment(taken_at: str | None) -> float | None:
    """Seconds since some moment, without regard to time zones; ``None`` where the time of day is not known."""
    if taken_at is None or len(taken_at) <= len("2024-05-01"):
        return None
    try:
        return (datetime.fromisoformat(taken_at).replace(tzinfo=None) - _EPOCH).total_seconds()
    except ValueError:
        return None


def _group(photo: TimedPhoto, rule: EncounterRule, source: str) -> str:
    if rule.same == "camera" and photo.camera is not None:
        return photo.camera
    folder = PurePosixPath(photo.path).parent.as_posix()
    return folder if photo.root == source else f"{photo.root}:{folder}"


def assign_encounters(
    connection: Connection, source_id: int, rule: EncounterRule, *, frames_root: str | None = None
) -> Assigned:
    """Put every photo of a source into its encounter by the rule.

    Encounters of which nothing is left are removed.

    Args:
        connection: From :meth:`Database.writing`.
        source_id: The source's row.
        rule: ``[encounters]`` of resight.toml.
        frames_root: The image root of frames of videos, whose encounter is their video.
    """
    i, e = schema.images.c, schema.encounters.c
    source = connection.execute(select(schema.sources.c.name).where(schema.sources.c.id == source_id)).scalar_one()
    now: dict[int, int | None] = {}

    def photos() -> Iterator[TimedPhoto]:
        query = select(i.id, i.root, i.path, i.camera, i.taken_at, i.encounter_id).where(i.source_id == source_id)
        for row in connection.execute(query.execution_options(yield_per=_ROWS_A_STATEMENT)):
            if row.root != frames_root:
                now[row.id] = row.encounter_id
                yield TimedPhoto(row.id, row.root, row.path, row.camera, row.taken_at)

    keys = encounter_keys(photos(), rule, source)
    ids = _ids_of(connection, source_id, set(keys.values()))
    after = {image_id: ids[keys[image_id]] if image_id in keys else None for image_id in now}
    changed = [image_id for image_id, encounter in after.items() if encounter != now[image_id]]
    statement = update(schema.images).where(i.id == bindparam("image")).values(encounter_id=bindparam("encounter"))
    for start in range(0, len(changed), _ROWS_A_STATEMENT):
        block = changed[start : start + _ROWS_A_STATEMENT]
        connection.execute(statement, [{"image": image_id, "encounter": after[image_id]} for image_id in block])
    if changed:
        a = schema.annotation_table.c
        in_use = (select(column).where(column.is_not(None)) for column in (i.encounter_id, a.encounter_id))
        unused = and_(*(e.id.not_in(query) for query in in_use))
        connection.execute(delete(schema.encounters).where(e.source_id == source_id, unused))
    found = len(set(keys.values())) + len(_of_videos(connection, source_id, frames_root))
    return Assigned(found, len(changed))


def encounter_id(connection: Connection, source_id: int, key: str) -> int:
    """The row of an encounter, made where it is new."""
    return _ids_of(connection, source_id, {key})[key]


def _ids_of(connection: Connection, source_id: int, keys: set[str]) -> Mapping[str, int]:
    e = schema.encounters.c

    def known() -> dict[str, int]:
        return {row.key: row.id for row in connection.execute(select(e.id, e.key).where(e.source_id == source_id))}

    found = known()
    missing = sorted(keys - found.keys())
    if not missing:
        return found
    connection.execute(insert(schema.encounters), [{"source_id": source_id, "key": key} for key in missing])
    return known()


def _of_videos(connection: Connection, source_id: int, frames_root: str | None) -> set[int]:
    i = schema.images.c
    if frames_root is None:
        return set()
    query = select(i.encounter_id).distinct()
    return set(connection.execute(query.where(i.source_id == source_id, i.root == frames_root)).scalars())
