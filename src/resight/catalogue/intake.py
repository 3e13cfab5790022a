"""Importing a dataset from start to finish: read, check, refuse whole or write whole, and report.

Nothing is written unless every row is good (or the bad ones were asked to be left out); a dry run does all of it in a
transaction that is rolled back.
"""

from __future__ import annotations

import getpass
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select

from resight.artefacts import write_csv
from resight.catalogue import schema, sources, store
from resight.catalogue.adopting import adopt
from resight.catalogue.checking import CheckedImage, check_images
from resight.catalogue.database import Database
from resight.catalogue.encounters import assign_encounters
from resight.catalogue.importing import Applied, Change, apply_import, source_key, unmapped_viewpoints
from resight.catalogue.policy import describe
from resight.catalogue.sources.values import Bad, parse_text
from resight.errors import ImportRefused, InputError, ResightError
from resight.progress import bar
from resight.settings import SIDES, Settings, add_image_root
from resight.settings import read as read_settings
from resight.types import Annotation, Problem, Record

MAX_SOURCE_NAME = 120
UNNAMED_FORMATS = frozenset({"megadetector"})
"""Formats whose annotations need no species: a detector finds animals and often cannot name them."""


@dataclass(frozen=True)
class ImportOptions:
    """How to import.

    Attributes:
        format: One of the formats, or ``auto``.
        images: The folder that file names are below; ``None`` looks beside the annotation file.
        species: The species of every row that names none.
        source: Name of the source; ``None`` takes the file's or folder's.
        dry_run: Do everything but write.
        skip_bad: Leave bad rows out, listed, instead of refusing the whole.
        verify_images: Decode every picture; otherwise nothing but the annotation file is looked at.
    """

    format: str = "auto"
    images: Path | None = None
    species: str | None = None
    source: str | None = None
    dry_run: bool = False
    skip_bad: bool = False
    verify_images: bool = True


@dataclass(frozen=True)
class ImportReport:
    """What an import did, or would do.

    Attributes:
        source: Name of the source.
        format: What it was read as.
        images: Pictures of the dataset.
        annotations: Its annotations, without those left out.
        individuals: Known individuals among them.
        encounters: Encounters, an annotation without a known one counting as its own.
        encounters_unknown: How many annotations stand in as their own encounter.
        species: How many species it has.
        policies: Species → its viewpoint policy now.
        added: Annotations that were new.
        updated: Annotations of which the file said something new.
        unchanged: Annotations that were there as they are.
        absent: Annotations of this source that the file no longer has; they are kept.
        skipped: Rows left out for their problems.
        quarantined: Pictures that cannot be used.
        problems: Everything wrong, row by row.
        problems_file: The same as CSV, where there are any.
        changes: Every value that an update changed.
        unmapped_viewpoints: Spelling → annotations whose viewpoint is kept as unknown.
        notes: Lines for the user.
        dry_run: Whether nothing was written.
        refused: Whether the dataset was refused.
    """

    source: str
    format: str
    images: int
    annotations: int
    individuals: int
    encounters: int
    encounters_unknown: int
    species: int
    policies: Mapping[str, str]
    added: int
    updated: int
    unchanged: int
    absent: int
    skipped: int
    quarantined: int
    problems: tuple[Problem, ...]
    problems_file: str | None
    changes: tuple[Change, ...]
    unmapped_viewpoints: Mapping[str, int]
    notes: tuple[str, ...]
    dry_run: bool
    refused: bool


class _RolledBack(Exception):
    """Ends the transaction of a dry run."""


