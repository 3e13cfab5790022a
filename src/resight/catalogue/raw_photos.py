"""Raw photos from cards and cameras into the catalogue: by content, a block at a time, with nothing lost on the way.

Each block is one transaction, so an import that was interrupted goes on where it was. Photos are hashed and their
headers read, not decoded; a file whose end is missing is told by its marks and lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, bindparam, insert, select, update

from resight.catalogue import detecting, schema, videos
from resight.catalogue.card_files import list_files
from resight.catalogue.clocks import apply_clocks, clock_of, taken_at
from resight.catalogue.database import Database
from resight.catalogue.encounters import TimedPhoto, assign_encounters, encounter_id, encounter_keys
from resight.catalogue.intake import file_safe, keep_root, source_name, species_name, write_problems
from resight.catalogue.photo_blocks import Outcome, Row, Target, decide, known_images, known_paths, look, writes_of
from resight.catalogue.photo_tally import Camera, Tally
from resight.catalogue.sources import places
from resight.catalogue.sources.values import show
from resight.errors import InputError
from resight.parallel import parallel_map
from resight.progress import Bar, bar
from resight.settings import Settings
from resight.settings import read as read_settings
from resight.types import Problem

FORMAT = "photos"
BLOCK = 1000  # files a transaction
FRAMES_FOLDER = "frames"
_OWN_FOLDERS = ("chips", "embeddings", "runs", "reports", "attributes", FRAMES_FOLDER)
"""Folders of a project whose pictures were computed."""


@dataclass(frozen=True)
class PhotoOptions:
    """How to import raw photos.

    Attributes:
        species: Of every animal in them; ``None`` where the photos are not all of one.
        source: Name of the source; ``None`` takes the folder's.
        dry_run: Do everything but write.
        video_seconds: One frame of a video every so many seconds.
    """

    species: str | None = None
    source: str | None = None
    dry_run: bool = False
    video_seconds: float = 1.0


@dataclass(frozen=True)
class PhotoReport:
    """What an import of raw photos did, or would do.

    Every picture below the folder is in exactly one of added, updated, unchanged, moved, quarantined, copies and
    skipped; frames of videos are counted among the first three, a copy of a video in copies, and a video of which no
    frame can be had in skipped.

    Attributes:
        source: Name of the source.
        format: ``photos``.
        images: Photos that are in the catalogue now: added, updated, unchanged, moved and quarantined.
        annotations: None yet: nobody has looked for animals.
        individuals: None.
        encounters: Encounters of the source's photos by the rule, and its videos.
        species: 1 where the user named one.
        added: New photos.
        updated: Known photos of which something changed: their content, their species, or they can be read at last.
        unchanged: Photos that were there as they are.
        moved: Known photos that have gone from where they were and lie here now.
        copies: Files with the content of another photo or video of the catalogue; they add nothing.
        quarantined: Photos that cannot be used; they are in the catalogue and tried again at the next import.
        skipped: Files that the catalogue does not have as they are now; see the problems.
        videos: Video files.
        frames: Frames taken from them, now or before.
        problems: Everything wrong, file by file.
        problems_file: The same as CSV, where there are any.
        cameras: The cameras, the one with most photos first.
        notes: Lines for the user.
        dry_run: Whether nothing was written.
    """

    source: str
    format: str
    images: int
    annotations: int
    individuals: int
    encounters: int
    species: int
    added: int
    updated: int
    unchanged: int
    moved: int
    copies: int
    quarantined: int
    skipped: int
    videos: int
    frames: int
    problems: tuple[Problem, ...]
    problems_file: str | None
    cameras: tuple[Camera, ...]
    notes: tuple[str, ...]
    dry_run: bool


def import_photos(
    path: Path, *, database: Database, settings: Settings, options: PhotoOptions, reports_folder: Path
) -> PhotoReport:
    """Import the photos and videos below a folder.

    A photo is known by its content: a copy of one that is in the catalogue adds nothing, whatever its name, and one
    whose file has gone from its place is moved to where it lies now. A file of known size and time at a known path is
    not read again. Copies are read each time, for the catalogue does not keep their places.

    Args:
        path: The folder, such as a card, or a copy of it.
        database: The catalogue.
        settings: The project's: clocks, the rule of encounters, image roots.
        options: How.
        reports_folder: Where the CSV of problems goes.

    Raises:
        InputError: there is no such folder, or no photo below it.
    """
    if not path.is_dir():
        found = "not a folder" if path.exists() else "no such folder"
        raise InputError(f"{path}: {found}; expected a folder of photos, such as a camera's card")
    folder = path.resolve()
    species = None if options.species is None else species_name(options.species)
    source = source_name(_name_of(folder) if options.source is None else options.source)
    files = list_files(folder, own=[settings.folder / name for name in _OWN_FOLDERS])
    if not (files.pictures or files.videos):
        why = "; ".join((*(f"{one.value}: {one.problem}" for one in files.problems[:1]), *files.notes()))
        raise InputError(f"{path}: no photos below it" + (f" ({why})" if why else "; name the folder that has them"))
    lacking = videos.lacking_library() if files.videos else None
    if lacking is not None and not files.pictures:
        raise InputError(f"{path}: {lacking}")
    with database.reading() as connection:
        sources = schema.sources.c
        known = connection.execute(select(sources.id).where(sources.name == source)).scalar()
        root = _root_of(connection, settings, source, folder)
    target = Target(known or 0, root, species, {**settings.image_roots, root: folder}, settings.clocks)
    job = _Job(folder, source, target, database, settings, options)
    tally = Tally(problems=list(files.problems))
    tally.kinds["skipped"] += sum(problem.field == "file" for problem in files.problems)
    with bar("photos", len(files.pictures)) as progress:
        for start in range(0, len(files.pictures), BLOCK):
            _import_block(job, files.pictures[start : start + BLOCK], tally, progress)
    with bar("videos", len(files.videos)) as progress:
        for video in files.videos:
            if lacking is None:
                _import_video(job, video, tally)
            else:
                tally.refuse_video(video, lacking)
            progress.advance()
    encounters = _planned_encounters(job) if options.dry_run else _settle(job, tally)
    counts = tally.kinds
    problems_file = reports_folder / f"import-{file_safe(source)}-problems.csv"
    return PhotoReport(
        source=source,
        format=FORMAT,
        images=sum(counts[kind] for kind in ("added", "updated", "unchanged", "moved", "quarantined")),
        annotations=0,
        individuals=0,
        encounters=encounters,
        species=int(species is not None),
        added=counts["added"],
        updated=counts["updated"],
        unchanged=counts["unchanged"],
        moved=counts["moved"],
        copies=counts["copy"],
        quarantined=counts["quarantined"],
        skipped=counts["skipped"],
        videos=len(files.videos),
        frames=tally.frames,
        problems=tuple(tally.problems),
        problems_file=write_problems(tally.problems, problems_file),
        cameras=tally.cameras(),
        notes=(*files.notes(), *tally.notes(), *_species_not_taken(species, counts["copy"])),
        dry_run=options.dry_run,
    )


def _species_not_taken(species: str | None, copies: int) -> Iterable[str]:
    if species is not None and copies:
        yield (
            f"--species {species} was not taken over for the {copies:,} copies; import those photos from where they lie"
        )


@dataclass(frozen=True)
class _Job:
    """What the steps of one import share; ``planned`` and ``timed`` are what a dry run would have written."""

    folder: Path
    source: str
    target: Target
    database: Database
    settings: Settings
    options: PhotoOptions
    planned: dict[str, Row] = field(default_factory=dict)  # content → image
    timed: list[TimedPhoto] = field(default_factory=list)
    videos: set[str] = field(default_factory=set)  # hashes of those that were met


def _import_block(job: _Job, paths: Sequence[str], tally: Tally, progress: Bar) -> None:
    """Look at a block of files and write what is new, in one transaction."""
    target = job.target
    with job.database.reading() as connection:
        before = known_paths(connection, target.root, paths)
    looks = []
    for seen in parallel_map(lambda path: look(job.folder, path, before.get(path)), paths, label="photos"):
        looks.append(seen)
        progress.advance()
    with job.database.reading() as connection:
        known = known_images(connection, target.root, looks, job.planned)
        outcomes = decide(looks, known, target)
        is_news = not writes_of(outcomes, known).is_empty
    if job.options.dry_run:
        _plan(job, outcomes)
    elif is_news:
        with job.database.writing() as (connection, _):
            # Decided anew, for another process may have written meanwhile.
            here = replace(target, source_id=_upsert_source(connection, job.source, job.folder))
            known = known_images(connection, target.root, looks, {})
            outcomes = decide(looks, known, here)
            writes_of(outcomes, known).apply(connection)
            keep_root(job.settings, target.root, job.folder)
    for outcome in outcomes:
        tally.count(outcome, target.clocks)


def _plan(job: _Job, outcomes: Iterable[Outcome]) -> None:
    """Remember what a dry run would have written."""
    for outcome in outcomes:
        row = outcome.row
        if outcome.kind in ("copy", "skipped"):
            continue
        if row["content_hash"] is not None and outcome.kind != "unchanged":
            job.planned[row["content_hash"]] = row
        made_up = -1 - len(job.timed)
        time = row["taken_at"]
        if row["camera_time"] is not None:
            time = taken_at(row["camera_time"], clock_of(row["camera"], row["path"], job.target.clocks))
        job.timed.append(TimedPhoto(row.get("id", made_up), row["root"], row["path"], row["camera"], time))


def _planned_encounters(job: _Job) -> int:
    """How many encounters the source would have after a dry run; those of new videos are not counted."""
    c = schema.images.c
    frames_root = _frames_root(job.settings)
    mine = {photo.image_id for photo in job.timed}
    with job.database.reading() as connection:
        query = select(c.id, c.root, c.path, c.camera, c.taken_at, c.encounter_id)
        rows = connection.execute(query.where(c.source_id == job.target.source_id)).all()
    others = [
        TimedPhoto(row.id, row.root, row.path, row.camera, row.taken_at)
        for row in rows
        if row.id not in mine and row.root != frames_root
    ]
    keys = encounter_keys([*others, *job.timed], job.settings.encounter_rule, job.source)
    return len(set(keys.values())) + len({row.encounter_id for row in rows if row.root == frames_root})


def _settle(job: _Job, tally: Tally) -> int:
    """Set times, encounters and species of the whole source, as they were said; gives how many encounters it has."""
    frames_root = _frames_root(job.settings)
    sources, state = schema.sources.c, schema.state
    with job.database.writing(raises_revision=False) as (connection, _):
        source_id = connection.execute(select(sources.id).where(sources.name == job.source)).scalar()
        if source_id is None:  # every file is a copy, or known from another source
            return 0
        timed = apply_clocks(connection, source_id, job.target.clocks, frames_root=frames_root)
        assigned = assign_encounters(connection, source_id, job.settings.encounter_rule, frames_root=frames_root)
        named = detecting.take_species(connection, job.settings, source_id)
        if timed or assigned.changed or named:
            connection.execute(update(state).values(revision=state.c.revision + 1))
    tally.timed += timed
    tally.named += named
    return assigned.encounters


def _import_video(job: _Job, path: str, tally: Tally) -> None:
    """Take the frames of a video, unless they were taken before, and write them in one transaction."""
    file = job.folder / path
    try:
        video_hash = videos.hash_of(file)
    except OSError as error:
        tally.refuse_video(path, f"cannot be read ({error.strerror}); see to its permissions or drive")
        return
    known = _known_frames(job, video_hash)
    mine = all(row["source_id"] == job.target.source_id for row in known)
    if video_hash in job.videos or (known and not mine):
        tally.kinds["copy"] += 1
        return
    job.videos.add(video_hash)
    if known:
        tally.known_videos += 1
        is_named = job.target.species not in (None, *(row["species"] for row in known))
        _count_frames(job, known, path, "updated" if is_named else "unchanged", tally)
        tally.timed += _renew_frames(job, known, path)
        return
    if job.options.dry_run:
        tally.unseen_videos += 1
        return
    frames_folder = job.settings.folder / FRAMES_FOLDER
    found = videos.take_frames(file, video_hash, frames_folder, job.options.video_seconds)
    if not found.frames:
        tally.refuse_video(path, found.problem or "holds no frames")
        return
    if found.problem is not None:
        tally.problems.append(Problem(show(path), "video", show(path), found.problem, "quarantined"))
    root = _frames_root(job.settings) or _free_root(FRAMES_FOLDER, job.settings, ())
    clock = clock_of(found.camera, path, job.target.clocks)
    with job.database.writing() as (connection, _):
        source_id = _upsert_source(connection, job.source, job.folder)
        key = f"video:{Path(path).name}@{videos.folder_name(video_hash)}"
        encounter = encounter_id(connection, source_id, key)
        rows = [
            {
                "root": root,
                "path": frame.path,
                "status": "ok",
                "content_hash": frame.content_hash,
                "byte_size": frame.byte_size,
                "modified_ns": frame.modified_ns,
                "width": frame.width,
                "height": frame.height,
                "source_id": source_id,
                "camera": found.camera,
                "camera_time": frame.camera_time,
                "taken_at": taken_at(frame.camera_time, clock),
                "encounter_id": encounter,
                "species": job.target.species,
            }
            for frame in found.frames
        ]
        connection.execute(insert(schema.images), rows)
        keep_root(job.settings, root, frames_folder)
    _count_frames(job, rows, path, "added", tally)


def _count_frames(job: _Job, rows: Sequence[Row], video: str, kind: str, tally: Tally) -> None:
    tally.frames += len(rows)
    tally.kinds[kind] += len(rows)
    for row in rows:
        tally.count_camera(row, video, job.target.clocks)


def _known_frames(job: _Job, video_hash: str) -> list[Row]:
    """The frames of a video that the catalogue has; the folder they lie in bears the video's hash."""
    root, c = _frames_root(job.settings), schema.images.c
    if root is None:
        return []
    below = c.path.startswith(f"{videos.folder_name(video_hash)}/", autoescape=True)
    with job.database.reading() as connection:
        query = select(schema.images).where(c.root == root, below).order_by(c.path)
        return [dict(row) for row in connection.execute(query).mappings()]


