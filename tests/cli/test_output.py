from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from resight.cli.output import emit, table

COLUMNS = ("species", "queries", "top-1", "remark")
ROWS = [("zebra", 1200, 54.04, "a"), ("lion+head", None, None, "b" * 40)]


def test_a_table_keeps_every_column_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table(COLUMNS, ROWS, title="all", spare=("remark",))
    text = capsys.readouterr().out
    for word in ("all", *COLUMNS, "1,200", "54.0", "–", "b" * 40):
        assert word in text
    assert "not shown" not in text


def test_a_narrow_terminal_loses_spare_columns_and_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    table(COLUMNS, ROWS, spare=("remark", "queries"))
    text = capsys.readouterr().out
    assert "bbb" not in text
    assert "queries" in text.splitlines()[1]  # it fits without the first of the spare ones
    assert "not shown for want of room: remark; a wider terminal or --json has them" in text


def test_names_with_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name",), [("[red]Ayo[/red]",)])
    assert "[red]Ayo[/red]" in capsys.readouterr().out


def test_json_is_one_document_of_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class Answer:
        where: Path
        interval: tuple[float, float]

    emit(Answer(Path("a/b"), (1.0, 2.0)), as_json=True, show=lambda: pytest.fail("text was asked for"))
    assert json.loads(capsys.readouterr().out) == {"where": "a/b", "interval": [1.0, 2.0]}
    with pytest.raises(ValueError, match="nan"):
        emit({"score": float("nan")}, as_json=True, show=lambda: None)
