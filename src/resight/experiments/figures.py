"""The paper's figures for any species: drawn once as SVG, with the numbers beside as a table.

Every function takes plain numbers and gives a :class:`Figure`. Marks differ by shape and filling, bars by hatch and
lines by dash, so that nothing rests on colour. Rows of species grow the picture instead of crowding it. Text stays
text in the SVG, and the same numbers give the same bytes.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from resight.experiments import drawing
from resight.experiments.tables import Column, Table

Interval = tuple[float, float]
Style = Literal["dots", "bars"]


@dataclass(frozen=True)
class Figure:
    """A drawn figure.

    Attributes:
        name: The name of its files.
        title: One line.
        caption: What a reader must know to read it.
        svg: An ``<svg>`` element that stands alone as a file and within a page.
        data: The numbers it shows.
    """

    name: str
    title: str
    caption: str
    svg: str
    data: Table


@dataclass(frozen=True)
class Series:
    """One model's number for each species, in the order of the species.

    Attributes:
        label: The model.
        values: ``None`` where there is none.
        intervals: One for each value, or none at all.
    """

    label: str
    values: Sequence[float | None]
    intervals: Sequence[Interval | None] = ()


@dataclass(frozen=True)
class Gain:
    """What one species gains: ``size`` its training annotations, ``verdict`` whether the interval leaves 0 out."""

    species: str
    size: int
    gain: float
    interval: Interval | None
    verdict: Literal["gain", "loss", "no clear difference"]


@dataclass(frozen=True)
class Line:
    """One line of :func:`curves`.

    Attributes:
        label: What it is; the same label looks the same in every panel.
        x: Rising.
        y: One value a position; a gap where ``None``.
        low, high: The band, one pair a position; no band where empty.
        panel: Lines of one panel are drawn in one pair of axes.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = field(default=())
    high: Sequence[float | None] = field(default=())
    panel: str = ""


def dots_or_bars(
    name: str,
    title: str,
    species: Sequence[str],
    annotations: Sequence[int | None],
    series: Sequence[Series],
    *,
    measure: str = "top-1",
    caption: str = "",
    style: Style = "dots",
    percent: bool = True,
) -> Figure:
    """Species down the side by number of annotations, one or several models side by side (Figures 1 and 2).

    Args:
        name: The name of its files.
        title: One line.
        species: In any order.
        annotations: Of each species; those whose number is not known come last.
        series: The models.
        measure: What the axis shows.
        caption: More words under the figure; the order is always told.
        style: Dots take a row a species; bars take a row a species and model.
        percent: The axis goes from 0 to 100.
    """
    _check_lengths(species, annotations, series)
    order = _by_size(annotations)
    data = _species_table(name, title, species, annotations, {measure: series}, order, "%" if percent else "")
    with drawing.style():
        height = 0.2 if style == "dots" else 0.1 + 0.12 * len(series)
        picture, (axes,) = drawing.species_rows(species, annotations, order, 1, height, _legend_rows(series, 7.0))
        _draw_species(axes, order, series, style)
        _value_axis(axes, measure, percent)
        drawing.legend(picture, [axes], 7.0)
        caption = _join(caption, _ORDER_TOLD)
        return Figure(name, title, caption, drawing.svg(picture, name, title, caption), data)


