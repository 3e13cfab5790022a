from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from resight.errors import InputError
from resight.matching.candidates import Candidate, Match, NamedCandidate
from resight.matching.sheet import SheetEntry, write_sheet

from ..made_up import encoded, noise

QUERY, CANDIDATE = encoded(noise(1), "JPEG"), encoded(noise(2), "JPEG")
NASTY = '<b>Ayo</b> & "Bo" <script>alert(1)</script>'


class Page(HTMLParser):
    """What a browser would find: the elements, what they ask for, and the text."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def candidate(rank: int, name: str | None, **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "rank": rank, "annotation_id": f"c{rank}", "individual_id": name, "score": 1 - rank / 10, "p_same": None,
        "viewpoint": "left", "encounter": f"e{rank}", "file_name": f"dir/{rank}.jpg",
    }  # fmt: skip
    return Candidate(**{**values, **changes})


def match(**changes: Any) -> Match:
    values: dict[str, Any] = {
        "image": "new photo.jpg",
        "species": "zebra",
        "viewpoint": "left",
        "compared": 12_345,
        "of": 12_400,
        "excluded": {"other side": 50, "same photo": 5},
        "p_new": None,
        "candidates": (candidate(1, "Ayo"), candidate(2, None, viewpoint=None, encounter=None), candidate(3, "Bo")),
        "individuals": (NamedCandidate(1, "Ayo", "c1", 0.9, None), NamedCandidate(2, "Bo", "c3", 0.7, None)),
    }
    return Match(**{"model": "my-run", "boxes": (None,), **values, **changes})


def page_of(tmp_path: Path, *entries: SheetEntry, **changes: Any) -> tuple[str, Page]:
    values: dict[str, Any] = {"model": "my-run", "project": "/data/reserve", "details": {"c1": "2023-04-05"}}
    preview = changes.pop("preview_of", lambda _: CANDIDATE)
    write_sheet(tmp_path / "sheet.html", entries, preview, **{**values, **changes})
    text = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_shows_the_query_beside_its_candidates(tmp_path: Path) -> None:
    text, page = page_of(tmp_path, SheetEntry(match(note="In the catalogue as Ayo."), (QUERY, QUERY)))
    pictures = [image["src"] for image in page.all("img")]
    as_url = [f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" for jpeg in (QUERY, CANDIDATE)]
    assert pictures == [as_url[0]] * 2 + [as_url[1]] * 3
    assert len(page.all("figure")) == 3
    for word in (
        "new photo.jpg", "zebra · seen from the left", "Ayo", "Bo", "not identified", "0.900", "0.800", "0.700",
        "encounter e1", "encounter unknown", "viewpoint unknown", "dir/3.jpg", "2023-04-05", "model my-run",
        "/data/reserve", "In the catalogue as Ayo.", "not probabilities",
    ):  # fmt: skip
        assert word in page.text, word
    assert page.open == []
    assert text.startswith("<!doctype html>")


def test_the_page_says_with_how_many_it_compared_and_what_was_left_out(tmp_path: Path) -> None:
    _, page = page_of(tmp_path, SheetEntry(match(), (QUERY,)))
    assert "Compared with 12,345 of 12,400 annotations; left out: 50 other side, 5 same photo." in page.text
    _, page = page_of(tmp_path, SheetEntry(match(excluded={}, compared=3, of=3), (QUERY,)))
    assert "Compared with 3 of 3 annotations." in page.text


def test_the_page_asks_for_nothing_from_elsewhere_and_runs_nothing(tmp_path: Path) -> None:
    text, page = page_of(tmp_path, SheetEntry(match(), (QUERY,)))
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "srcset", "data", "action", "poster"}:
                assert (value or "").startswith("data:")
    assert not re.search(r"https?://|url\(|@import", text)


def test_the_page_fits_a_phone(tmp_path: Path) -> None:
    text, page = page_of(tmp_path, SheetEntry(match(), (QUERY,)))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert {"charset": "utf-8"} in page.all("meta")
    assert "@media (max-width: 44rem)" in text


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    nasty = match(
        image=NASTY,
        species=NASTY,
        viewpoint=NASTY,
        note=NASTY,
        excluded={NASTY: 1},
        candidates=(candidate(1, NASTY, viewpoint=NASTY, encounter=NASTY, file_name=NASTY),),
        individuals=(NamedCandidate(1, NASTY, "c1", 0.9, None),),
    )
    text, page = page_of(tmp_path, SheetEntry(nasty, (QUERY,)), model=NASTY, project=NASTY, details={"c1": NASTY})
    assert "<b>" not in text
    assert "<script" not in text
    assert page.text.count(" ".join(NASTY.split())) >= 9
    assert page.all("img")[0]["alt"] == f"Query {Path(NASTY).name}"


def test_a_photo_that_cannot_be_read_and_a_name_that_is_not_known_are_said(tmp_path: Path) -> None:
    alone = match(candidates=(candidate(1, None),), individuals=())
    _, page = page_of(tmp_path, SheetEntry(alone, (QUERY,)), preview_of=lambda _: None)
    assert "photo cannot be read" in page.text
    assert len(page.all("img")) == 1
    assert "There was nothing to compare with." not in page.text
    _, page = page_of(tmp_path, SheetEntry(match(candidates=(), individuals=(), compared=0), (QUERY,)))
    assert "There was nothing to compare with." in page.text


def test_several_queries_are_one_page(tmp_path: Path) -> None:
    _, page = page_of(tmp_path, SheetEntry(match(image="one.jpg"), (QUERY,)), SheetEntry(match(image="two.jpg"), ()))
    assert len(page.all("section")) == 2
    assert "one.jpg" in page.text
    assert "two.jpg" in page.text


def test_a_bar_stays_within_its_card(tmp_path: Path) -> None:
    scores = (1.0000001, 0.5, -0.3)
    shown = tuple(candidate(rank, "Ayo", score=score) for rank, score in enumerate(scores, start=1))
    _, page = page_of(tmp_path, SheetEntry(match(candidates=shown), (QUERY,)))
    assert [bar["style"] for bar in page.all("i")] == ["width: 100.0%", "width: 50.0%", "width: 0.0%"]


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sheet.html").mkdir()
    with pytest.raises(InputError, match=r"sheet\.html cannot be written .*; name another file"):
        page_of(tmp_path, SheetEntry(match(), (QUERY,)))
