from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resight.errors import InputError
from resight.matching.candidates import Candidate, Match, NamedCandidate
from resight.matching.pictures import PairLines, PairPicture, heat_overlay
from resight.matching.sheet import SheetEntry, write_sheet

from ..made_up import encoded, noise

QUERY, CANDIDATE = encoded(noise(1), "JPEG"), encoded(noise(2), "JPEG")  # 32 x 24 pixels each
HEAT = heat_overlay(np.eye(4))
LINES = PairLines(
    np.array([(0.5, 0.25), (0, 0)], np.float32), np.array([(1, 1), (0, 0.5)], np.float32),
    np.array([0.95, 0.15], np.float32), 83,
)  # fmt: skip
NASTY = '<b>Ayo</b> & "Bo" <script>alert(1)</script>'


class Page(HTMLParser):
    """What a browser would find: the elements, what they ask for, and the text."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.inside: list[int] = []
        self.parents: list[int] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.parents.append(self.inside[-1] if self.inside else -1)
        if tag not in self.VOID:
            self.inside.append(len(self.elements) - 1)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.inside.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def ancestors(self, number: int) -> list[int]:
        """An element and what it lies in, innermost first."""
        found = [number]
        while self.parents[found[-1]] >= 0:
            found.append(self.parents[found[-1]])
        return found

    def classed(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.elements if attributes.get("class") == name]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def url(content: bytes, kind: str = "jpeg") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


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
    assert [image["href"] for image in page.all("image")] == [url(QUERY)] * 2
    assert [image["src"] for image in page.all("img")] == [url(CANDIDATE)] * 3
    assert len(page.all("figure")) == 3
    for word in (
        "new photo.jpg", "zebra · seen from the left", "Ayo", "Bo", "not identified", "0.900", "0.800", "0.700",
        "encounter e1", "encounter unknown", "viewpoint unknown", "dir/3.jpg", "2023-04-05", "model my-run",
        "/data/reserve", "In the catalogue as Ayo.",
    ):  # fmt: skip
        assert word in page.text, word
    assert page.open == []
    assert text.startswith("<!doctype html>")


def test_the_page_says_with_how_many_it_compared_and_what_was_left_out(tmp_path: Path) -> None:
    _, page = page_of(tmp_path, SheetEntry(match(), (QUERY,)))
    assert "Compared with 12,345 of 12,400: 50 other side, 5 same photo." in page.text
    _, page = page_of(tmp_path, SheetEntry(match(excluded={}, compared=3, of=3), (QUERY,)))
    assert "Compared with 3 of 3." in page.text
    widened = match(candidates=(candidate(1, "Ayo", despite=("other side",)),), included={"other side": 50})
    _, page = page_of(tmp_path, SheetEntry(widened, (QUERY,)))
    assert f"{widened.told()[1:]}." in page.text
    assert "compared although: other side" in page.text


def test_the_page_asks_for_nothing_from_elsewhere_and_runs_nothing(tmp_path: Path) -> None:
    text, page = page_of(tmp_path, SheetEntry(match(), (QUERY,), {"c1": PairPicture(LINES, HEAT, HEAT)}))
    own = {f"#{attributes['id']}" for _, attributes in page.elements if "id" in attributes}
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "srcset", "data", "action", "poster"}:
                assert (value or "").startswith("data:") or value in own
    assert not re.search(r"https?://|url\(|@import", text)


def test_the_page_fits_a_phone(tmp_path: Path) -> None:
    text, page = page_of(tmp_path, SheetEntry(match(), (QUERY,)))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert {"charset": "utf-8"} in page.all("meta")
    assert "@media (max-width: 44rem)" in text
    assert len(page.classed("grid")) == 1
    _, page = page_of(tmp_path, SheetEntry(match(), (QUERY,), {"c1": PairPicture(LINES)}))
    assert len(page.classed("grid pairs")) == 1  # two pictures want twice the width


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    nasty = match(
        image=NASTY,
        species=NASTY,
        viewpoint=NASTY,
        note=NASTY,
        excluded={NASTY: 1},
        p_new_note=NASTY,
        candidates=tuple(
            candidate(
                rank,
                NASTY,
                viewpoint=NASTY,
                encounter=NASTY,
                file_name=NASTY,
                proposed=(NASTY,),
                despite=(NASTY,),
                reasons=(NASTY, f"{rank} {NASTY}"),
            )
            for rank in (1, 2)
        ),
        individuals=(NamedCandidate(1, NASTY, "c1", 0.9, None),),
    )
    entry = SheetEntry(nasty, (QUERY,), {"c1": PairPicture(LINES)})
    text, page = page_of(tmp_path, entry, model=NASTY, project=NASTY, details={"c1": NASTY})
    assert "<b>" not in text
    assert "<script" not in text
    assert page.text.count(" ".join(NASTY.split())) >= 25
    query, pair = page.all("svg")
    assert query["aria-label"] == f"Query {Path(NASTY).name}"
    assert pair["aria-label"] == f"The query and candidate 1, {NASTY}, with 2 of 83 matched points"
    assert page.all("img")[0]["alt"] == f"Candidate 2, {NASTY}"


def test_a_photo_that_cannot_be_read_and_a_name_that_is_not_known_are_said(tmp_path: Path) -> None:
    alone = match(candidates=(candidate(1, None),), individuals=())
    _, page = page_of(tmp_path, SheetEntry(alone, (QUERY,)), preview_of=lambda _: None)
    assert "photo cannot be read" in page.text
    assert page.all("img") == []
    assert "There was nothing to compare with." not in page.text
    _, page = page_of(tmp_path, SheetEntry(match(candidates=(), individuals=(), compared=0), (QUERY,)))
    assert "There was nothing to compare with." in page.text
    said = match(candidates=(), individuals=(), compared=0, p_new_note="There was nothing to compare with.")
    _, page = page_of(tmp_path, SheetEntry(said, (QUERY,)))
    assert page.text.count("There was nothing to compare with.") == 1


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


def test_without_a_calibration_no_probability_is_shown_and_the_page_says_how_to_get_one(tmp_path: Path) -> None:
    _, page = page_of(tmp_path, SheetEntry(match(), (QUERY,)))
    assert "Scores are cosines, not probabilities: this catalogue has not been calibrated." in page.text
    assert "resight calibrate --split SPLIT" in page.text
    assert "P(same)" not in page.text
    assert "P(new)" not in page.text
    assert " %" not in visible(page)
    assert not page.classed("verdict")


def test_where_the_calibration_gives_none_the_page_says_why(tmp_path: Path) -> None:
    _, page = page_of(tmp_path, SheetEntry(match(p_new_note="not enough confirmed pairs of zebra"), (QUERY,)))
    assert "Not enough confirmed pairs of zebra. Compared with" in page.text
    assert "Scores are cosines, not probabilities." in page.text
    assert "resight calibrate" not in page.text
    assert not page.classed("verdict")


def test_probabilities_are_shown_with_their_intervals(tmp_path: Path) -> None:
    calibrated = match(
        p_new=0.12,
        p_new_ci95=(0.05, 0.25),
        candidates=(
            candidate(1, "Ayo", p_same=0.93, p_same_ci95=(0.85, 0.97)),
            candidate(2, "Bo", p_same=0.2),
            candidate(3, "Cleo"),
        ),
        individuals=(
            NamedCandidate(1, "Ayo", "c1", 0.9, 0.93, (0.85, 0.97)),
            NamedCandidate(2, "Bo", "c2", 0.8, 0.2),
            NamedCandidate(3, "Cleo", "c3", 0.7, None),
        ),
        reranked=True,
    )
    _, page = page_of(tmp_path, SheetEntry(calibrated, (QUERY,)))
    for words in (
        "Probably known: P(new) 12 % (5–25).", "Ayo 93 % (85–97) Bo 20 % Cleo 0.700",
        "93 % (85–97) cosine 0.900 1. Ayo", "20 % cosine 0.800 2. Bo", "0.700 3. Cleo", "A percentage is P(same)",
        "not of their cosines",
    ):  # fmt: skip
        assert words in page.text, words
    assert "not probabilities" not in page.text
    assert "resight calibrate" not in page.text
    assert [bar["style"] for bar in page.all("i")] == ["width: 93.0%", "width: 20.0%", "width: 70.0%"]


def test_a_probability_of_nought_is_one(tmp_path: Path) -> None:
    sure = match(p_new=0.0, candidates=(candidate(1, "Ayo", p_same=0.0, p_same_ci95=(0.0, 0.0)),))
    _, page = page_of(tmp_path, SheetEntry(sure, (QUERY,)))
    assert "Probably known: P(new) <1 %, but no candidate stands out, the best has <1 %." in page.text
    assert "<1 % (<1–<1)" in page.text
    assert [bar["style"] for bar in page.all("i")] == ["width: 0.0%"]


def test_reasons_of_every_candidate_are_said_once(tmp_path: Path) -> None:
    reasons = [("83 points match", "rests on 9 pairs"), ("no points match", "rests on 9 pairs")]
    shown = tuple(candidate(rank, "Ayo", reasons=own) for rank, own in enumerate(reasons, start=1))
    _, page = page_of(tmp_path, SheetEntry(match(candidates=shown), (QUERY,)))
    for words in ("83 points match", "no points match", "rests on 9 pairs"):
        assert page.text.count(words) == 1
    assert page.text.index("rests on 9 pairs") < page.text.index("1. Ayo") < page.text.index("no points match")
    _, page = page_of(tmp_path, SheetEntry(match(candidates=shown[:1]), (QUERY,)))
    assert page.text.index("1. Ayo") < page.text.index("rests on 9 pairs")


def test_lines_lie_over_the_query_and_the_candidate_side_by_side(tmp_path: Path) -> None:
    _, page = page_of(tmp_path, SheetEntry(match(), (QUERY, QUERY), {"c1": PairPicture(LINES, photo=1)}))
    # Both pictures are 32 x 24 pixels: 133.3 x 100 units each, with a gap of 2.
    pair = page.all("svg")[2]
    assert pair["viewbox"] == "0 0 268.6 100.0"
    (used,) = page.all("use")
    assert used["href"] == "#photo-1-2"
    across, down = (float(number) for number in re.findall(r"[\d.]+", used["transform"] or ""))
    assert across == pytest.approx(133.3 / 32)
    assert down == pytest.approx(100 / 24)
    *queries, image = page.all("image")
    assert [query["id"] for query in queries] == ["photo-1-1", "photo-1-2"]
    assert {key: image[key] for key in ("x", "width", "height", "preserveaspectratio", "href")} == {
        "x": "135.3", "width": "133.3", "height": "100.0", "preserveaspectratio": "none", "href": url(CANDIDATE),
    }  # fmt: skip
    assert [(path["class"], path["d"]) for path in page.all("path")] == [
        ("step-0", "M0.0 0.0L135.3 50.0"),
        ("end step-0", "M0.0 0.0h0M135.3 50.0h0"),
        ("step-4", "M66.7 25.0L268.6 100.0"),
        ("end step-4", "M66.7 25.0h0M268.6 100.0h0"),
    ]
    assert len(page.all("img")) == 2


def test_heat_lies_over_the_picture_that_it_is_of(tmp_path: Path) -> None:
    other = heat_overlay(np.eye(4)[::-1])
    _, page = page_of(tmp_path, SheetEntry(match(), (QUERY,), {"c3": PairPicture(None, HEAT, other)}))
    heats = [image for image in page.all("image") if image.get("class") == "heat"]
    assert [(heat.get("x"), heat["href"]) for heat in heats] == [(None, url(HEAT, "png")), ("135.3", url(other, "png"))]
    assert all((heat["width"], heat["height"]) == ("133.3", "100.0") for heat in heats)
    assert page.all("path") == []


@pytest.mark.parametrize(
    ("picture", "switches"),
    [
        (PairPicture(LINES, HEAT), {"show-lines": True, "show-heat": False}),
        (PairPicture(LINES), {"show-lines": True}),
        (PairPicture(None, None, HEAT), {"show-heat": False}),
        (PairPicture(), {}),
        (None, {}),
    ],
)
def test_lines_and_heat_are_switched_by_style_alone(
    tmp_path: Path, picture: PairPicture | None, switches: dict[str, bool]
) -> None:
    pairs = {} if picture is None else {"c1": picture}
    text, page = page_of(tmp_path, SheetEntry(match(), (QUERY,), pairs))
    boxes = {box["id"]: "checked" in box for box in page.all("input") if box["type"] == "checkbox"}
    assert boxes == switches
    assert [label["for"] for label in page.all("label")] == list(switches)
    main = page.elements.index(("main", {}))
    for number, (tag, attributes) in enumerate(page.elements):
        if tag == "input":  # the rule reaches what comes after the box, inside its later siblings
            assert page.parents[number] == main
        if attributes.get("class") in ("lines", "heat"):
            ancestors = page.ancestors(number)
            sibling = ancestors[ancestors.index(main) - 1]
            assert sibling > max(place for place, (name, _) in enumerate(page.elements) if name == "input")
    assert "#show-lines:not(:checked) ~ * .lines, #show-heat:not(:checked) ~ * .heat { display: none; }" in text


def test_a_pair_needs_both_pictures(tmp_path: Path) -> None:
    pairs = {"c1": PairPicture(LINES, HEAT), "c2": PairPicture(LINES, photo=1), "c3": PairPicture(LINES)}
    preview = {"c1": None, "c2": CANDIDATE, "c3": CANDIDATE}.__getitem__
    _, page = page_of(tmp_path, SheetEntry(match(), (QUERY,), pairs), preview_of=preview)
    assert "photo cannot be read" in page.text
    assert len(page.all("img")) == 1
    assert len(page.all("use")) == 1


def test_cards_are_alike_side_by_side_or_not(tmp_path: Path) -> None:
    for first, used in ((PairPicture(LINES), 3), (PairPicture(), 0)):
        pairs = {"c1": first, "c2": PairPicture(), "c3": PairPicture()}
        _, page = page_of(tmp_path, SheetEntry(match(), (QUERY,), pairs))
        assert len(page.all("use")) == used
        assert len(page.all("img")) == 3 - used


def test_each_query_has_its_own_photo_in_the_page_once(tmp_path: Path) -> None:
    second = encoded(noise(3), "JPEG")
    pairs = {name: PairPicture(LINES) for name in ("c1", "c2", "c3")}
    text, page = page_of(tmp_path, SheetEntry(match(), (QUERY,), pairs), SheetEntry(match(), (second,), pairs))
    assert text.count(url(QUERY)) == text.count(url(second)) == 1
    assert [used["href"] for used in page.all("use")] == ["#photo-1-1"] * 3 + ["#photo-2-1"] * 3


def test_lines_and_heat_add_little_to_the_page(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    points = random.random((2, 60, 2)).astype(np.float32)
    many = PairLines(points[0], points[1], random.random(60).astype(np.float32), 60)
    heat = heat_overlay(random.random((8, 8)))
    shown = match(candidates=tuple(candidate(rank, "Ayo") for rank in range(1, 21)))
    bare, _ = page_of(tmp_path, SheetEntry(shown, (QUERY,)))
    pairs = {one.annotation_id: PairPicture(many, heat, heat) for one in shown.candidates}
    full, _ = page_of(tmp_path, SheetEntry(shown, (QUERY,), pairs))
    assert len(full) - len(bare) < 20 * 14_000
    lines_only, _ = page_of(tmp_path, SheetEntry(shown, (QUERY,), {key: PairPicture(many) for key in pairs}))
    assert len(lines_only) - len(bare) < 20 * 5_000


def visible(page: Page) -> str:
    """The text behind the styles."""
    return page.text.split("}")[-1]