def topk_panels(
    name: str,
    title: str,
    species: Sequence[str],
    annotations: Sequence[int | None],
    panels: Mapping[str, Sequence[Series]],
    *,
    caption: str = "",
) -> Figure:
    """The same rows of species once for each measure, such as top-1, top-5, top-10 and top-20 (Figures 5 to 12).

    Args:
        name: The name of its files.
        title: One line.
        species: In any order.
        annotations: Of each species.
        panels: Measure in percent → the models; each panel has the same models in the same order.
        caption: More words under the figure.
    """
    labels = {tuple(one.label for one in series) for series in panels.values()}
    if len(labels) != 1:
        raise ValueError(f"panels of figure {name} must show the same models; they show {sorted(labels)}")
    for series in panels.values():
        _check_lengths(species, annotations, series)
    order = _by_size(annotations)
    data = _species_table(name, title, species, annotations, panels, order, "%")
    with drawing.style():
        first = next(iter(panels.values()))
        picture, all_axes = drawing.species_rows(
            species, annotations, order, len(panels), 0.2, _legend_rows(first, 9.5)
        )
        for axes, (measure, series) in zip(all_axes, panels.items(), strict=True):
            _draw_species(axes, order, series, "dots")
            _value_axis(axes, measure, percent=True, wide=False)
        drawing.legend(picture, all_axes[:1], 9.5)
        caption = _join(caption, _ORDER_TOLD)
        return Figure(name, title, caption, drawing.svg(picture, name, title, caption), data)


def pairs(
    name: str,
    title: str,
    species: Sequence[str],
    annotations: Sequence[int | None],
    first: Series,
    second: Series,
    *,
    differences: Sequence[Interval | None] = (),
    measure: str = "top-1",
    caption: str = "",
) -> Figure:
    """Two models joined by a line for each species, and beside it what the second has more (Figure 4).

    Args:
        name: The name of its files.
        title: One line.
        species: In any order.
        annotations: Of each species.
        first: One model, in percent.
        second: The other.
        differences: Interval of second minus first for each species, or none at all.
        measure: What the axis shows.
        caption: More words under the figure.
    """
    _check_lengths(species, annotations, (first, second))
    gained = [
        None if a is None or b is None else float(b) - float(a)
        for a, b in zip(first.values, second.values, strict=True)
    ]
    difference = Series("difference", gained, differences)
    _check_lengths(species, annotations, (difference,))
    order = _by_size(annotations)
    groups = {measure: (first, second), "": (difference,)}
    data = _species_table(name, title, species, annotations, groups, order, "%")
    with drawing.style():
        picture, (left, right) = drawing.species_rows(
            species, annotations, order, 2, 0.2, _legend_rows((first, second), 8.0)
        )
        for row, index in enumerate(order):
            ends = [value for one in (first, second) if (value := one.values[index]) is not None]
            if len(ends) == 2:
                left.plot(ends, [row, row], color=drawing.QUIET, linewidth=1.5, zorder=1)
        _draw_species(left, order, (first, second), "dots")
        _value_axis(left, measure, percent=True)
        _draw_species(right, order, (difference,), "dots", colour=drawing.INK)
        right.axvline(0, color=drawing.INK, linewidth=0.8, zorder=1)
        reach = max([5.0, *(abs(end) for end in _ends((difference,)))]) * 1.08
        right.set_xlim(-reach, reach)
        right.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        right.set_xlabel("difference (points)")
        drawing.legend(picture, [left], 8.0)
        caption = _join(caption, f"On the right stands {second.label} minus {first.label}.", _ORDER_TOLD)
        return Figure(name, title, caption, drawing.svg(picture, name, title, caption), data)


