from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.experiments.tables import Column, Table, markdown, shown

COLUMNS = (
    Column("species", "Species"),
    Column("n", "Annotations"),
    Column("top1", "Top-1", "%"),
    Column("ci", "Interval", "%"),
)


def table(*rows: dict[str, object], columns: tuple[Column, ...] = COLUMNS, note: str = "") -> Table:
    return Table("scores", "Scores", columns, rows, note)


def lines_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_keeps_numbers_in_full_and_leaves_the_unknown_empty(tmp_path: Path) -> None:
    table(
        {"species": 'a, "b"', "n": 1942, "top1": 100 / 3, "ci": (1.25, 40)},
        {"species": "c", "n": None, "top1": None},
    ).to_csv(tmp_path / "t.csv")
    assert lines_of(tmp_path / "t.csv") == [
        ["species", "n", "top1", "ci_lo", "ci_hi"],
        ['a, "b"', "1942", "33.33333333", "1.25", "40"],
        ["c", "", "", "", ""],
    ]


def test_a_column_of_intervals_has_two_columns_even_where_none_is_known(tmp_path: Path) -> None:
    columns = (Column("species", "Species"), Column("ci", "Interval", interval=True))
    table({"species": "a", "ci": None}, columns=columns).to_csv(tmp_path / "t.csv")
    assert lines_of(tmp_path / "t.csv") == [["species", "ci_lo", "ci_hi"], ["a", "", ""]]


def test_a_value_among_intervals_is_an_interval_of_no_length(tmp_path: Path) -> None:
    table({"ci": (1, 2)}, {"ci": 3}).to_csv(tmp_path / "t.csv")
    assert [line[-2:] for line in lines_of(tmp_path / "t.csv")] == [["ci_lo", "ci_hi"], ["1", "2"], ["3", "3"]]


def test_json_holds_plain_values_from_numpy() -> None:
    row = {"species": np.str_("a"), "n": np.int64(3), "top1": np.float32(0.5), "ci": (np.float64(1), np.float64(2))}
    written = json.loads(json.dumps(table(row).to_json()))
    assert written["rows"] == [{"species": "a", "n": 3, "top1": 0.5, "ci": [1.0, 2.0]}]
    assert written["columns"][2] == {"key": "top1", "title": "Top-1", "unit": "%", "digits": 1}
    assert table({"n": np.bool_(True)}).rows[0]["n"] is True


@pytest.mark.parametrize(
    ("cell", "digits", "text"),
    [
        (None, 1, "–"),
        (1234567, 1, "1,234,567"),
        (1234.56, 1, "1,234.6"),
        (-0.3, 1, "−0.3"),
        (-0.04, 1, "0.0"),
        (-3, 1, "−3"),
        (2.0, 0, "2"),
        ((-1.25, 3.0), 2, "[−1.25, 3.00]"),
        (True, 1, "yes"),
        (False, 1, "no"),
        ("nyala", 1, "nyala"),
        ("-1", 1, "-1"),
    ],
)
def test_shown(cell: object, digits: int, text: str) -> None:
    assert shown(cell, digits) == text  # type: ignore[arg-type]


def test_markdown_has_one_row_a_line_whatever_the_names_hold() -> None:
    text = table(
        {"species": "a|b\n<i>*c*</i> & _d_", "n": 1, "top1": 2.04, "ci": (1.0, 3.0)},
        {"species": "whale_grey"},
        note="n",
    ).to_markdown()
    assert text.splitlines() == [
        "**Scores**",
        "",
        "| Species | Annotations | Top-1 (%) | Interval (%) |",
        "|---|---:|---:|---:|",
        r"| a\|b &lt;i&gt;\*c\*&lt;/i&gt; &amp; \_d\_ | 1 | 2.0 | [1.0, 3.0] |",
        "| whale_grey | – | – | – |",
        "",
        "n",
    ]


@given(st.text(max_size=30))
def test_no_text_breaks_a_row_of_markdown(text: str) -> None:
    row = table({"species": text}).to_markdown().split("\n")[4]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == len(COLUMNS) + 1
    assert "<" not in markdown(text)


def test_a_table_without_rows_says_so() -> None:
    assert "No rows." in table().to_markdown()
    assert not table().is_number(COLUMNS[1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"topl": 1}], "topl"),
        ([{"top1": float("nan")}], "nan; None stands for"),
        ([{"top1": float("inf")}], "inf"),
        ([{"ci": (2, 1)}], "lower end comes first"),
        ([{"ci": (1, float("nan"))}], "nan"),
        ([{"n": [1, 2, 3]}], "was expected"),
        ([{"n": object()}], "was expected"),
    ],
)
def test_what_is_no_cell_is_refused_with_its_place(rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        table(*rows)
    assert "row 0 of table scores" in str(caught.value)


@pytest.mark.parametrize("name", ["", "A", "../x", "a b", "-a", "a.csv"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        Table(name, "t", COLUMNS, ())


def test_two_columns_of_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="two columns of one key"):
        Table("a", "t", (Column("x", "X"), Column("x", "Y")), ())


def test_a_column_with_text_in_it_is_no_number_column() -> None:
    assert table({"n": 1}, {"n": None}).is_number(COLUMNS[1])
    assert not table({"n": 1}, {"n": "many"}).is_number(COLUMNS[1])
