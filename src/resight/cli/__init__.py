"""The command line: parses, calls one method of Project, prints. Imports nothing heavy before a command runs."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from typing import Any

import typer

from resight.errors import ResightError

# Of the tree of usage errors typer exports one leaf; its base is what every misuse of the command line raises.
_UsageError: Any = typer.BadParameter.__base__

UNEXPECTED, WRONG_INPUT, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 an unexpected failure, 2 wrong input."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    from resight.cli.app import app

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks ends nothing
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_ToStderr()], force=True)
    logging.getLogger("resight").setLevel(logging.INFO)
    try:
        code = app(args=list(arguments) or ["--help"], prog_name="resight", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except ResightError as error:
        _say(str(error))
        return error.exit_code
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "resight"
        text = error.format_message().rstrip(".")
        hint = "it goes before the command" if "--project" in text else f"see: {command} --help"
        _say(f"{text}; {hint}")
        return WRONG_INPUT
    except (typer.Abort, KeyboardInterrupt):
        _say("stopped; what was finished is kept")
        return INTERRUPTED
    except BrokenPipeError:
        return UNEXPECTED
    except OSError as error:
        _say(f"{error.filename or 'a file'}: {error.strerror or error}; see to the disk and its permissions")
        mendable = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
        return WRONG_INPUT if isinstance(error, mendable) else UNEXPECTED


class _ToStderr(logging.StreamHandler[Any]):
    """Writes to what standard error is at the moment, so that lines do not break a progress bar that stands there."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        pass


def _say(message: str) -> None:
    sys.stderr.write(f"resight: {message}\n")
