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
    "stats",
    "split",
    "train",
    "tune",
    "embed",
    "evaluate",
    "match",
    "export",
    "models",
    "publish",
    "export-model",
    "experiment",
    "migrate",
    "demo",
)


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

An encounter that is not known is the individual's day where a date is known, else the annotation by itself. A cell such
as `NA`, `none`, `____` or an empty one is not known. Dates are `YYYY-MM-DD`, with or without a time; boxes are
`x, y, w, h` in pixels of the upright image; theta is in radians, clockwise.

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
