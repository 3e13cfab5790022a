"""The command that answers the paper's questions on a catalogue: experiment."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from resight.cli.catalogue_commands import Json, open_project
from resight.cli.model_commands import SpeciesList, names
from resight.cli.output import emit, say, table
from resight.cli.training_commands import Backbone, RecipeName, Settings, Weights, changes
from resight.errors import InputError

if TYPE_CHECKING:
    from resight.project.experimented import ExperimentResult

logger = logging.getLogger(__name__)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("experiment")(experiment)


def experiment(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="multi-vs-single, leave-one-out, zero-shot, bootstrap, finetune, gallery-size, backbones, or "
            "reproduce-paper for all of them.",
        ),
    ],
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="How many splits, with seeds from 0.")] = 3,
    splits: Annotated[
        str | None, typer.Option("--splits", metavar="A,B", help="Frozen splits to take instead of --seeds.")
    ] = None,
    species: SpeciesList = None,
    individuals: Annotated[
        str,
        typer.Option(
            "--individuals",
            metavar="N,N",
            help="bootstrap, finetune: how many individuals of the species are trained on.",
        ),
    ] = "0,25,50,100,200",
    models: Annotated[
        str | None,
        typer.Option("--models", metavar="A,B", help="zero-shot: models at hand; gallery-size: instead of a new one."),
    ] = None,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="zero-shot: also species that a model was trained on.")
    ] = False,
    backbones: Annotated[
        str | None, typer.Option("--backbones", metavar="A,B", help="backbones: timm models; the first is the measure.")
    ] = None,
    recipe: RecipeName = None,
    backbone: Backbone = None,
    weights: Weights = None,
    settings: Settings = None,
    budget: Annotated[
        str, typer.Option("--budget", metavar="epochs|steps", help="What all runs have alike.")
    ] = "epochs",
    background: Annotated[
        bool, typer.Option("--background/--no-background", help="Whether the background alone is tried as well.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs and how long they will take, and train nothing.")
    ] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Train nothing: write the plan for workers on other machines.")
    ] = False,
    json: Json = False,
) -> None:
    """Answer one of the paper's questions on this catalogue: a table, figures, and a page with both.

    Runs that are done are not made again: the same command goes on where it was stopped.
    """
    from resight.experiments.plan import Asked

    project = open_project(context)
    asked = Asked(
        species=None if (listed := names(species)) is None else tuple(listed),
        individuals=_numbers(individuals),
        models=tuple(names(models) or ()),
        backbones=tuple(names(backbones) or ()),
        allow_seen=allow_seen,
    )
    try:
        result = project.experiment(
            name,
            asked=asked,
            seeds=seeds,
            splits=names(splits),
            recipe=recipe,
            settings=changes(settings, weights),
            backbone=backbone,
            budget=budget,
            background=background,
            dry_run=dry_run,
            plan_only=plan_only,
        )
    except KeyboardInterrupt:
        logger.warning("go on with the same command; what is done is kept")
        raise
    emit(result, as_json=json, show=lambda: _show(result, plan_only=plan_only))
    if result.failed:
        raise typer.Exit(1)


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        raise InputError(f"--individuals {text!r}: expected whole numbers with commas between, such as 0,25,50")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _show(result: ExperimentResult, *, plan_only: bool) -> None:
    for one in result.left_out:
        say(f"left out: {one['what']}: {one['reason']}")
    for warning in result.warnings:
        say(f"note: {warning}")
    if result.report is None:
        _show_plan(result)
        if plan_only:
            say(f"workers: python -m resight.experiments.worker {result.plan}")
            say("then this command again, without --plan-only, for the report")
        return
    for line in result.failed:
        say(f"failed: {line}")
    for finding in result.findings:
        say(finding)
    say(f"report: {result.report}")


def _show_plan(result: ExperimentResult) -> None:
    table(
        ("run", "split", "training images", "state"),
        [(one.label, one.split, one.training_images, one.state) for one in result.runs],
    )
    left = sum(one.state != "done" for one in result.runs)
    say(f"{left} of {len(result.runs)} runs to do, about {_duration(result.seconds_estimated)} of training here")


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