def import_dataset(
    found: sources.Found, *, database: Database, settings: Settings, options: ImportOptions, reports_folder: Path
) -> ImportReport:
    """Import a dataset, or refuse it whole.

    Args:
        found: The annotation file or folder, and as what it is read: from :func:`sources.find`.
        database: The catalogue.
        settings: The project's.
        options: How.
        reports_folder: Where the CSV of problems goes.

    Raises:
        ImportRefused: bad rows, or no good one; the error carries the report.
        InputError: the path cannot be read as the format at all, or is another dataset under a known source's name.
    """
    species = None if options.species is None else species_name(options.species)
    path = found.path
    parsed = sources.read_found(found, images=options.images)
    source = source_name(parsed.source_name if options.source is None else options.source)
    records, species_problems = _with_species(parsed.records, species, needed=parsed.format not in UNNAMED_FORMATS)
    root = _root_name(settings, source, parsed.images_dir, _roots_of(database, source))
    known = _known_images(database, root)
    read = [*records, *parsed.faulty, *parsed.photos]
    checked = check_images(read, parsed.images_dir, verify=options.verify_images, known=known)
    wrong = (*parsed.problems, *species_problems, *_repeats(records), *_false_sides(records), *checked.problems)
    problems = tuple(sorted(wrong, key=_in_order_of_rows))
    bad_rows = {problem.row for problem in problems if problem.severity == "refused"}
    good = [record for record in records if record.row not in bad_rows]
    photos = [record for record in parsed.photos if record.row not in bad_rows]
    names = {record.file_name for record in (*good, *photos)}
    problems_file = write_problems(problems, reports_folder / f"import-{file_safe(source)}-problems.csv")
    report = ImportReport(
        source=source,
        format=parsed.format,
        images=len(names),
        annotations=len(good),
        individuals=len({(record.species, record.individual) for record in good if record.individual is not None}),
        encounters=0,
        encounters_unknown=0,
        species=len({record.species for record in good}),
        policies={},
        added=0,
        updated=0,
        unchanged=0,
        absent=0,
        skipped=len(bad_rows),
        quarantined=sum(
            checked.images[name].status == "quarantined" for name in {one.file_name for one in [*good, *photos]}
        ),
        problems=problems,
        problems_file=problems_file,
        changes=(),
        unmapped_viewpoints=unmapped_viewpoints(good, settings),
        notes=(
            *parsed.notes,
            *checked.notes,
            *_known_elsewhere(database, source, checked.images),
            *_known_as_raw(database, settings, parsed.format, root, checked.images),
            *_nameless(parsed.format, good),
        ),
        dry_run=options.dry_run,
        refused=not (good or photos) or (bool(bad_rows) and not options.skip_bad),
    )
    if report.refused:
        raise ImportRefused(_refusal(path, report), report)
    return _write(path, report, good, photos, checked.images, parsed.images_dir, root, database, settings, options)


def _write(
    path: Path,
    report: ImportReport,
    records: Sequence[Record],
    photos: Sequence[Record],
    images: Mapping[str, CheckedImage],
    images_dir: Path,
    root: str,
    database: Database,
    settings: Settings,
    options: ImportOptions,
) -> ImportReport:
    done = report
    try:
        with bar("writing the catalogue", None), database.writing() as (connection, revision):
            before = connection.execute(
                select(schema.sources.c.path).where(schema.sources.c.name == report.source)
            ).scalar_one_or_none()
            adopted = adopt(connection, report.source, report.format, path, root, records)
            if adopted:
                note = f"{adopted:,} animals were boxed by a detector or by hand before; each stays one annotation"
                report = replace(report, notes=(*report.notes, note))
            applied = apply_import(
                connection,
                revision,
                source=report.source,
                source_format=report.format,
                source_path=str(path.resolve()),
                root=root,
                records=records,
                images=images,
                settings=settings,
                actor=actor(),
                photos=photos,
            )
            if report.format in UNNAMED_FORMATS:  # such a file knows nothing of encounters
                row = select(schema.sources.c.id).where(schema.sources.c.name == report.source)
                assign_encounters(connection, connection.execute(row).scalar_one(), settings.encounter_rule)
            if options.source is None and before not in (None, str(path.resolve())):
                _refuse_other_dataset(path, report.source, str(before), applied)
            mine = set(applied.annotation_ids)
            found = [a for a in store.list_annotations(connection, settings, unnamed=True) if a.annotation_id in mine]
            policy_of = store.policies(connection, settings)
            unknown = sorted(settings.viewpoint_policy.keys() - policy_of.keys())
            if unknown:
                note = f"resight.toml has a viewpoint policy for {', '.join(unknown)}, not (yet) in the catalogue"
                report = replace(report, notes=(*report.notes, note))
            named = {a.species for a in found if a.species is not None}
            done = _completed(report, applied, found, {name: describe(policy_of[name]) for name in named})
            if report.dry_run:
                raise _RolledBack
            keep_root(settings, root, images_dir)
    except _RolledBack:
        pass
    return done


