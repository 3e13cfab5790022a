"""The command line as a user meets it, for tests whose module has a ``project``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resight.cli import run

Command = Callable[..., Any]


@pytest.fixture
def resight(project: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command: gives what it printed, the document of ``--json``, or the one line of an expected error."""

    def command(*words: str, expect: int = 0) -> Any:
        capsys.readouterr()
        code = run(["--project", str(project), *words])
        captured = capsys.readouterr()
        assert code == expect, captured.err
        if expect:
            assert captured.err.count("\n") == 1, captured.err
            assert captured.out == ""
            return captured.err
        return json.loads(captured.out) if "--json" in words else captured.out

    return command
