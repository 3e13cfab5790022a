from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from resight.experiments import drawing
from resight.experiments.figures import Figure, Gain, Line, Series, curves, dots_or_bars, gains, pairs, topk_panels
from resight.experiments.paper import table1

NASTY = '<b>"Ayo"</b> & \'Bo\' id="x" $a_b$ url(#y)\x0b'


def names_and_sizes(n: int) -> tuple[list[str], list[int | None]]:
    sets = table1()
    return [sets[i % 61].name for i in range(n)], [sets[i % 61].annotations for i in range(n)]


def series(label: str, n: int, shift: float = 0.0, *, intervals: bool = True) -> Series:
    values = [(37.0 * i + shift) % 101 for i in range(n)]
    return Series(label, values, [(max(0, v - 6), min(100, v + 6)) for v in values] if intervals else ())


def made(kind: str, n: int) -> Figure:
    species, sizes = names_and_sizes(n)
    one, two = series("joint", n), series("alone", n, 20)
    if kind == "dots":
        return dots_or_bars(kind, "Title", species, sizes, [one, two])
    if kind == "bars":
        return dots_or_bars(kind, "Title", species, sizes, [one, two, series("all others", n, 50)], style="bars")
    if kind == "topk":
        panels = {f"top-{k}": [series("joint", n, k), series("alone", n, 2 * k)] for k in (1, 5, 10, 20)}
        return topk_panels(kind, "Title", species, sizes, panels)
    if kind == "pairs":
        return pairs(kind, "Title", species, sizes, one, two, differences=[(-4.0, 9.0)] * n)
    if kind == "gains":
        return gains(kind, "Title", [gain(s, size or 0, (17 * i) % 60 - 20) for i, (s, size) in enumerate(
            zip(species, sizes, strict=True))])  # fmt: skip
    lines = [
        Line(label, [0, 25, 50, 100, 200], [None, 20, 30, 40, shift], panel=species[p])
        for p in range(min(n, 7))
        for label, shift in (("alone", 60), ("joint", 80), ("fine-tuned", 70))
    ]
    return curves(kind, "Title", lines, x="individuals in training", y="top-1")


def gain(species: str, size: int, points: float) -> Gain:
    verdict: Any = "gain" if points > 5 else "loss" if points < -5 else "no clear difference"
    return Gain(species, size, float(points), (points - 5.0, points + 5.0), verdict)


KINDS = ("dots", "bars", "topk", "pairs", "gains", "curves")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """The pictures behind the figures that a test makes."""
    pictures: list[Picture] = []

    def kept(picture: Picture, *_: str) -> str:
        pictures.append(picture)
        return ""

    monkeypatch.setattr(drawing, "svg", kept)
    return pictures


def boxes_of_texts(picture: Picture) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, and the room it takes in pixels."""
    with mpl.rc_context({"text.parse_math": False}):
        renderer = drawing.renderer_of(picture)
        picture.draw_without_rendering()
        hidden = {id(label) for axes in picture.axes for label in ticks_out_of_sight(axes)}
        texts = [text for text in picture.findobj(Text) if isinstance(text, Text) and id(text) not in hidden]
        drawn = [text for text in texts if text.get_visible() and text.get_text().strip()]
        return [(text.get_text(), text.get_window_extent(renderer)) for text in drawn]


def ticks_out_of_sight(axes: Axes) -> Iterator[Text]:
    """Labels that an axis keeps for places outside its limits; it does not draw them."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not low - 1e-6 <= tick.get_loc() <= high + 1e-6:
                yield from (tick.label1, tick.label2)


def overlapping(boxes: Sequence[tuple[str, Bbox]]) -> list[tuple[str, str]]:
    return [
        (a, b)
        for i, (a, box) in enumerate(boxes)
        for b, other in boxes[i + 1 :]
        if min(box.x1, other.x1) - max(box.x0, other.x0) > 0.5 and min(box.y1, other.y1) - max(box.y0, other.y0) > 0.5
    ]


