"""Commands that train: train and tune."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resight.cli.catalogue_commands import Json, open_project
from resight.cli.model_commands import SpeciesList, names
from resight.cli.output import SHOWN_PROBLEMS, emit, say
from resight.errors import InputError

if TYPE_CHECKING:
    from resight.training.loop import TrainResult
    from resight.training.tune import TuneResult

logger = logging.getLogger(__name__)

RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="tuned (the default on an accelerator), tiny (the default elsewhere), paper, paper-as-coded, production, "
        "finetune (with --init), one of resight.toml, or one that tune found.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the recipe; may be given repeatedly."),
]
Backbone = Annotated[str | None, typer.Option("--backbone", metavar="B", help="A timm model.")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE|none", help="The backbone's first weights: a file, none, or imagenet."),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("train")(train)
    app.command("tune")(tune)


def train(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the new run.")],
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="The split whose training side is used.")],
    recipe: RecipeName = None,
    species: SpeciesList = None,
    backbone: Backbone = None,
    weights: Weights = None,
    settings: Settings = None,
    init: Annotated[
        str | None, typer.Option("--init", metavar="MODEL", help="Start from this model's weights.")
    ] = None,
    teachers: Annotated[
        str | None,
        typer.Option("--teachers", metavar="A,B", help="Models whose cosines the new one repeats; see distil_weight."),
    ] = None,
    devices: Annotated[
        int, typer.Option("--devices", metavar="N", min=1, help="Processes on this machine, one a GPU.")
    ] = 1,
    track: Annotated[
        str | None, typer.Option("--track", metavar="A,B", help="tensorboard or wandb, besides the log.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Train nothing: write what workers on other machines need.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped, as it was started.")
    ] = False,
    json: Json = False,
) -> None:
    """Train one model for all the species of a split."""
    project = open_project(context)
    job: dict[str, Any] = {
        "split": split,
        "recipe": recipe,
        "settings": changes(settings, weights),
        "species": names(species),
        "backbone": backbone,
        "init": init,
        "resume": resume,
        "teachers": names(teachers) or (),
        "trackers": names(track) or (),
    }
    if plan:
        folder = project.plan_training(run, **job)
        emit({"run": run, "plan": str(folder)}, as_json=json, show=lambda: say(_how_to_start_workers(folder)))
        return
    try:
        result = project.train(run, devices=devices, **job)
    except KeyboardInterrupt:
        logger.warning("go on with: resight train %s --split %s --resume", run, split)
        raise
    emit(result, as_json=json, show=lambda: _show(result))


def tune(
    context: typer.Context,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="The split that the settings are for.")],
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=1, help="Trials in all; the same command again goes on to N.")
    ],
    recipe: RecipeName = None,
    species: SpeciesList = None,
    backbone: Backbone = None,
    weights: Weights = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change one setting and do not search it; may be given repeatedly."
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", metavar="MODEL", help="Start each trial from this model's weights.")
    ] = None,
    validate_on: Annotated[
        str | None,
        typer.Option(
            "--validate-on",
            metavar="NAME",
            help="Train and score trials on the two sides of this split of another seed, as the paper did, instead of "
            "inside the training side; says what of the test side that leaks.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the recipe that is found; else SPLIT-RECIPE.")
    ] = None,
    json: Json = False,
) -> None:
    """Search for better settings of a recipe, on photos held out from the training side."""
    project = open_project(context)
    try:
        result = project.tune(
            split=split,
            trials=trials,
            name=name,
            recipe=recipe,
            settings=changes(settings, weights),
            validate_on=validate_on,
            species=names(species),
            backbone=backbone,
            init=init,
        )
    except KeyboardInterrupt:
        logger.warning("the same command goes on; trials that are finished are kept")
        raise
    start = "" if init is None else f" --init {init}"
    use = f"resight train RUN --split {split} --recipe {result.name}{start}"
    emit(result, as_json=json, show=lambda: _show_found(result, use))


def _show_found(result: TuneResult, use: str) -> None:
    counts = Counter(trial.state for trial in result.trials)
    said = ", ".join(f"{counts[state]} {state}" for state in counts)
    as_it_is = "" if result.as_it_is is None else f"; the recipe as it is: {result.as_it_is:.1f} %"
    say(
        f"{len(result.trials)} trials ({said}), each scored on {result.held_out:,} annotations; the best, trial "
        f"{result.best.trial}: {result.best.value:.1f} % top-1 held out{as_it_is}"
    )
    for key, value in result.best.settings.items():
        say(f"  {key} = {'none' if value is None else value}")
    if result.leaks is not None:
        say(f"leaks: {result.leaks}")
    say(f"it is the recipe {result.name!r} now, in {result.path}; use it with: {use}")


def _show(result: TrainResult) -> None:
    held_out = "" if result.validation_top1 is None else f", held out {result.validation_top1:.1f} % top-1"
    say(
        f"run {result.run}: {result.epochs} epochs at {result.train_images_per_second:.1f} images/s "
        f"({result.waiting_percent:.0f} % of it waiting for chips), final loss {result.final_loss:.3f}{held_out}; "
        f"model in {result.model}"
    )
    if result.skipped:
        say(f"{len(result.skipped):,} training annotations were left out, since their chips cannot be had:")
        for one in result.skipped[:SHOWN_PROBLEMS]:
            say(f"  {one.annotation_id}: {one.reason}")


def _how_to_start_workers(folder: Path) -> str:
    return (
        f"the plan is in {folder}; on every machine, with its own number of GPUs for N:\n"
        "  torchrun --nnodes MACHINES --nproc-per-node N --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\\n"
        f"    -m resight.training.worker {folder} --devices N --nodes MACHINES"
    )


def changes(pairs: list[str] | None, weights: str | None) -> dict[str, str]:
    """What ``--set`` and ``--weights`` change of a recipe.

    Raises:
        InputError: a pair without an equals sign.
    """
    found: dict[str, str] = {} if weights is None else {"weights": weights}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {pair!r}: expected KEY=VALUE, such as epochs=3")
        found[key.strip()] = value.strip()
    return found
