"""Writes docs/cli.md and docs/formats.md from the code; a test checks that both are current."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from pathlib import Path

from resight.catalogue.sources.tables import COLUMNS
from resight.cli import run
from resight.cli.app import NOT_BUILT

TARGET = Path(__file__).with_name("cli.md")
BUILT = (
    "init",
    "import",
    "detect",
    "attributes",
    "status",
    "stats",
    "split",
    "train",
    "tune",
    "embed",
    "evaluate",
    "calibrate",
    "match",
    "export",
    "models",
    "publish",
    "export-model",
    "experiment",
    "migrate",
    "demo",
)
GROUPS = {"attributes": ("train", "predict", "list", "accept", "correct", "reject", "measure")}


def help_of(*command: str) -> str:
    """What ``resight COMMAND --help`` prints, 100 characters wide."""
    os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = "100"
    printed = io.StringIO()
    with redirect_stdout(printed):
        run([*command, "--help"])
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).strip()


def reference() -> str:
    """The text of docs/cli.md."""
    parts = [
        "# Command-line reference",
        "Made from the code by `make docs`. Exit codes: 0 done, 1 an unexpected failure, 2 wrong input (one line on "
        "standard error says what). With `--json`, standard output holds one JSON document and nothing else.",
        f"```\n{help_of()}\n```",
    ]
    for name in BUILT:
        parts += [f"## resight {name}", f"```\n{help_of(name)}\n```"]
        for inner in GROUPS.get(name, ()):
            parts += [f"### resight {name} {inner}", f"```\n{help_of(name, inner)}\n```"]
    parts += [
        "## Not built yet",
        "These answer that they are not built, and exit 2: "
        + ", ".join(f"`{name}`" for name in sorted(NOT_BUILT))
        + ".",
    ]
    return "\n\n".join(parts) + "\n"


FORMATS_TEXT = """\
# What can be imported

Made from the code by `make docs`. `resight import PATH` says what it takes a path for; `--format` says it instead.

| format | what it is | the individual | the encounter |
|---|---|---|---|
| `coco` | COCO JSON, plain or as Wild Me's software writes it | `name`, else `individual…`, `attributes`, `individual_ids` | `encounter_id` |
| `csv` | a table, `.csv` or `.xlsx`, with MiewID's columns or plainer ones (below) | a column | a column |
| `folders` | a folder of pictures for each individual, or one for each species with those inside | the folder | not known |
| `wildlife-datasets` | a table with `image_id`, `identity`, `path` | `identity` | a column, else `video` where no date is known |
| `megadetector` | MegaDetector's batch output (JSON): boxes above a confidence of 0.2 | not known | by the rule for raw photos |
| `wildbook` | Wildbook's bulk-import sheet or annotation export, `.csv` or `.xlsx` | `MarkedIndividual.individualID` | `Encounter.catalogNumber`, else sighting and individual |
| `photos` | raw photos and videos, such as a camera's card; see [the tutorial](tutorials/from-a-memory-card.md) | not known | by the rule for raw photos |

An encounter that is not known is the individual's day where a date is known, else the annotation by itself. A cell such
as `NA`, `none`, `____` or an empty one is not known. Dates are `YYYY-MM-DD`, with or without a time; boxes are
`x, y, w, h` in pixels of the upright image; theta is in radians, clockwise.

Pictures may be JPEG, PNG, TIFF, WebP, HEIC, BMP or GIF. Outlines (`segmentation`) are COCO polygons or runs (RLE), in JSON
as text in a table.

## Raw photos

A photo is known by its content, so a card that is copied twice adds nothing. Its time is the camera's and what `[clocks]`
in `resight.toml` adds to it; a time before 1990 or in the future is taken as not known. Photos of one folder (or camera,
as `[encounters]` says), each no more than so many minutes after the one before, are one encounter. Of a video, one frame
every so many seconds is taken, and all of them are one encounter; this wants `pip install 'resight[video]'`.

## Columns of a table

Capitals, blanks and marks in a column's name do not matter: `Individual ID` is `individualid`. What no name here fits is
not used, and the import says so.

| what | names |
|---|---|
"""


def formats() -> str:
    """The text of docs/formats.md."""
    rows = [f"| {what} | {', '.join(f'`{name}`' for name in names)} |" for what, names in COLUMNS.items()]
    return FORMATS_TEXT + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
    TARGET.with_name("formats.md").write_text(formats(), encoding="utf-8")
