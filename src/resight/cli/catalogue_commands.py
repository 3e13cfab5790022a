"""Commands about what is known: init, import, stats, split, export, migrate."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from resight.cli.output import SHOWN_PROBLEMS, emit, plain, say, table
from resight.errors import ImportRefused, InputError

if TYPE_CHECKING:
    from resight.catalogue.intake import ImportReport
    from resight.catalogue.raw_photos import PhotoReport
    from resight.catalogue.statistics import Statistics
    from resight.project import Project
    from resight.splits import Split

SHOWN_CHARACTERS = 80

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output and nothing else.")]


def open_project(context: typer.Context) -> Project:
    """The project that the command line means."""
    from resight.project import Project

    return Project.open(context.obj)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("init")(init)
    app.command("import")(import_)
    app.command("stats")(stats)
    app.command("split")(split)
    app.command("export")(export)
    app.command("migrate")(migrate)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; made if it is not there.")] = Path(),
    json: Json = False,
) -> None:
    """Make a project: a folder with resight.toml and an empty catalogue."""
    from resight.project import Project

    project = Project.init(folder)

    def show() -> None:
        say(f"made the project {project.folder}")
        say(f"next: resight --project {shlex.quote(str(folder))} import PATH")

    emit({"project": str(project.folder)}, as_json=json, show=show)


def import_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An annotation file, or a folder of pictures.")],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="auto, coco, csv (.xlsx too), folders, wildlife-datasets, megadetector, wildbook, or photos: raw "
            "ones, such as a camera's card.",
        ),
    ] = "auto",
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="The folder that file names are below.")
    ] = None,
    species: Annotated[
        str | None, typer.Option("--species", metavar="S", help="The species of rows that name none.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Name of the dataset; else the file's or folder's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad rows out, listed, instead of refusing the file.")
    ] = False,
    verify_images: Annotated[
        bool, typer.Option("--verify-images/--no-verify-images", help="Whether to decode every picture now.")
    ] = True,
    video_seconds: Annotated[
        float,
        typer.Option("--video-seconds", metavar="N", help="Of raw videos, one frame every N seconds.", min=0.04),
    ] = 1.0,
    json: Json = False,
) -> None:
    """Add a dataset or raw photos to the catalogue; doing it again adds nothing."""
    project = open_project(context)
    from resight.catalogue.intake import ImportOptions, ImportReport

    options = ImportOptions(format, images, species, source, dry_run, skip_bad, verify_images)
    try:
        report = project.import_(path, options, video_seconds=video_seconds)
    except ImportRefused as error:
        refused = error.report
        emit(refused, as_json=json, show=lambda: _show_problems(refused))
        raise

    def show() -> None:
        if isinstance(report, ImportReport):
            _show_import(report)
        else:
            _show_photos(report)

    emit(report, as_json=json, show=show)


def _show_import(report: ImportReport) -> None:
    for note in report.notes:
        say(note)
    _show_problems(report)
    if report.unmapped_viewpoints:
        spelled = ", ".join(f"{name!r} ({count})" for name, count in report.unmapped_viewpoints.items())
        say(f"viewpoints kept as unknown, since no alias in resight.toml maps them: {spelled}")
    for species, policy in report.policies.items():
        say(f"{species}: viewpoint policy {policy}")
    if report.encounters_unknown:
        say(
            f"{report.encounters_unknown:,} annotations have neither an encounter nor a date; each counts as its own "
            "encounter, so near-duplicates may flatter any score"
        )
    _show_changes(report)
    say(
        f"{report.source}: {report.annotations:,} annotations of {report.individuals:,} individuals in "
        f"{report.encounters:,} encounters, {report.images:,} images, {report.species:,} species"
    )
    done = "would be added" if report.dry_run else "added"
    counts = [f"{report.added:,} {done}", f"{report.updated:,} updated", f"{report.unchanged:,} unchanged"]
    if report.skipped:
        counts.append(f"{report.skipped:,} left out")
    if report.quarantined:
        counts.append(f"{report.quarantined:,} pictures quarantined")
    if report.absent:
        counts.append(f"{report.absent:,} in the catalogue that the file no longer has (kept)")
    say(", ".join(counts) + ("; dry run, nothing was changed" if report.dry_run else ""))


def _show_photos(report: PhotoReport) -> None:
    for note in report.notes:
        say(note)
    _show_problems(report)
    for camera in report.cameras:
        shown = camera.first or "no time"
        until = f" to {camera.last}" if camera.last not in (None, camera.first) else ""
        offset = f", clock {camera.offset}" if camera.offset else ""
        say(f"{camera.camera or 'camera not named'}: {camera.photos:,} photos, {shown}{until}{offset}")
    say(
        f"{report.source}: {report.images:,} photos in {report.encounters:,} encounters"
        + (f", {report.frames:,} of them frames of {report.videos:,} videos" if report.videos else "")
    )
    done = "would be added" if report.dry_run else "added"
    counts = [f"{report.added:,} {done}", f"{report.updated:,} updated", f"{report.unchanged:,} unchanged"]
    for count, what in (
        (report.moved, "lie elsewhere now"),
        (report.copies, "copies of known photos"),
        (report.quarantined, "cannot be used"),
        (report.skipped, "left out"),
    ):
        if count:
            counts.append(f"{count:,} {what}")
    say(", ".join(counts) + ("; dry run, nothing was changed" if report.dry_run else ""))
    if report.added and not report.dry_run:
        say("next: find the animals in them: resight detect --detector D")


def _show_changes(report: ImportReport) -> None:
    for change in report.changes[:SHOWN_PROBLEMS]:
        say(f"changed {change.annotation_id} {change.field}: {_short(change.before)} -> {_short(change.after)}")
    if len(report.changes) > SHOWN_PROBLEMS:
        say(f"and {len(report.changes) - SHOWN_PROBLEMS:,} more changes; --json lists all")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _show_problems(report: ImportReport | PhotoReport) -> None:
    for problem in report.problems[:SHOWN_PROBLEMS]:
        value = f" {problem.value!r}" if problem.value else ""
        say(f"{problem.row}: {problem.field}{value}: {problem.problem} ({problem.severity})")
    if len(report.problems) > SHOWN_PROBLEMS:
        say(f"and {len(report.problems) - SHOWN_PROBLEMS:,} more problems")
    if report.problems:
        say(f"all problems are listed in {report.problems_file}")


def stats(context: typer.Context, json: Json = False) -> None:
    """Table 1 of the paper for this catalogue."""
    found = open_project(context).stats()
    emit(found, as_json=json, show=lambda: _show_stats(found))


def _show_stats(found: Statistics) -> None:
    if found.totals.unnamed:
        say(f"{found.totals.unnamed:,} annotations have no species yet; see: resight status")
    if not found.species:
        say("the catalogue is empty; import a dataset with: resight import PATH")
        return
    columns = (
        "species", "source", "annotations", "individuals", "identities", "encounters", "mean", "median", "policy",
        "viewpoints",
    )  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for row in found.species:
        views = ", ".join(
            f"{name} {count:,} ({row.identities_by_viewpoint.get(name, 0):,} ids)"
            for name, count in row.viewpoints.items()
        )
        sources = row.sources[0] if len(row.sources) == 1 else f"{len(row.sources)} sources"
        rows.append(
            (row.species, sources, row.annotations, row.individuals, row.identities, row.encounters,
             row.mean_per_individual, row.median_per_individual, row.policy, views or None)
        )  # fmt: skip
        if len(row.sources) > 1:
            rows.extend(
                ("", part.source, part.annotations, part.individuals, None, None, None, None, "", "")
                for part in row.by_source
            )
    totals, tail = found.totals, found.tail
    rows.append(
        ("total", f"{totals.sources} sources", totals.annotations, totals.individuals, totals.identities,
         totals.encounters, tail.mean_per_individual, tail.median_per_individual, "", "")
    )  # fmt: skip
    table(columns, rows, spare=("viewpoints", "policy", "median", "mean", "encounters", "source"))
    say(
        f"species with more than 10,000 annotations: {tail.species_above_10000}; fewer than 1,000: "
        f"{tail.species_below_1000}, than 500: {tail.species_below_500}, than 250: {tail.species_below_250}"
    )
    missing = [
        (row.species, *(row.without[name] for name in ("individual", "viewpoint", "date", "encounter")),
         row.proposed, row.filtered, row.left_out_by_policy, row.quarantined)
        for row in found.species
    ]  # fmt: skip
    lacks = ("species", "no individual", "no viewpoint", "no date", "no encounter", "only proposed", "filtered",
             "left out by policy", "quarantined")  # fmt: skip
    table(
        lacks,
        missing,
        title="annotations without, or with",
        spare=("quarantined", "left out by policy", "filtered", "only proposed"),
    )


def split(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the new split.")] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="paper, time (train before a date, test from it on) or disjoint (no individual on both sides).",
        ),
    ] = "paper",
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="The draw; the same seed, the same split.")
    ] = 0,
    train_fraction: Annotated[
        str,
        typer.Option(
            "--train-fraction", metavar="auto|F", help="Share of individuals (by time: of annotations) in training."
        ),
    ] = "auto",
    date: Annotated[
        str | None,
        typer.Option(
            "--date",
            metavar="YYYY-MM-DD",
            help="With --protocol time, the first day of test; else each species' own, found from its train share.",
        ),
    ] = None,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Freeze the split of a table: annotation_id (or source and file_name), and subset (train, test or "
            "set_aside).",
        ),
    ] = None,
    check_duplicates: Annotated[
        bool | None,
        typer.Option(
            "--check-duplicates/--no-check-duplicates",
            help="Whether to look for photos of different encounters that are almost the same picture; unless told, "
            "where at most 20,000 photos have to be read.",
            show_default=False,
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the frozen splits.")] = False,
    json: Json = False,
) -> None:
    """Freeze a named split into training and test (paper §3.3)."""
    project = open_project(context)
    if list_:
        frozen = project.splits()
        columns = ("name", "protocol", "seed", "catalogue_revision", "made_at_utc")
        emit({"splits": frozen}, as_json=json, show=lambda: table(columns, [list(row.values()) for row in frozen]))
        return
    if name is None:
        raise InputError("resight split wants a NAME for the new split, or --list")
    drawn = project.split(
        name,
        protocol=protocol,
        seed=seed,
        train_fraction=_fraction(train_fraction),
        date=date,
        from_file=from_file,
        check_duplicates=check_duplicates,
    )
    document = {key: value for key, value in plain(drawn).items() if key not in ("members", "unused")}
    emit(document, as_json=json, show=lambda: _show_split(drawn))


def _fraction(text: str) -> float | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--train-fraction {text!r}: expected auto or a number between 0 and 1") from None


def _show_split(drawn: Split) -> None:
    say(f"split {drawn.name}: protocol {drawn.protocol}, seed {drawn.seed}; {drawn.formula}")
    dated = any(s.date is not None for s in drawn.species)
    columns = ("species", *(("test from",) if dated else ()), "train share", "train annotations", "train ids",
               "test annotations", "test ids", "of them seen", "set aside", "unused")  # fmt: skip
    table(
        columns,
        [
            (s.species, *((s.date,) if dated else ()), f"{s.train_share:.3f}", s.train_annotations,
             s.train_individuals, s.test_annotations, s.test_individuals, s.test_individuals_seen,
             s.set_aside_annotations, s.unused)
            for s in drawn.species
        ],
        spare=("train share", "set aside", "unused"),
    )  # fmt: skip
    for reason, count in drawn.left_out.items():
        say(f"{count:,} annotations not used: {reason}")
    for warning in drawn.warnings:
        say(f"warning: {warning}")


def export(
    context: typer.Context,
    format: Annotated[str, typer.Argument(metavar="FORMAT", help="csv")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    split_name: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Add the subset of each annotation.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the catalogue as a file for others."""
    done = open_project(context).export(format, out, split=split_name)
    emit(done, as_json=json, show=lambda: say(f"wrote {done.rows:,} rows to {done.path}"))


def migrate(context: typer.Context, json: Json = False) -> None:
    """Bring a catalogue of an older version of resight up to date, after a backup."""
    backup = open_project(context).migrate()

    def show() -> None:
        say("the catalogue is up to date" if backup is None else f"migrated; the catalogue as it was: {backup}")

    result: dict[str, Any] = {"migrated": backup is not None, "backup": None if backup is None else str(backup)}
    emit(result, as_json=json, show=show)