def _refuse_other_dataset(path: Path, source: str, before: str, applied: Applied) -> None:
    """Two datasets whose files bear the same name must not overwrite each other row by row."""
    known = applied.updated + applied.unchanged
    if applied.other_photo * 2 > known:
        raise InputError(
            f"{path}: source {source!r} was imported from {before}, and {applied.other_photo:,} of the {known:,} "
            f"annotations with the same ids are on other photos here; give another name with --source, or "
            f"--source {source!r} if they are to be replaced"
        )


def keep_root(settings: Settings, root: str, images_dir: Path) -> None:
    """Write the image root into ``resight.toml``, unless somebody has given the name to another folder meanwhile."""
    now = read_settings(settings.folder).image_roots.get(root)
    if now not in (settings.image_roots.get(root), images_dir.resolve()):
        raise ResightError(
            f"the image root {root!r} was set to {now} while this import ran; nothing was changed, try again"
        )
    add_image_root(settings, root, images_dir)


def actor() -> str:
    """Who works here, for the ledger."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return "unknown"


def _completed(
    report: ImportReport, applied: Applied, found: Sequence[Annotation], policies: Mapping[str, str]
) -> ImportReport:
    return replace(
        report,
        individuals=len({(a.species, a.individual) for a in found if a.individual is not None}),
        encounters=len({a.encounter for a in found}),
        encounters_unknown=sum(not a.encounter_known for a in found),
        species=len(policies),
        policies=dict(sorted(policies.items())),
        added=applied.added,
        updated=applied.updated,
        unchanged=applied.unchanged,
        absent=applied.absent,
        changes=applied.changes,
    )


def source_name(name: str) -> str:
    """The name of a source, checked.

    Raises:
        InputError: it is empty, too long or not printable.
    """
    stripped = name.strip()
    if not stripped or len(stripped) > MAX_SOURCE_NAME or not stripped.isprintable():
        raise InputError(
            f"source name {name!r}: expected 1 to {MAX_SOURCE_NAME} printable characters; give one with --source"
        )
    return stripped


def species_name(text: str) -> str:
    """The species that the user names, checked.

    Raises:
        InputError: it means that nothing is known, or cannot be a name.
    """
    species = parse_text(text)
    if species is None or isinstance(species, Bad):
        raise InputError(f"--species {text!r}: expected the name of a species, such as lion or zebra+face")
    return species


def _with_species(
    records: Iterable[Record], species: str | None, *, needed: bool
) -> tuple[list[Record], list[Problem]]:
    """Fill in the species of rows that name none; rows without any are problems where it is needed."""
    named: list[Record] = []
    problems: list[Problem] = []
    for record in records:
        if record.species is not None:
            named.append(record)
        elif species is not None:
            named.append(replace(record, species=species))
        else:
            named.append(record)
            if not needed and record.individual is None:
                continue
            text = "the row names no species; give the one of all such rows with --species"
            problems.append(Problem(record.row, "species", "", text))
    return named, problems


def _repeats(records: Iterable[Record]) -> list[Problem]:
    """Rows that the catalogue could not tell apart."""
    first: dict[str, str] = {}
    problems: list[Problem] = []
    for record in records:
        key = source_key(record)
        if key in first:
            field, _, value = key.partition(":")
            text = f"{first[key]} is the same annotation; expected another id, or another file, box or theta"
            problems.append(Problem(record.row, field, value, text))
        else:
            first[key] = record.row
    return problems


def _known_elsewhere(database: Database, source: str, images: Mapping[str, CheckedImage]) -> list[str]:
    """A line for every other source that has the same photos: a dataset under a new name would stand there twice."""
    contents = {image.content_hash for image in images.values() if image.content_hash is not None}
    a, i, s = schema.annotation_table.c, schema.images.c, schema.sources.c
    query = select(s.name, i.content_hash).distinct().join(schema.annotation_table, a.source_id == s.id)
    with database.reading() as connection:
        rows = connection.execute(query.join(schema.images, a.image_id == i.id).where(s.name != source))
        shared = Counter(row.name for row in rows if row.content_hash in contents)
    return [
        f"{count:,} of the {len(contents):,} photos are in the catalogue from source {name!r}; if this is the same "
        f"dataset, import it with --source {name}"
        for name, count in shared.most_common()
    ]


def _known_as_raw(
    database: Database, settings: Settings, format: str, root: str, images: Mapping[str, CheckedImage]
) -> list[str]:
    """A line for every source whose raw photos these are in another place, where each would stand a second time."""
    contents = {image.content_hash for image in images.values() if image.content_hash is not None}
    i, s = schema.images.c, schema.sources.c
    query = select(s.name, i.root, i.path, i.content_hash).join(schema.sources, i.source_id == s.id)
    shared: Counter[tuple[str, str]] = Counter()
    with database.reading() as connection:
        for row in connection.execute(query.where(i.content_hash.is_not(None))):
            is_here = row.root == root and row.path in images
            shared[row.name, row.root] += row.content_hash in contents and not is_here
    detect = ", or give the boxes to those with resight detect --detector json:FILE" if format == "megadetector" else ""
    return [
        f"{count:,} of the {len(contents):,} photos are in the catalogue as raw photos of source {name!r}, and this "
        f"makes them stand there twice; better name their folder {settings.image_roots.get(place, place)} with "
        f"--images, where the file names start there{detect}"
        for (name, place), count in shared.most_common()
        if count
    ]


def _nameless(format: str, records: Sequence[Record]) -> list[str]:
    if format not in UNNAMED_FORMATS and records and all(record.individual is None for record in records):
        return ["no row names an individual; if one of the columns not used does, name it individual"]
    return []


def _in_order_of_rows(problem: Problem) -> list[tuple[int, str]]:
    """Rows as they stand in the file: 9 before 10, ``annotations[9]`` before ``annotations[10]``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", problem.row)]


