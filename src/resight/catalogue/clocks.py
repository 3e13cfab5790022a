"""Cameras' clocks: the time of a photo is what its camera showed, plus what ``[clocks]`` in resight.toml says of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from sqlalchemy import Connection, bindparam, select, update

from resight.catalogue import schema
from resight.image_files import plausible_time

_SHOWN_CLOCKS = 5  # remedies that are spelt out; of the others there is a count
_ROWS_A_STATEMENT = 1000


@dataclass(frozen=True, slots=True)
class Clock:
    """The line of ``[clocks]`` that counts for a photo: its key there, and what is added."""

    name: str
    offset: timedelta


def clock_of(camera: str | None, path: str, clocks: Mapping[str, timedelta]) -> Clock | None:
    """The clock of a photo: its camera's, else that of the longest folder it lies in; ``None`` where none is told.

    Args:
        camera: Its name, as :class:`resight.images.ImageFacts` has it.
        path: Of the photo below its root, with ``/`` between its parts.
        clocks: Name of a camera, or path of a folder below the root → what is added to its time.
    """
    if not clocks:
        return None
    if camera is not None and camera in clocks:
        return Clock(camera, clocks[camera])
    folder = PurePosixPath(path).parent
    for above in (folder, *folder.parents):
        for name in (above.as_posix(), f"{above.as_posix()}/"):
            if name in clocks:
                return Clock(name, clocks[name])
    return None


def taken_at(camera_time: str | None, clock: Clock | None) -> str | None:
    """When a photo was taken, ISO 8601; ``None`` where the camera had no time, or one that cannot be right."""
    if camera_time is None:
        return None
    corrected = camera_time
    if clock is not None:
        try:
            corrected = (datetime.fromisoformat(camera_time) + clock.offset).isoformat()
        except OverflowError:
            return None
    return corrected if plausible_time(corrected) else None


def shown(offset: timedelta) -> str:
    """An offset as ``[clocks]`` has it: ``+01:00:00``."""
    seconds = round(abs(offset).total_seconds())
    sign = "-" if offset < timedelta(0) else "+"
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def apply_clocks(
    connection: Connection, source_id: int, clocks: Mapping[str, timedelta], *, frames_root: str | None = None
) -> int:
    """Set the time of every photo of a source anew, after clocks were changed; gives how many have another one now.

    Photos whose camera told no time keep the one they have: somebody stated it. Frames of videos are left alone, for
    their path does not tell the folder of the video.

    Args:
        connection: From :meth:`Database.writing`.
        source_id: The source's row.
        clocks: As in :func:`clock_of`.
        frames_root: The image root of frames of videos.
    """
    c = schema.images.c
    query = select(c.id, c.root, c.path, c.camera, c.camera_time, c.taken_at)
    query = query.where(c.source_id == source_id, c.camera_time.is_not(None))
    rows = connection.execute(query.execution_options(yield_per=_ROWS_A_STATEMENT))
    changed = []
    for row in rows:
        if row.root == frames_root:
            continue
        now = taken_at(row.camera_time, clock_of(row.camera, row.path, clocks))
        if now != row.taken_at:
            changed.append({"image": row.id, "time": now})
    statement = update(schema.images).where(c.id == bindparam("image")).values(taken_at=bindparam("time"))
    for start in range(0, len(changed), _ROWS_A_STATEMENT):
        connection.execute(statement, changed[start : start + _ROWS_A_STATEMENT])
    return len(changed)


@dataclass
class WrongClocks:
    """Photos whose time cannot be right, by whose clock it is."""

    photos: Counter[str]
    first: dict[str, str]
    last: dict[str, str]

    @classmethod
    def none_yet(cls) -> WrongClocks:
        """Nothing counted."""
        return cls(Counter(), {}, {})

    def count(self, camera: str | None, path: str, camera_time: str) -> None:
        """Count a photo; without a camera's name its folder stands for the clock."""
        name = PurePosixPath(path).parent.as_posix() if camera is None else camera
        self.photos[name] += 1
        self.first[name] = min(self.first.get(name, camera_time), camera_time)
        self.last[name] = max(self.last.get(name, camera_time), camera_time)

    def notes(self) -> Iterable[str]:
        """A line a clock, with the one that mends it."""
        worst = self.photos.most_common()
        for name, count in worst[:_SHOWN_CLOCKS]:
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            yield (
                f"{name}: {count:,} photos from {self.first[name]} to {self.last[name]}, a time that cannot be "
                f"right, so they have none; if you know when one was taken, write under [clocks] in resight.toml "
                f'"{quoted}" = {{ showed = "{self.first[name]}", was = "YYYY-MM-DDTHH:MM:SS" }} and import again'
            )
        if len(worst) > _SHOWN_CLOCKS:
            rest = sum(count for _, count in worst[_SHOWN_CLOCKS:])
            yield f"{rest:,} more photos of {len(worst) - _SHOWN_CLOCKS} more cameras or folders have no time either"