def _renew_frames(job: _Job, frames: Iterable[Row], video: str) -> int:
    """Set times and species of known frames as they are said now; gives how many have another time."""
    changed, timed = [], 0
    for row in frames:
        now = taken_at(row["camera_time"], clock_of(row["camera"], video, job.target.clocks))
        species = job.target.species or row["species"]
        timed += now != row["taken_at"]
        if (now, species) != (row["taken_at"], row["species"]):
            changed.append({"image": row["id"], "time": now, "named": species})
    if job.options.dry_run or not changed:
        return 0
    statement = update(schema.images).where(schema.images.c.id == bindparam("image"))
    with job.database.writing() as (connection, _):
        connection.execute(statement.values(taken_at=bindparam("time"), species=bindparam("named")), changed)
    return timed


def _name_of(folder: Path) -> str:
    """The name of a source: that of the card, not of the folder that every card has."""
    has_name_above = folder.name.casefold() == "dcim" and folder.parent.name
    return places.source_name(folder.parent if has_name_above else folder)


def _root_of(connection: Connection, settings: Settings, source: str, folder: Path) -> str:
    """The image root of a folder: the one that is there, else a new one.

    Never one whose folder has gone: two cards have photos of the same names, and one that has moved is known again by
    its content.
    """
    for name, known in settings.image_roots.items():
        if known == folder:
            return name
    used = connection.execute(select(schema.images.c.root).distinct()).scalars()
    return _free_root(source, settings, used)


def _free_root(wanted: str, settings: Settings, used: Iterable[str]) -> str:
    taken = {*settings.image_roots, *used}
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


def _frames_root(settings: Settings) -> str | None:
    """The image root of this project's frames of videos, where there is one."""
    folder = (settings.folder / FRAMES_FOLDER).resolve()
    now = read_settings(settings.folder).image_roots  # it may have been made by this import
    return next((name for name, known in now.items() if known == folder), None)


def _upsert_source(connection: Connection, name: str, folder: Path) -> int:
    """The source's row; one that is there keeps its format, for its annotations may come from a file."""
    table = schema.sources
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    found = connection.execute(select(table.c.id, table.c.format).where(table.c.name == name)).first()
    if found is None:
        values = {"name": name, "format": FORMAT, "path": str(folder), "imported_at_utc": moment}
        connection.execute(insert(table).values(**values))
        return int(connection.execute(select(table.c.id).where(table.c.name == name)).scalar_one())
    values = {"imported_at_utc": moment} | ({"path": str(folder)} if found.format == FORMAT else {})
    connection.execute(update(table).where(table.c.id == found.id).values(**values))
    return int(found.id)