def gains(
    name: str,
    title: str,
    points: Sequence[Gain],
    *,
    measure: str = "gain in top-1",
    size: str = "training annotations of the species",
    caption: str = "",
) -> Figure:
    """Gain of each species with its interval, against the size of its training set on a logarithmic axis.

    Names are written beside the points where there is room for them, the largest differences first; the data holds
    them all. A size of 0 is drawn at 1.
    """
    columns = (
        Column("species", "Species"),
        Column("size", size[:1].upper() + size[1:]),
        Column("gain", measure[:1].upper() + measure[1:], "points"),
        Column("ci95", "95 % interval", "points", interval=True),
        Column("verdict", "Verdict"),
    )
    rows = [
        {"species": p.species, "size": p.size, "gain": p.gain, "ci95": p.interval, "verdict": p.verdict}
        for p in sorted(points, key=lambda p: (p.size, p.species))
    ]
    data = Table(name, title, columns, rows)
    with drawing.style():
        picture = Picture(figsize=(8.0, 5.2))
        axes = picture.subplots()
        picture.subplots_adjust(left=0.09, right=0.98, top=0.9, bottom=0.11)
        axes.axhline(0, color=drawing.INK, linewidth=0.8, zorder=1)
        for verdict, marker, filled in (("gain", "^", True), ("no clear difference", "o", False), ("loss", "v", True)):
            chosen = [p for p in points if p.verdict == verdict]
            for p in chosen:
                if p.interval is not None:
                    axes.plot([max(p.size, 1)] * 2, p.interval, color=drawing.QUIET, linewidth=1.2, zorder=2)
            axes.plot(
                [max(p.size, 1) for p in chosen], [p.gain for p in chosen], marker, markersize=6, color=drawing.INK,
                markerfacecolor=drawing.INK if filled else "white", zorder=3, label=f"{verdict} ({len(chosen)})",
            )  # fmt: skip
        sizes = [max(p.size, 1) for p in points] or [1]
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
        heights = [0.0, *(p.gain for p in points), *(end for p in points for end in p.interval or ())]
        margin = max(2.0, 0.08 * (max(heights) - min(heights)))
        axes.set_ylim(min(heights) - margin, max(heights) + margin)
        drawing.log_ticks(axes)
        axes.set_xlabel(size)
        axes.set_ylabel(f"{measure} (points)")
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3, frameon=False)
        _name_points(picture, axes, points)
        told = "Bars are 95 % intervals. A name stands beside a point where there is room; the data has them all."
        caption = _join(caption, told, "A size of 0 stands at 1." if any(p.size == 0 for p in points) else "")
        return Figure(name, title, caption, drawing.svg(picture, name, title, caption), data)


def curves(
    name: str,
    title: str,
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    percent: bool = True,
    caption: str = "",
) -> Figure:
    """Lines with bands, one pair of axes a panel: gallery size (Figure 3), number of individuals (Tables 4 and 5).

    Args:
        name: The name of its files.
        title: One line.
        lines: In order; panels in order of their first line.
        x: What the horizontal axis shows.
        y: What the vertical axis shows.
        percent: The vertical axis goes from 0 to 100.
        caption: More words under the figure.
    """
    for line in lines:
        for values in (line.y, line.low or line.y, line.high or line.y):
            if len(values) != len(line.x):
                raise ValueError(f"line {line.label!r} of figure {name}: {len(line.x)} positions, {len(values)} values")
    data = _line_table(name, title, lines, x, y, "%" if percent else "")
    panels = list(dict.fromkeys(line.panel for line in lines)) or [""]
    labels = list(dict.fromkeys(line.label for line in lines))
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    width = {1: 6.4, 2: 7.6, 3: 9.6}[across]
    legend_rows = drawing.legend_rows(labels, width)
    titled = 0.3 if any(panels) else 0.1
    plot_width, plot_height = width / across - 0.8, 2.6 if down == across == 1 else 1.65
    below = textwrap.wrap(x, int(plot_width / drawing.LETTER)) or [""]
    aside = textwrap.wrap(f"{y} (%)" if percent else y, int(plot_height / drawing.LETTER)) or [""]
    under, left = 0.38 + 0.14 * len(below), 0.48 + 0.14 * len(aside)
    with drawing.style():
        top, row_height = 0.15 + 0.22 * legend_rows, plot_height + titled + under + 0.1
        height = top + down * row_height
        picture = Picture(figsize=(width, height))
        grid = picture.subplots(down, across, squeeze=False)
        picture.subplots_adjust(
            left=left / width, right=1 - 0.15 / width, top=1 - (top + titled) / height, bottom=under / height,
            hspace=(row_height - plot_height) / plot_height, wspace=left / plot_width,
        )  # fmt: skip
        for axes, panel in zip(grid.flat, panels, strict=False):
            mine = [line for line in lines if line.panel == panel]
            for line in mine:
                _draw_line(axes, line, labels.index(line.label))
            axes.set_title(drawing.clean(panel, 34), fontsize=9, loc="left")
            axes.set_xlabel("\n".join(below))
            axes.set_ylabel("\n".join(aside))
            axes.grid(color="#e4e4e4", linewidth=0.6)
            if percent:
                axes.set_ylim(0, 100)
            drawing.position_ticks(axes, sorted({float(at) for line in mine for at in line.x}), plot_width)
        for axes in list(grid.flat)[len(panels) :]:
            axes.remove()
        drawing.legend(picture, grid.flat[: len(panels)], width)
        return Figure(name, title, caption, drawing.svg(picture, name, title, caption), data)


