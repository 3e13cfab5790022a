"""Writes docs/cli.md from the help texts of the commands; a test checks that the file is current."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from pathlib import Path

from resight.cli import run
from resight.cli.app import NOT_BUILT

TARGET = Path(__file__).with_name("cli.md")
BUILT = (
    "init",
    "import",
    "stats",
    "split",
    "train",
    "embed",
    "evaluate",
    "match",
    "export",
    "models",
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


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
