"""Commands between raw photos and annotations: detect, status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from resight.cli.catalogue_commands import Json, open_project
from resight.cli.model_commands import Model, parse_box
from resight.cli.output import SHOWN_PROBLEMS, emit, say, table
from resight.errors import InputError

if TYPE_CHECKING:
    from resight.catalogue.funnel import Camera, FellOut, Funnel
    from resight.detection.run import DetectReport
    from resight.project import Project

SHOWN_LIST = 50
SHOWN_REASONS = 4


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("detect")(detect)
    app.command("status")(status)


def detect(
    context: typer.Context,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            metavar="D",
            help="json:FILE (MegaDetector's output), onnx:FILE (YOLO, as MegaDetector v5 and v6), megadetector:MODEL "
            "(its own package), or whole-image.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", metavar="T", min=0.0, max=1.0, help="Confidence from which an animal counts; else 0.2."
        ),
    ] = None,
    source: Annotated[str | None, typer.Option("--source", metavar="NAME", help="Only photos of this source.")] = None,
    species: Annotated[
        str | None,
        typer.Option("--species", metavar="S", help="Of animals that the detector does not name; else the import's."),
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Also photos in which a detector has looked already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be found, and change nothing.")] = False,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="PHOTO=X,Y,W,H", help="Draw a box by hand, in upright pixels; may be repeated."),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="ID", help="Take a detected or hand-drawn box back; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Find animals in raw photos: each becomes an annotation with a box."""
    project = open_project(context)
    if detector is None:
        if not (box or remove):
            raise InputError(
                "detect wants a --detector (json:FILE, onnx:FILE, megadetector:MODEL, whole-image) or --box"
            )
        _by_hand(project, box or (), remove or (), species, json=json)
        return
    if box or remove:
        raise InputError("--box and --remove are by hand; leave --detector out with them")
    report = project.detect(detector, threshold=threshold, source=source, species=species, anew=anew, dry_run=dry_run)
    emit(report, as_json=json, show=lambda: _show_detect(report))


def _by_hand(
    project: Project, boxes: Sequence[str], removed: Sequence[str], species: str | None, *, json: bool
) -> None:
    asked = []
    for text in boxes:
        photo, equals, place = text.rpartition("=")
        if not equals or not photo:
            raise InputError(f"--box {text!r}: expected PHOTO=X,Y,W,H, such as DCIM/IMG_0001.JPG=10,20,300,200")
        asked.append((photo, parse_box(place)))
    added = project.edit_boxes(asked, removed, species=species)

    def show() -> None:
        for (photo, _), annotation_id in zip(asked, added, strict=True):
            say(f"{photo}: annotation {annotation_id}")
        if removed:
            say(f"{len(removed):,} boxes taken back")

    emit({"added": added, "removed": list(removed)}, as_json=json, show=show)


def _show_detect(report: DetectReport) -> None:
    speed = "" if report.images_per_second is None else f" at {report.images_per_second:.1f} a second"
    say(f"{report.detector}: looked at {report.looked_at:,} of {report.photos:,} photos{speed}")
    say(
        f"{report.with_animals:,} photos with an animal, {report.without_animals:,} without "
        "(resight status --list detected)"
    )
    done = "would be added" if report.dry_run else "added"
    counts = [f"{report.added:,} annotations {done}"]
    for count, what in (
        (report.kept, "there already"),
        (report.removed, "removed, since they were not found again"),
        (report.not_found_again, "not found again and kept, since something depends on them"),
        (report.repeated, "shown by a surer box already"),
        (report.below_threshold, f"below {report.threshold:g}"),
        (report.persons, "persons"),
        (report.vehicles, "vehicles"),
        (report.not_named, "photos that the file does not name"),
    ):
        if count:
            counts.append(f"{count:,} {what}")
    if report.looked_at_before:
        say(f"{report.looked_at_before:,} photos were looked at before and left as they are; --anew looks again")
    say(", ".join(counts) + ("; dry run, nothing was changed" if report.dry_run else ""))
    for title, found in (("could not be looked at", report.failures), ("named by the file", report.unmatched)):
        if found:
            say(f"{len(found):,} {title}:")
            for name, reason in list(found.items())[:SHOWN_PROBLEMS]:
                say(f"  {name}: {reason}")
            if len(found) > SHOWN_PROBLEMS:
                say(f"  and {len(found) - SHOWN_PROBLEMS:,} more; --json lists all")


def status(
    context: typer.Context,
    step: Annotated[
        str | None,
        typer.Option(
            "--list",
            metavar="STEP",
            help="Who fell out at this step (as shown), and why; or filtered: all that a quality rule leaves out.",
        ),
    ] = None,
    cameras: Annotated[
        bool, typer.Option("--cameras", help="The cameras of raw photos, as [clocks] in resight.toml names them.")
    ] = False,
    model: Model = None,
    json: Json = False,
) -> None:
    """The funnel: how many photos and animals got how far, from the card to a name."""
    project = open_project(context)
    if cameras:
        found = project.cameras()
        emit({"cameras": found}, as_json=json, show=lambda: _show_cameras(found))
        return
    if step is not None:
        rows = list(project.fell_out(step, model=model))
        emit({"step": step, "fell_out": rows}, as_json=json, show=lambda: _show_fell_out(step, rows))
        return
    funnel = project.status(model=model)
    emit(funnel, as_json=json, show=lambda: _show_funnel(funnel))


def _show_funnel(funnel: Funnel) -> None:
    rows: list[tuple[object, ...]] = []
    for step in funnel.steps:
        shown = list(step.reasons.items())[:SHOWN_REASONS]
        reasons = [f"{count:,} {reason}" for reason, count in shown]
        if len(step.reasons) > len(shown):
            reasons.append(f"{sum(step.reasons.values()) - sum(count for _, count in shown):,} for other reasons")
        rows.append((step.name, step.unit, step.count, step.proposed or None, step.fell_out, step.in_all,
                     "; ".join(reasons)))  # fmt: skip
    columns = ("step", "counts", "got here", "only proposed", "fell out", "in all", "why")
    title = f"from photos to names, by model {funnel.model}" if funnel.model else "from photos to names"
    table(columns, rows, title=title, spare=("only proposed", "counts"))
    say("who fell out, and why: resight status --list STEP")
    unmeasured = next((step.not_asked for step in funnel.steps if step.name == "quality"), 0)
    if unmeasured:
        say(f"{unmeasured:,} annotations were not measured, so no rule can catch them: resight attributes measure")


def _show_fell_out(step: str, rows: Sequence[FellOut]) -> None:
    if not rows:
        say(f"nothing fell out at {step}")
        return
    columns = ("id", "file", "source", "species", "why")
    table(columns, [(row.id, row.file_name, row.source, row.species, row.reason) for row in rows[:SHOWN_LIST]],
          spare=("source", "species"))  # fmt: skip
    if len(rows) > SHOWN_LIST:
        say(f"and {len(rows) - SHOWN_LIST:,} more; --json lists all")


def _show_cameras(found: Sequence[Camera]) -> None:
    columns = ("camera", "photos", "first", "last", "without a time that can be")
    table(columns, [(one.camera or "(not named)", one.photos, one.first, one.last, one.without_time) for one in found])