@pytest.mark.parametrize("n", [1, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_no_labels_overlap_and_none_leaves_the_picture(kind: str, n: int, drawn: list[Picture]) -> None:
    made(kind, n)
    (picture,) = drawn
    boxes = boxes_of_texts(picture)
    assert len(boxes) >= n if kind in ("dots", "bars", "topk", "pairs") else len(boxes) > 4
    assert overlapping(boxes) == []
    whole = picture.bbox
    assert [t for t, b in boxes if b.x0 < -1 or b.y0 < -1 or b.x1 > whole.x1 + 1 or b.y1 > whole.y1 + 1] == []


def test_the_check_for_overlaps_can_fail() -> None:
    picture = Picture(figsize=(3, 3))
    picture.text(0.5, 0.5, "one")
    picture.text(0.52, 0.5, "two")
    assert overlapping(boxes_of_texts(picture)) == [("one", "two")]


def test_long_and_many_names_have_room(drawn: list[Picture]) -> None:
    species = [f"{'an_uncommonly_long_name_of_a_subspecies_' * 3}{i}" for i in range(9)]
    labels = [f"a model whose name tells its whole recipe, number {i}, {'and more ' * 5}" for i in range(9)]
    dots_or_bars("dots", "T", species, list(range(9)), [series(label, 9, i) for i, label in enumerate(labels)])
    boxes = boxes_of_texts(drawn[0])
    assert overlapping(boxes) == []
    assert all(box.x0 >= 0 and box.x1 <= drawn[0].bbox.x1 for _, box in boxes)


@pytest.mark.parametrize("positions", [list(range(1, 11)), [0, 25, 50, 100, 200], [1, 2, 3, 4, 1000], [7], []])
def test_positions_of_curves_do_not_crowd(positions: list[float], drawn: list[Picture]) -> None:
    values = [50.0 for _ in positions]
    curves("c", "T", [Line("a", positions, values, values, values)], x="size", y="top-1")
    assert overlapping(boxes_of_texts(drawn[0])) == []


@pytest.mark.parametrize("panels", [1, 2, 5])
def test_long_names_of_axes_are_broken_into_lines(panels: int, drawn: list[Picture]) -> None:
    lines = [Line("m", [1, 2, 10], [3, 4, 5], panel=f"panel {i}") for i in range(panels)]
    curves(
        "c",
        "T",
        lines,
        x="annotations of one identity in the gallery, at most",
        y="mean top-1 of all species and draws",
    )
    boxes = boxes_of_texts(drawn[0])
    assert overlapping(boxes) == []
    whole = drawn[0].bbox
    assert [text for text, b in boxes if b.x0 < 0 or b.y0 < 0 or b.x1 > whole.x1 or b.y1 > whole.y1] == []


def test_species_stand_in_order_of_annotations(drawn: list[Picture]) -> None:
    figure = dots_or_bars("d", "T", ["b", "a", "c", "n"], [2000, 10, 300, None], [series("m", 4)])
    axes = drawn[0].axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["a (10)", "c (300)", "b (2,000)", "n"]
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first stands on top
    assert figure.data.cells("species") == ["a", "c", "b", "n"]
    assert figure.data.cells("top_1_m") == [37.0, 74.0, 0.0, 10.0]
    assert figure.data.cells("top_1_m_ci95")[0] == (31.0, 43.0)
    places = sorted(float(y) for line in axes.lines for y in line.get_ydata() if line.get_marker() == "o")
    assert places == [0, 1, 2, 3]


def test_marks_stand_at_their_values(drawn: list[Picture]) -> None:
    dots_or_bars("d", "T", ["a", "b"], [1, 2], [Series("m", [12.5, None]), Series("k", [0.0, 100.0])])
    points = {
        line.get_marker(): [float(x) for x in line.get_xdata()]
        for line in drawn[0].axes[0].lines
        if line.get_marker() in "os"
    }
    assert points == {"o": [12.5], "s": [0.0, 100.0]}


@pytest.mark.parametrize("kind", ["dots", "bars", "topk", "pairs"])
def test_a_percentage_goes_from_0_to_100(kind: str, drawn: list[Picture]) -> None:
    made(kind, 3)
    percent = [axes for axes in drawn[0].axes if axes.get_xlabel().endswith("(%)")]
    assert len(percent) == {"topk": 4}.get(kind, 1)
    assert all(axes.get_xlim() == (0, 100) for axes in percent)


def test_an_axis_that_is_no_percentage_fits_its_values(drawn: list[Picture]) -> None:
    dots_or_bars("d", "T", ["a", "b"], [1, 2], [Series("m", [0.5, 2.0])], measure="seconds", percent=False)
    low, high = drawn[0].axes[0].get_xlim()
    assert low < 0.5 < 2.0 < high < 10


@pytest.mark.parametrize("kind", ["dots", "pairs", "curves"])
def test_models_differ_without_colour(kind: str, drawn: list[Picture]) -> None:
    made(kind, 3)
    (legend,) = drawn[0].legends
    marks = [(h.get_marker(), str(h.get_markerfacecolor()) == "white", h.get_linestyle()) for h in legend.get_lines()]
    assert len(marks) == len(set(marks)) >= 2


def test_bars_differ_without_colour(drawn: list[Picture]) -> None:
    made("bars", 3)
    hatches = [patch.get_hatch() for patch in drawn[0].legends[0].get_patches()]
    assert len(set(hatches)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_numbers_give_the_same_bytes(kind: str) -> None:
    first, second = made(kind, 3), made(kind, 3)
    assert first.svg == second.svg
    assert not re.search(r"20\d\d-\d\d-\d\d", first.svg)


@pytest.mark.parametrize("kind", KINDS)
def test_the_svg_stands_alone_and_within_a_page(kind: str) -> None:
    figure = made(kind, 3)
    assert figure.svg.startswith("<svg")
    root = ET.fromstring(figure.svg)
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", f"{kind}-title {kind}-desc")
    assert root[0].text == "Title"
    assert (root[1].text or "") == figure.caption
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert all(str(one).startswith(f"{kind}-") for one in ids)
    wanted = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', figure.svg)
    assert {a or b for a, b in wanted} <= set(ids)
    # Namespaces aside, no address.
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", figure.svg)


def test_text_stays_text() -> None:
    svg = made("dots", 3).svg
    assert "amur_tiger (1,015)" in "".join(ET.fromstring(svg).itertext())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [NASTY, "日本猿", "", "$x^{", "a\nb", "x" * 500])
def test_any_name_can_be_drawn(name: str) -> None:
    draws: list[Callable[[], Figure]] = [
        lambda: dots_or_bars("a", name, [name, "b"], [1, 2], [series(name, 2), series("m", 2)], caption=name),
        lambda: gains("b", name, [gain(name, 5, 3), gain("b", 50, 9)]),
        lambda: curves("c", name, [Line(name, [1, 2], [3, 4], panel=name)], x="x", y="y"),
        lambda: pairs("d", name, [name], [1], series(name, 1), series("m", 1)),
    ]
    for draw in draws:
        figure = draw()
        root = ET.fromstring(figure.svg)
        assert root.find(".//*[@id='x']") is None
        if name == NASTY:
            assert '<b>"Ayo"</b> & \'Bo\' id="x" $a_b$' in "".join(root.itertext())


def test_what_is_not_known_is_left_out_of_the_picture_and_empty_in_the_data() -> None:
    figure = dots_or_bars("d", "T", ["a", "b"], [1, 2], [Series("m", [None, 5.0], [None, None])])
    assert figure.data.cells("top_1_m") == [None, 5.0]
    assert pairs("p", "T", ["a"], [1], Series("m", [None]), Series("k", [3.0])).data.cells("difference") == [None]


def test_nothing_can_be_drawn(drawn: list[Picture]) -> None:
    dots_or_bars("a", "T", [], [], [Series("m", [])])
    topk_panels("b", "T", [], [], {"top-1": [Series("m", [])]})
    pairs("c", "T", [], [], Series("m", []), Series("k", []))
    gains("d", "T", [])
    curves("e", "T", [], x="x", y="y")
    assert len(drawn) == 5


def test_two_models_of_one_name_keep_their_columns() -> None:
    figure = dots_or_bars("d", "T", ["a"], [1], [Series("m", [1.0]), Series("m", [2.0])])
    assert [column.key for column in figure.data.columns] == ["species", "annotations", "top_1_m", "top_1_m_2"]


def test_pairs_tell_what_the_second_has_more() -> None:
    figure = pairs("p", "T", ["a"], [1], Series("old", [30.0]), Series("new", [42.5]), differences=[(2.0, 21.0)])
    assert figure.data.cells("difference") == [12.5]
    assert figure.data.cells("difference_ci95") == [(2.0, 21.0)]
    assert "new minus old" in figure.caption


def test_gains_hold_every_point_and_draw_every_bar(drawn: list[Picture]) -> None:
    points = [gain("b", 1000, 12), gain("a", 0, -9), gain("c", 100, 1)]
    figure = gains("g", "T", points)
    assert figure.data.cells("species") == ["a", "c", "b"]
    assert figure.data.cells("ci95") == [(-14.0, -4.0), (-4.0, 6.0), (7.0, 17.0)]
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == "log"
    ends = {
        (float(line.get_ydata()[0]), float(line.get_ydata()[1])) for line in axes.lines if len(line.get_xdata()) == 2
    }
    assert {(-14.0, -4.0), (-4.0, 6.0), (7.0, 17.0)} <= ends
    low, high = axes.get_xlim()
    assert low < 1 < 1000 < high
    assert {text.get_text() for text in axes.texts} == {"a", "b", "c"}


def test_curves_keep_gaps_and_bands(drawn: list[Picture]) -> None:
    figure = curves("c", "T", [Line("m", [1, 2, 3], [1.0, None, 3.0], [0, None, 2], [2, None, 4])], x="k", y="top-1")
    assert figure.data.cells("y") == [1.0, None, 3.0]
    assert figure.data.cells("low") == [0, None, 2]
    assert len(drawn[0].axes[0].collections) == 1
    assert drawn[0].axes[0].get_ylim() == (0, 100)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="2 species and 1 numbers"):
        dots_or_bars("d", "T", ["a", "b"], [1], [series("m", 2)])
    with pytest.raises(ValueError, match="'m' has 1 values"):
        dots_or_bars("d", "T", ["a", "b"], [1, 2], [series("m", 1)])
    with pytest.raises(ValueError, match="3 positions, 2 values"):
        curves("c", "T", [Line("m", [1, 2, 3], [1, 2])], x="x", y="y")
    with pytest.raises(ValueError, match="must show the same models"):
        topk_panels("t", "T", ["a"], [1], {"top-1": [series("m", 1)], "top-5": [series("k", 1)]})


def test_a_users_matplotlibrc_changes_nothing() -> None:
    plain = made("dots", 3).svg
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert made("dots", 3).svg == plain
        assert mpl.rcParams["font.size"] == 30