def _false_sides(records: Iterable[Record]) -> list[Problem]:
    """Names that would read as an individual and its side."""
    text = "the name ends like an individual with its side; expected another name"
    return [
        Problem(record.row, "individual", record.individual, text)
        for record in records
        if record.individual is not None and record.individual.endswith(tuple(f"|{side}" for side in SIDES))
    ]


def _roots_of(database: Database, source: str) -> list[str]:
    """The image roots below which the photos of this source lie."""
    a, i, s = schema.annotation_table.c, schema.images.c, schema.sources.c
    query = select(i.root).distinct().join(schema.annotation_table, a.image_id == i.id)
    with database.reading() as connection:
        rows = connection.execute(query.join(schema.sources, a.source_id == s.id).where(s.name == source))
        return sorted(rows.scalars())


def _root_name(settings: Settings, source: str, images_dir: Path, used: Iterable[str]) -> str:
    """The image root of this folder: the one that is there, else the source's whose folder has gone, else a new one."""
    folder = images_dir.resolve()
    for name, known in settings.image_roots.items():
        if known == folder:
            return name
    for name in used:
        if name not in settings.image_roots or not settings.image_roots[name].is_dir():
            return name
    taken = {name for name, known in settings.image_roots.items() if known.is_dir()}
    name, number = source, 2
    while name in taken:
        name, number = f"{source}-{number}", number + 1
    return name


def _known_images(database: Database, root: str) -> dict[str, CheckedImage]:
    c = schema.images.c
    columns = (
        c.status, c.problem, c.content_hash, c.byte_size, c.modified_ns, c.width, c.height,
        c.taken_at, c.latitude, c.longitude,
    )  # fmt: skip
    with database.reading() as connection:
        rows = connection.execute(select(c.path, *columns).where(c.root == root))
        return {row[0]: CheckedImage(*row[1:]) for row in rows}


def write_problems(problems: Sequence[Problem], target: Path) -> str | None:
    """Write the problems of an import as CSV; gives the file, ``None`` where there are none."""
    if not problems:
        target.unlink(missing_ok=True)  # of an earlier try
        return None
    rows = ((p.row, p.field, p.value, p.problem, p.severity) for p in problems)
    write_csv(target, ("row", "field", "value", "problem", "severity"), rows)
    return str(target)


def file_safe(name: str) -> str:
    """The name of a source as a part of a file's name."""
    # File systems allow 255 bytes, and a letter may take four of them.
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[:40]


def _refusal(path: Path, report: ImportReport) -> str:
    rows = "1 row" if report.skipped == 1 else f"{report.skipped:,} rows"
    said = {problem.problem for problem in report.problems if problem.severity == "refused"}
    cause = f"in all of them, {next(iter(said))}; " if len(said) == 1 and report.skipped > 1 else ""
    remedy = (
        "mend them, or leave them out with --skip-bad" if report.annotations else "no usable row is left; mend them"
    )
    return (
        f"{path}: {rows} cannot be imported, so nothing was; {cause}all of them are listed in {report.problems_file}; "
        f"{remedy}"
    )