_ORDER_TOLD = "Species are in order of their number of annotations, the fewest on top; the number stands in brackets."


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _legend_rows(series: Sequence[Series], width: float) -> int:
    return drawing.legend_rows([one.label for one in series], width)


def _check_lengths(species: Sequence[str], annotations: Sequence[int | None], series: Iterable[Series]) -> None:
    if len(annotations) != len(species):
        raise ValueError(f"{len(species)} species and {len(annotations)} numbers of annotations")
    for one in series:
        if len(one.values) != len(species) or len(one.intervals) not in (0, len(species)):
            counts = f"{len(one.values)} values and {len(one.intervals)} intervals"
            raise ValueError(f"{one.label!r} has {counts} for {len(species)} species")


def _by_size(annotations: Sequence[int | None]) -> list[int]:
    """Places of the species, fewest annotations first, those not known last; ties keep their order."""
    return sorted(range(len(annotations)), key=lambda i: (annotations[i] is None, annotations[i] or 0))


def _ends(series: Iterable[Series]) -> Iterator[float]:
    for one in series:
        yield from (value for value in one.values if value is not None)
        yield from (end for interval in one.intervals if interval is not None for end in interval)


def _species_table(
    name: str, title: str, species: Sequence[str], annotations: Sequence[int | None],
    groups: Mapping[str, Sequence[Series]], order: Sequence[int], unit: str,
) -> Table:  # fmt: skip
    columns = [Column("species", "Species"), Column("annotations", "Annotations")]
    filled: list[tuple[str, Sequence[Any]]] = []
    for measure, series in groups.items():
        for one in series:
            key = _unused(_key(f"{measure} {one.label}"), columns)
            columns.append(Column(key, f"{measure}, {one.label}" if measure else one.label, unit))
            filled.append((key, one.values))
            if one.intervals:
                columns.append(Column(f"{key}_ci95", f"95 % interval of {one.label}", unit, interval=True))
                filled.append((f"{key}_ci95", one.intervals))
    rows = [
        {"species": species[i], "annotations": annotations[i], **{key: values[i] for key, values in filled}}
        for i in order
    ]
    return Table(name, title, tuple(columns), rows)


def _line_table(name: str, title: str, lines: Sequence[Line], x: str, y: str, unit: str) -> Table:
    columns = [
        Column("panel", "Panel"),
        Column("line", "Line"),
        Column("x", x, digits=0),
        Column("y", y, unit),
        Column("low", "Band, low", unit),
        Column("high", "Band, high", unit),
    ]
    rows = [
        {
            "panel": line.panel or None,
            "line": line.label,
            "x": line.x[i],
            "y": line.y[i],
            "low": line.low[i] if line.low else None,
            "high": line.high[i] if line.high else None,
        }
        for line in lines
        for i in range(len(line.x))
    ]
    return Table(name, title, tuple(columns), rows)


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "value"


def _unused(key: str, columns: Sequence[Column]) -> str:
    taken = {column.key for column in columns}
    return next(name for name in (key, *(f"{key}_{n}" for n in range(2, 1000))) if name not in taken)


