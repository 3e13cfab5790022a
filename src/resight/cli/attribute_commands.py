"""Commands about attributes: train, predict, list, accept, correct, reject, measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resight.cli.catalogue_commands import Json, open_project
from resight.cli.model_commands import SpeciesList, names
from resight.cli.output import SHOWN_PROBLEMS, emit, say, table
from resight.errors import InputError

if TYPE_CHECKING:
    from resight.attributes.report import HeadReport
    from resight.catalogue.deciding import Decided
    from resight.catalogue.proposals import ListedProposal, ProposalFilter
    from resight.project.attributed import Proposed
    from resight.quality import QualityReport

SHOWN_LIST = 50

Field = Annotated[str, typer.Argument(metavar="FIELD", help="viewpoint, species, part or quality.")]
Value = Annotated[str | None, typer.Option("--value", metavar="V", help="Only where this is proposed.")]
Least = Annotated[
    float | None,
    typer.Option("--min-confidence", metavar="P", min=0.0, max=1.0, help="Only where the model is at least this sure."),
]
Most = Annotated[
    float | None,
    typer.Option("--max-confidence", metavar="P", min=0.0, max=1.0, help="Only where it is at most this sure."),
]
Species = Annotated[
    str | None, typer.Option("--species", metavar="S", help="Only of this species, stated or proposed.")
]
Source = Annotated[str | None, typer.Option("--source", metavar="NAME", help="Only of this source.")]
Ids = Annotated[
    list[str] | None,
    typer.Option("--id", metavar="ID", help="Only these annotations; may be repeated, and @FILE has one a line."),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    group = typer.Typer(
        name="attributes",
        help="Viewpoint, species, part and quality of new annotations: proposed by a model, decided by you.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("train")(train)
    group.command("predict")(predict)
    group.command("list")(list_)
    group.command("accept")(accept)
    group.command("correct")(correct)
    group.command("reject")(reject)
    group.command("measure")(measure)
    app.add_typer(group)


def train(
    context: typer.Context,
    field: Field,
    species: SpeciesList = None,
    right: Annotated[
        float | None,
        typer.Option("--right", metavar="P", help="Share of the proposed values that is to be right; else 0.98."),
    ] = None,
    json: Json = False,
) -> None:
    """Fit a head on what is labelled, and say how right it is on individuals it has not seen."""
    report = open_project(context).train_attribute(field, species=names(species), right=right)
    head = report.head
    document = {
        "field": head.field, "model": head.name, "classes": head.classes, "species": head.species,
        "threshold": head.threshold, "metrics": report.metrics, "report": report.report, "confusion": report.confusion,
    }  # fmt: skip
    emit(document, as_json=json, show=lambda: _show_head(report))


def _show_head(report: HeadReport) -> None:
    head, m = report.head, report.metrics
    say(
        f"{head.name}: fitted on {m.annotations:,} annotations of {m.groups:,} individuals or encounters; the figures "
        "are of those held out"
    )
    columns = ("class", "annotations", "groups", "found %", "right where said %")
    table(
        columns,
        [(c.value, c.annotations, c.groups, _percent(c.recall), _percent(c.precision)) for c in m.classes],
    )
    table(("is / said", *head.classes), [(name, *row) for name, row in zip(head.classes, m.confusion, strict=True)])
    say(
        f"right: {m.accuracy:.1%} of all, {m.accuracy_at_90:.1%} of the surest 90 %; calibration error "
        f"{m.calibration_error:.1%}"
    )
    if head.threshold is None or m.accuracy_at_threshold is None:
        say("no confidence is high enough to propose anything; label more, or ask for less with --right")
    else:
        say(
            f"from a confidence of {head.threshold:.2f} a value is proposed: {m.coverage:.1%} of annotations, "
            f"{m.accuracy_at_threshold:.1%} of them right"
        )
    say(f"all figures: {report.report}")
    say(f"next: resight attributes predict {head.field}")


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share


def predict(
    context: typer.Context,
    field: Field,
    species: SpeciesList = None,
    any_species: Annotated[
        bool, typer.Option("--any-species", help="Also species that the head was not fitted on.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", metavar="P", min=0.0, max=1.0, help="Propose from this confidence on; else the head's."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Propose a value where nobody has said one; below the threshold it stays unknown."""
    done = open_project(context).predict_attribute(
        field, species=names(species), any_species=any_species, threshold=threshold
    )
    p = done.predicted
    document = {
        "field": done.field, "model": done.model, "threshold": done.threshold, "proposed": len(p.proposals),
        "values": p.values, "below_threshold": p.below_threshold, "unlike": p.unlike, "rejected": p.rejected,
        "without_features": p.without_features, "left_out": p.left_out, "written": done.written,
    }  # fmt: skip
    emit(document, as_json=json, show=lambda: _show_proposed(done))


