from __future__ import annotations

import base64
import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resight.experiments import report as report_module
from resight.experiments.figures import Series, curves, dots_or_bars
from resight.experiments.plan import LeftOut
from resight.experiments.report import Report, write_report
from resight.experiments.tables import Column, Table

NASTY = "<script>alert(\"1\")</script> & 'x' </td> {{ 7 * 7 }} | a_b"


class Page(HTMLParser):
    """What a browser would find: elements with what they hold, and whether all that opens closes."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.words.setdefault(tag, []).append(data)

    def text(self, tag: str = "main") -> str:
        return " ".join("".join(self.words.get(tag, [])).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def scores(name: str = "scores") -> Table:
    columns = (Column("species", "Species"), Column("top1", "Top-1", "%"), Column("ci", "Interval", "%"))
    rows = [
        {"species": NASTY, "top1": 43.4, "ci": (40.0, 47.25)},
        {"species": "nyala", "top1": None},
        {"species": "lion", "top1": -1234.5, "ci": (-3.0, 1.0)},
    ]
    return Table(name, "Top-1 by species", columns, rows, f"Note {NASTY}")


def made(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "experiment": "multi-vs-single",
        "question": "Is one model better than one each?",
        "method": ("First paragraph.", f"Second {NASTY}."),
        "findings": ("Joint gains 3.2 points [1.0, 5.4].",),
        "tables": (scores(),),
        "figures": (dots_or_bars("top1", "Top-1", [NASTY, "nyala"], [3, 9], [Series("m", [1.0, 2.0])]),),
        "configs": {
            "joint": {"recipe": {"epochs": 30, "rate": 1e-3}, "seed": 0},
            "only nyala": {"recipe": {"epochs": 30, "rate": 1e-3}, "seed": 1, "note": NASTY},
        },
        "passport": {"weights": "abc", "path": Path("a/b"), "sizes": (1, np.int64(2)), "seen": {"b", "a"}},
        "left_out": (LeftOut("cow_top", f"two individuals {NASTY}"),),
        "warnings": ("Only two species.",),
    }
    return Report(**{**values, **changes})


def test_the_files_beside_the_page(tmp_path: Path) -> None:
    page = write_report(made(), tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == ["report.html", "report.json", "report.md", "scores.csv", "top1.csv", "top1.svg"]
    ET.parse(page.parent / "top1.svg")
    with (page.parent / "top1.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file)) == {"species": NASTY, "annotations": "3", "top_1_m": "1"}


def test_the_page_asks_for_nothing_outside_itself(tmp_path: Path) -> None:
    text = write_report(made(), tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    for _, attributes in page.elements:
        for key, value in attributes.items():
            if key in ("href", "xlink:href", "src", "srcset", "data", "action", "poster"):
                assert value is not None
                assert value.startswith(("#", "data:text/csv"))
    assert not page.all("link")
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)|fetch\(|XMLHttpRequest|\bimport\b\s*\(", text)


def test_nothing_of_a_name_becomes_markup(tmp_path: Path) -> None:
    page = Page(write_report(made(), tmp_path).read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1  # our own
    for tag in ("th", "p", "dd", "td"):
        assert NASTY in page.text(tag)
    assert '<script>alert("1")</script' in page.text("text")  # long labels are cut
    assert "{{ 7 * 7 }}" in page.text()
    assert "49" not in page.text("dd")


def test_every_part_is_in_the_page(tmp_path: Path) -> None:
    page = Page(write_report(made(), tmp_path).read_text(encoding="utf-8"))
    text = page.text()
    for part in (
        "multi-vs-single", "Is one model better", "First paragraph.", "Joint gains 3.2", "Only two species.", "cow_top",
        "−1,234.5", "[40.0, 47.2]", "recipe.epochs", "weights", "abc", '["a", "b"]',
    ):  # fmt: skip
        assert part in text, part


def test_tables_can_be_read_aloud(tmp_path: Path) -> None:
    page = Page(write_report(made(), tmp_path).read_text(encoding="utf-8"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert all(svg.get("role") == "img" and svg.get("aria-labelledby") for svg in page.all("svg"))
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    named = [str(a["aria-labelledby"]).split() for _, a in page.elements if a.get("aria-labelledby")]
    assert {one for names in named for one in names} <= set(ids)


def test_two_figures_share_no_id(tmp_path: Path) -> None:
    one = dots_or_bars("one", "T", ["a"], [1], [Series("m", [1.0])])
    page = Page(write_report(made(figures=(one, replace(made().figures[0]))), tmp_path).read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_cells_carry_what_they_are_sorted_by(tmp_path: Path) -> None:
    page = Page(write_report(made(figures=(), configs={}, passport={}), tmp_path).read_text(encoding="utf-8"))
    values = [cell.get("data-value") for cell in page.all("td")]
    missing = ["data-missing" in cell for cell in page.all("td")]
    assert values == ["43.4", "40.0", None, None, "-1234.5", "-3.0"]
    assert missing == [False, False, True, True, False, False]


def test_a_download_is_the_csv_beside_the_page(tmp_path: Path) -> None:
    page = Page(write_report(made(), tmp_path).read_text(encoding="utf-8"))
    links = {str(link["download"]): str(link["href"]) for link in page.all("a")}
    assert set(links) == {"scores.csv", "top1.csv"}
    for name, link in links.items():
        content = base64.b64decode(link.split("base64,")[1]).decode()
        assert content == (tmp_path / name).read_text(encoding="utf-8")
        assert NASTY in next(iter(list(csv.reader(io.StringIO(content)))[1:]))[0]


def test_json_holds_all_of_it(tmp_path: Path) -> None:
    write_report(made(), tmp_path)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert found["experiment"] == "multi-vs-single"
    assert found["tables"][0]["rows"][0] == {"species": NASTY, "top1": 43.4, "ci": [40.0, 47.25]}
    assert found["figures"][0]["data"]["rows"][0]["top_1_m"] == 1.0
    assert found["configs"]["joint"] == {"recipe": {"epochs": 30, "rate": 0.001}, "seed": 0}
    assert found["passport"] == {"weights": "abc", "path": "a/b", "sizes": [1, 2], "seen": ["a", "b"]}
    assert found["left_out"] == [{"what": "cow_top", "reason": f"two individuals {NASTY}"}]
    assert (found["method"][0], found["findings"], found["warnings"]) == (
        "First paragraph.", ["Joint gains 3.2 points [1.0, 5.4]."], ["Only two species."],
    )  # fmt: skip


def test_markdown_holds_the_tables_and_shows_the_figures(tmp_path: Path) -> None:
    write_report(made(), tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| nyala | – | – |" in text
    assert "![Top-1](top1.svg)" in text
    assert "- Joint gains 3.2 points [1.0, 5.4]." in text
    assert "> **Note.** Only two species." in text
    assert "<script>" not in text


def test_settings_of_all_runs_are_told_once(tmp_path: Path) -> None:
    page = Page(write_report(made(), tmp_path).read_text(encoding="utf-8"))
    text = page.text("details")
    assert text.count("recipe.epochs") == 1
    assert text.count("seed") == 2
    assert "What all 2 runs have in common" in text


def test_shared_and_own_settings_are_all_settings() -> None:
    configs = {"a": {"x": "1", "y": "2"}, "b": {"x": "1", "y": "3"}, "c": {"x": "1"}}
    shared, own = report_module._shared_and_own(configs)
    assert shared == {"x": "1"}
    assert {label: {**shared, **mine} for label, mine in own.items()} == configs
    assert report_module._shared_and_own({"a": {"x": "1"}}) == ({}, {"a": {"x": "1"}})


def test_an_empty_report_says_so(tmp_path: Path) -> None:
    page = Page(write_report(Report("gallery-size", "How many?", (), ()), tmp_path).read_text(encoding="utf-8"))
    assert "No run was made." in page.text()
    assert not page.all("table")


def test_the_same_report_is_the_same_files(tmp_path: Path) -> None:
    write_report(made(), tmp_path / "a")
    write_report(made(), tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_second_report_takes_away_only_what_the_first_wrote(tmp_path: Path) -> None:
    write_report(made(), tmp_path)
    (tmp_path / "mine.csv").write_text("kept", encoding="utf-8")
    line = curves("sizes", "T", [], x="x", y="y")
    write_report(made(tables=(scores("other"),), figures=(line,)), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "mine.csv", "other.csv", "report.html", "report.json", "report.md", "sizes.csv", "sizes.svg",
    ]  # fmt: skip


@pytest.mark.parametrize("listed", ['["../victim.csv"]', '["/victim.csv"]', "7", "null", "{", '[["a"]]'])
def test_a_list_of_files_that_was_tampered_with_takes_nothing_away(listed: str, tmp_path: Path) -> None:
    (tmp_path / "victim.csv").write_text("kept", encoding="utf-8")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "report.json").write_text(f'{{"files": {listed}}}', encoding="utf-8")
    write_report(made(), folder)
    assert (tmp_path / "victim.csv").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize("bad", [float("nan"), object(), {"a": {1: [float("inf")]}}])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(bad: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"JSON"):
        write_report(made(passport={"bad": bad}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_is_used_once() -> None:
    with pytest.raises(ValueError, match="scores"):
        made(tables=(scores(), scores()))
    with pytest.raises(ValueError, match="report"):
        made(tables=(scores("report"),))
    with pytest.raises(ValueError, match="top1"):
        made(tables=(scores("top1"),))
