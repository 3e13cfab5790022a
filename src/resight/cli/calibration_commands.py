"""The command that makes scores into probabilities: calibrate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resight.cli.catalogue_commands import Json, open_project
from resight.cli.model_commands import Models, Rerank, SpeciesList, names
from resight.cli.output import emit, say, table
from resight.errors import InputError

if TYPE_CHECKING:
    from resight.calibrating import Costs
    from resight.calibration.stopping import Length, Stop
    from resight.project.calibrated import Calibrated


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("calibrate")(calibrate)


def calibrate(
    context: typer.Context,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="The split whose test side is learned from.")],
    model: Models = None,
    rerank: Rerank = "none",
    species: SpeciesList = None,
    costs: Annotated[
        str,
        typer.Option(
            "--costs",
            metavar="MISSED:FALSE",
            help="Cost of a known animal called new against that of a wrong name, for where to call one new.",
        ),
    ] = "1:1",
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            metavar="SHARE",
            help="With --rerank local: compare as many candidates of a species as hold the right animal for this share "
            "of the queries, such as 0.9; else as many as [local] shortlist says.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make scores into probabilities that an animal is the same, or new, and say how true these are."""
    done = open_project(context).calibrate(
        split=split, model=model, rerank=rerank, species=names(species), costs=_costs(costs), recall=recall
    )
    emit(_document(done), as_json=json, show=lambda: _show(done))


def _costs(text: str) -> Costs:
    from resight.calibrating import Costs

    missed, colon, false = text.partition(":")
    try:
        found = Costs(float(missed), float(false))
    except ValueError:
        found = Costs(0, 0)
    if not colon or not (0 < found.missed < float("inf") and 0 < found.false < float("inf")):
        raise InputError(f"--costs {text!r}: expected two numbers above 0, MISSED:FALSE, such as 1:5")
    return found


def _document(done: Calibrated) -> dict[str, object]:
    from resight.calibration.evidence import Group
    from resight.calibration.fusion import NotEnough

    made = done.judged.calibration
    species = []
    for name, support in sorted(made.fusion.support.items()):
        lacking = made.fusion.lacks(Group(name))
        species.append(
            {
                "species": name,
                "confirmed_pairs": support.confirmed,
                "individuals": support.individuals,
                "queries": support.queries,
                "note": lacking.reason if isinstance(lacking, NotEnough) else None,
                "reliability": made.reliability.get(name, {}),
                "new_animals": made.open_figures.get(name),
                "new_animals_by_best_cosine": done.judged.peer_figures.get(name),
                "operating_point": made.operating_points.get(name),
                "share_of_new": made.shares.get(name),
                "first_right_by_cosine": _first(done, name, 0),
                "first_right": _first(done, name, 1),
                "shortlist": made.lengths.get(name),
                "decisive": made.stops.get(name),
            }
        )
    shares = {"shares": done.shares} if done.shares else {}
    return {"model": done.model, **shares, "rerank": done.rerank, "path": done.path, "species": species}


def _show(done: Calibrated) -> None:
    from resight.calibration.evidence import Group
    from resight.calibration.reliability import ALL, FIRST, UNCLEAR
    from resight.calibration.stopping import GROUP

    made = done.judged.calibration
    rows: list[tuple[object, ...]] = []
    for name, support in sorted(made.fusion.support.items()):
        views = made.reliability.get(name, {})
        new, peer = made.open_figures.get(name), done.judged.peer_figures.get(name)
        errors = [_percent(views[view].ece) if view in views else None for view in (ALL, FIRST, UNCLEAR)]
        aurocs = [None if one is None else _percent(one.auroc) for one in (new, peer)]
        right = [_percent(_first(done, name, place)) for place in (0, 1)]
        rows.append((name, support.confirmed, support.individuals, *right, *errors, *aurocs))
    columns = ("species", "confirmed pairs", "individuals", "first right by cosine", "by all", "calibration error",
               "at rank 1", "where unclear", "new or known, AUROC", "by best cosine")  # fmt: skip
    table(columns, rows, title=f"model {done.model}, held-out identities, percent", spare=("where unclear",))
    for name, shares in done.shares.items():
        say(f"{name}: " + ", ".join(f"{model} counts {share:.0%}" for model, share in shares.items()))
    for name, length in sorted(made.lengths.items()):
        if length.reached is not None:
            say(f"{name}: {_length(length)}")
        if length.candidates > GROUP:
            say(f"{name}: {_stop(made.stops.get(name))}")
        if made.did_not_help(name):
            say(f"{name}: local evidence does not help here; match it with --rerank none")
    for name in sorted(made.fusion.support):
        lacking = made.fusion.lacks(Group(name))
        if lacking is not None:
            say(f"{lacking.reason}; there is no probability for it")
        point, share = made.operating_points.get(name), made.shares.get(name)
        if point is not None and share is not None:
            say(
                f"{name}: call an animal new from P(new) {point.threshold:.2f} on ({share.how}: {share.share:.0%} new "
                f"animals expected; {point.missed:.0%} of known ones missed, {point.false_new:.0%} of new ones named)"
            )
    say(f"wrote {done.path}")


def _length(length: Length) -> str:
    found = (
        f"{length.candidates} candidates are compared, among which {length.reached:.0%} of {length.queries:,} queries "
        f"have the right animal (of {length.gallery:,} photos)"
    )
    return f"{found}, fewer than the {length.wanted:.0%} asked for" if length.falls_short else found


def _stop(stop: Stop | None) -> str:
    if stop is None:
        return "no local evidence is strong enough to end the search before the end of the shortlist"
    return (
        f"a sum of squared confidences of {stop.decisive:.1f} ends the search: the best candidate is right for "
        f"{stop.right:.1%} of the {stop.queries:,} queries that reach it, and {stop.saved:.0%} of the pairs need no "
        "comparing"
    )


def _first(done: Calibrated, species: str, place: int) -> float | None:
    shares = done.judged.calibration.first_right.get(species)
    return None if shares is None else shares[place]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
