"""The commands and their options. Help texts are the reference: ``docs/cli.md`` is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli import (
    attribute_commands,
    calibration_commands,
    catalogue_commands,
    experiment_commands,
    model_commands,
    raw_commands,
    release_commands,
    training_commands,
)
from resight.errors import NotBuiltYet
from resight.version import __version__

app = typer.Typer(
    name="resight",
    help="Tells individual animals apart in photographs, for many species with one model.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

NOT_BUILT = {
    "undo": "Reverse the last identity decisions.",
    "review": "Decide about candidates in the browser.",
    "serve": "Answer by REST.",
    "doctor": "Find ghosts, lumps and broken rows.",
}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"resight {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    project: Annotated[
        Path | None,
        typer.Option(
            "--project",
            metavar="DIR",
            help="The project folder; else RESIGHT_PROJECT, else the nearest folder above with a resight.toml.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    context.obj = project


catalogue_commands.add_to(app)
raw_commands.add_to(app)
attribute_commands.add_to(app)
training_commands.add_to(app)
model_commands.add_to(app)
calibration_commands.add_to(app)
release_commands.add_to(app)
experiment_commands.add_to(app)


def _add_not_built(name: str, summary: str) -> None:
    @app.command(
        name,
        help=f"Not built yet: {summary[0].lower()}{summary[1:]}",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def _command(context: typer.Context) -> None:
        raise NotBuiltYet(f"`resight {name}` is not built yet; see CHANGELOG.md for what is")


for _name, _summary in NOT_BUILT.items():
    _add_not_built(_name, _summary)