def _show_proposed(done: Proposed) -> None:
    p = done.predicted
    spread = ", ".join(f"{count:,} {value}" for value, count in p.values.items())
    say(f"{done.model}: {len(p.proposals):,} values proposed" + (f" ({spread})" if spread else ""))
    for count, why in (
        (p.below_threshold, f"stay unknown: not sure enough (below {done.threshold or 0:.2f})"),
        (p.unlike, "stay unknown: unlike all that the head was fitted on"),
        (p.rejected, "stay unknown: the value was rejected before"),
        (p.without_features, "photos cannot be used"),
        *((count, reason) for reason, count in p.left_out.items()),
    ):
        if count:
            say(f"{count:,} {why}")
    w = done.written
    say(f"{w.added:,} new, {w.changed:,} changed, {w.unchanged:,} as they were, {w.removed:,} taken back")
    if p.proposals:
        say(f"next: resight attributes list {done.field}, then accept, correct or reject")


def list_(
    context: typer.Context,
    field: Field,
    value: Value = None,
    least: Least = None,
    most: Most = None,
    species: Species = None,
    source: Source = None,
    ids: Ids = None,
    json: Json = False,
) -> None:
    """List what is proposed and not decided yet, the least sure first."""
    found = open_project(context).proposals(_filter(field, value, least, most, species, source, ids))
    emit({"proposals": found}, as_json=json, show=lambda: _show_list(found))


def _show_list(found: Sequence[ListedProposal]) -> None:
    if not found:
        say("nothing is proposed that is not decided")
        return
    columns = ("id", "file", "species", "proposed", "confidence", "by")
    rows = [(p.annotation_id, p.file_name, p.species, p.value, f"{p.confidence:.2f}", p.model)
            for p in found[:SHOWN_LIST]]  # fmt: skip
    table(columns, rows, spare=("by", "species"))
    if len(found) > SHOWN_LIST:
        say(f"and {len(found) - SHOWN_LIST:,} more; --json lists all")


def accept(
    context: typer.Context,
    field: Field,
    value: Value = None,
    least: Least = None,
    most: Most = None,
    species: Species = None,
    source: Source = None,
    ids: Ids = None,
    json: Json = False,
) -> None:
    """Make proposed values the annotations' own; each is a row of the ledger."""
    done = open_project(context).accept(_filter(field, value, least, most, species, source, ids))
    emit(done, as_json=json, show=lambda: _show_decided("accepted", done))


def reject(
    context: typer.Context,
    field: Field,
    value: Value = None,
    least: Least = None,
    most: Most = None,
    species: Species = None,
    source: Source = None,
    ids: Ids = None,
    json: Json = False,
) -> None:
    """Take proposals away; the same value is not proposed again for these annotations."""
    done = open_project(context).reject(_filter(field, value, least, most, species, source, ids))
    emit(done, as_json=json, show=lambda: _show_decided("rejected", done))


def correct(
    context: typer.Context,
    field: Field,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="What is so; unknown where it cannot be told.")],
    ids: Ids = None,
    json: Json = False,
) -> None:
    """Say what is so, whatever was stated or proposed."""
    wanted = _ids(ids)
    if not wanted:
        raise InputError("correct wants the annotations: --id ID, repeated, or --id @FILE with one id a line")
    done = open_project(context).correct(field, value, wanted)
    emit(done, as_json=json, show=lambda: _show_decided("corrected", done))


def _show_decided(verb: str, done: Decided) -> None:
    spread = ", ".join(f"{count:,} {value}" for value, count in done.values.items())
    say(f"{verb} {done.annotations:,} annotations" + (f" ({spread})" if spread else ""))
    for reason, count in done.skipped.items():
        say(f"{count:,} left as they are: {reason}")


def _filter(
    field: str,
    value: str | None,
    least: float | None,
    most: float | None,
    species: str | None,
    source: str | None,
    ids: Sequence[str] | None,
) -> ProposalFilter:
    from resight.catalogue.proposals import ProposalFilter

    return ProposalFilter(
        field=field, value=value, least_confidence=least, most_confidence=most, species=species, source=source,
        annotation_ids=_ids(ids) or None,
    )  # fmt: skip


def _ids(given: Sequence[str] | None) -> list[str]:
    """Ids as given, and those in the files that begin with @."""
    found: list[str] = []
    for text in given or ():
        if not text.startswith("@"):
            found.append(text)
            continue
        file = Path(text[1:])
        try:
            found += [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--id {text}: cannot be read ({error}); name a text file with one id a line") from None
    if given and not found:
        raise InputError("--id names no annotation; name one, or a file with one id a line")
    return found


def measure(
    context: typer.Context,
    species: SpeciesList = None,
    anew: Annotated[bool, typer.Option("--anew", help="Make numbers that are there again.")] = False,
    json: Json = False,
) -> None:
    """Measure sharpness, size, contrast, cut share and near-duplicates, on which rules in resight.toml may rest."""
    report = open_project(context).measure(species=names(species), anew=anew)
    emit(report, as_json=json, show=lambda: _show_measured(report))


def _show_measured(report: QualityReport) -> None:
    say(
        f"{report.measured:,} of {report.annotations:,} annotations measured now; {report.duplicates:,} near-duplicates"
    )
    for rule, count in report.caught.items():
        say(f"{count:,} are left out by the rule {rule}")
    if report.failures:
        say(f"{len(report.failures):,} could not be measured:")
        for failure in report.failures[:SHOWN_PROBLEMS]:
            say(f"  {failure.message}")