def _draw_species(
    axes: Axes, order: Sequence[int], series: Sequence[Series], style: Style, colour: str | None = None
) -> None:
    for number, one in enumerate(series):
        paint = colour or drawing.COLOURS[number % len(drawing.COLOURS)]
        # Models of one row stand a little apart, so that equal values and their intervals are all seen.
        step = 0.8 / len(series) if style == "bars" else 0.5 / max(len(series), 2)
        places, values = [], []
        for row, i in enumerate(order):
            value = one.values[i]
            if value is None:
                continue
            place = row + (number - (len(series) - 1) / 2) * step
            places.append(place)
            values.append(float(value))
            interval = one.intervals[i] if one.intervals else None
            if interval is not None:
                ink = drawing.INK if style == "bars" else paint
                axes.plot(interval, [place, place], color=ink, linewidth=1, zorder=3)
        label = drawing.clean(one.label, drawing.LONGEST_LEGEND)
        if style == "bars":
            hatch = drawing.HATCHES[number % len(drawing.HATCHES)]
            face = "white" if hatch else drawing.FIRST_BAR
            axes.barh(
                places, values, height=step, color=face, edgecolor=paint, hatch=hatch, linewidth=0.8, label=label,
                zorder=2,
            )  # fmt: skip
        else:
            axes.plot(
                values, places, drawing.MARKERS[number % len(drawing.MARKERS)], markersize=4.6, color=paint,
                markerfacecolor="white" if number % 2 else paint, markeredgewidth=1.1, clip_on=False, label=label,
                zorder=4,
            )  # fmt: skip


def _value_axis(axes: Axes, measure: str, percent: bool, *, wide: bool = True) -> None:
    if percent:
        axes.set_xlim(0, 100)
        axes.set_xticks(list(range(0, 101, 20 if wide else 50)))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"{measure} (%)" if percent else measure)


def _draw_line(axes: Axes, line: Line, number: int) -> None:
    paint = drawing.COLOURS[number % len(drawing.COLOURS)]
    dash = drawing.DASHES[number % len(drawing.DASHES)]
    x = np.array(line.x, float)
    if line.low and line.high:
        low, high = _with_gaps(line.low), _with_gaps(line.high)
        axes.fill_between(x, low, high, color=paint, alpha=0.15, linewidth=0)
        for edge in (low, high):
            axes.plot(x, edge, color=paint, linewidth=0.5, alpha=0.7, linestyle=dash)
    axes.plot(
        x, _with_gaps(line.y), color=paint, linestyle=dash, linewidth=1.5,
        marker=drawing.MARKERS[number % len(drawing.MARKERS)], markersize=5, clip_on=False, zorder=4,
        markerfacecolor="white" if number % 2 else paint, label=drawing.clean(line.label, drawing.LONGEST_LEGEND),
    )  # fmt: skip


def _with_gaps(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], float)


def _name_points(picture: Picture, axes: Axes, points: Sequence[Gain]) -> None:
    """Write names beside points, the largest differences first, leaving out those that would cover anything."""
    renderer = drawing.renderer_of(picture)
    picture.draw_without_rendering()
    inside = axes.get_window_extent(renderer)
    pixels = picture.dpi * drawing.POINT
    taken = []
    for p in points:
        x, y = axes.transData.transform((max(p.size, 1), p.gain))
        taken.append(Bbox([[x - 4 * pixels, y - 4 * pixels], [x + 4 * pixels, y + 4 * pixels]]))
        if p.interval is not None:
            low, high = (axes.transData.transform((1, end))[1] for end in p.interval)
            taken.append(Bbox([[x - pixels, low], [x + pixels, high]]))
    places = (
        (6, 0, "left", "center"),
        (-6, 0, "right", "center"),
        (0, 6, "center", "bottom"),
        (0, -6, "center", "top"),
    )
    for p in sorted(points, key=lambda p: (-abs(p.gain), p.species)):
        for dx, dy, ha, va in places:
            text = axes.annotate(
                drawing.clean(p.species, 28), (max(p.size, 1), p.gain), (dx, dy), textcoords="offset points",
                ha=ha, va=va, fontsize=7.5, color=drawing.INK,
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if within and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
