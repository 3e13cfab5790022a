from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from resight.cli import run
from resight.cli.app import NOT_BUILT
from resight.version import __version__

HEAVY = ("torch", "torchvision", "timm", "pandas", "pyarrow", "sqlalchemy", "alembic", "numpy", "PIL")

LOADED = """
import json, sys
from resight.cli import run
code = run({arguments})
sys.stderr.write(json.dumps([code, [name for name in {heavy} if name in sys.modules]]))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["import", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = LOADED.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stderr) == [0, []]
    assert done.stdout.startswith("Usage: resight")


def test_help_names_every_command_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in (
        "init", "import", "stats", "split", "train", "embed", "evaluate", "match", "export", "experiment", "status",
        "models", "tune", "publish", "export-model", "detect", "attributes", "undo", "review", "serve", "doctor",
        "demo", "migrate",
    ):  # fmt: skip
        assert f"\n  {name} " in shown


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"resight {__version__}\n"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that wrong input gives."""
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("resight: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err


@pytest.mark.parametrize("name", NOT_BUILT)
def test_commands_that_are_not_built_say_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["3", "--json"], ["a", "b", "--seeds", "3"]):
        assert f"`resight {name}` is not built yet" in refused([name, *more], capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["improt", "x"], ["improt", "Did you mean 'import'"]),
        (["stats", "--jsn"], ["--jsn", "--json", "see: resight stats --help"]),
        (["import"], ["Missing argument 'PATH'", "see: resight import --help"]),
        (["export", "csv"], ["Missing argument 'OUT'"]),
        (["split", "a", "--seed", "-1"], ["--seed"]),
        (["split", "a", "--seed", "x"], ["--seed"]),
        (["stats", "extra"], ["extra"]),
        (["--project"], ["--project"]),
    ],
)
def test_a_misspelt_command_line_gives_one_line(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(arguments, capsys)
    assert all(word in line for word in words)


def test_outside_a_project_the_line_says_how_to_make_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESIGHT_PROJECT", raising=False)
    for command in (["stats"], ["import", "x.csv"], ["split", "a"], ["export", "csv", "o.csv"], ["migrate"]):
        assert "resight init" in refused(command, capsys)
    assert "nowhere" in refused(["--project", "nowhere", "stats"], capsys)
