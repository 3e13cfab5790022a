"""Commands that give a model away: publish, export-model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resight.cli.catalogue_commands import Json, open_project
from resight.cli.output import emit, say


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("publish")(publish)
    app.command("export-model")(export_model)


def publish(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run whose model is published.")],
    target: Annotated[
        str, typer.Argument(metavar="DIR|hub:OWNER/NAME", help="A folder that is empty or not there, or the hub.")
    ],
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence",
            metavar="SPDX",
            help="Licence of the weights, such as Apache-2.0; without it all rights are reserved.",
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="On the hub: everybody may see it. Else it is private.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a run's model, with its card and the code that loads it, for others.

    The card names species and sources, no photo, place or individual.
    """
    result = open_project(context).publish(run, target, licence=licence, public=public)

    def show() -> None:
        seen = "" if result.private is None else " (private)" if result.private else " (public)"
        say(f"run {result.run}: {', '.join(result.files)} in {result.url or result.path}{seen}")
        for warning in result.warnings:
            say(f"note: {warning}")

    emit(result, as_json=json, show=show)


def export_model(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="RUN", help="A run, or any other model that --model takes.")],
    format: Annotated[str, typer.Option("--format", metavar="onnx|openvino", help="What to write.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="A folder that is empty, not there, or an earlier export; else where embed looks for it.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model as ONNX or OpenVINO, and compare its vectors with the network's.

    The file takes uint8 chips (n, N, N, 3) named 'chips' and gives float32 'embeddings' (n, dim); normalisation is
    inside. A file that does not agree (a cosine below 0.999) is not kept.
    """
    result = open_project(context).export_model(model, format, out=out)

    def show() -> None:
        say(f"model {result.model}: {result.path} ({result.precision})")
        same = "" if result.same_top1 is None else f"; {100 * result.same_top1:.1f} % have the same nearest chip"
        where = "chips of the project" if result.chips_from == "project" else "drawn pictures"
        say(f"smallest cosine with the network's vectors {result.cosine_min:.5f} over {result.chips} {where}{same}")

    emit(result, as_json=json, show=show)
