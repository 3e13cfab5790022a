"""How every figure looks: settings, room for names, legends, ticks, and the SVG that is written."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

INK = "#1a1a1a"
QUIET = "#b8b8b8"
# Shape, hatch and dash tell models apart; colour only helps.
COLOURS = ("#0b3c5d", "#d9720b", "#3f8f6b", "#8e5ea2", "#5f6b73", "#c7457a", "#8a7a1f", "#3a86c8")
FIRST_BAR = "#8fb0c8"  # light enough for an interval drawn across it
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "oo", "--", "++")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
LONGEST_LABEL = 40
LONGEST_LEGEND = 60
POINT = 1 / 72  # inches
LETTER = 0.08  # inches a letter takes at most, on the average


@contextmanager
def style() -> Iterator[None]:
    """Settings of every figure, and none of what the user's own matplotlibrc may say."""
    settings: Any = {
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"], "font.size": 8.5,
        "axes.edgecolor": INK, "axes.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False,
        "axes.axisbelow": True, "axes.linewidth": 0.7, "axes.unicode_minus": True, "hatch.linewidth": 0.6,
        "svg.fonttype": "none", "text.parse_math": False, "text.usetex": False,
    }  # fmt: skip
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        # The SVG holds the text itself; only its width is guessed where the font at hand lacks a letter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def clean(text: str, longest: int) -> str:
    """A label of one line that fits; the middle of a long one is left out, what XML cannot hold is replaced."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 3
    return f"{text[: longest - 1 - tail]}…{text[-tail:]}"


def species_rows(
    species: Sequence[str],
    annotations: Sequence[int | None],
    order: Sequence[int],
    panels: int,
    row_height: float,
    rows_of_legend: int,
) -> tuple[Picture, list[Axes]]:
    """A picture with a row for each species: as high as the rows need, as much room at the left as the names need.

    Args:
        species: Names as they come.
        annotations: Shown in brackets after each name.
        order: Places in ``species``, from the top down.
        panels: Pairs of axes side by side, which share the rows.
        row_height: In inches.
        rows_of_legend: Room to leave at the top.
    """
    labels = []
    for i in order:
        count = annotations[i]
        labels.append(clean(species[i], LONGEST_LABEL) + ("" if count is None else f" ({count:,})"))
    width = {1: 7.0, 2: 8.0}.get(panels, 1.5 + 2.0 * panels)
    top, bottom = 0.12 + 0.22 * rows_of_legend, 0.55
    height = top + bottom + max(1.0, (len(species) + 0.4) * row_height)
    picture = Picture(figsize=(width, height))
    all_axes = list(picture.subplots(1, panels, sharey=True, squeeze=False).flat)
    left = max(1.0, _widest(labels) + 0.2)
    if left > width * 0.45:
        width += left - width * 0.45
        picture.set_size_inches(width, height)
    picture.subplots_adjust(
        left=left / width,
        right=1 - 0.2 / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=0.12 if panels < 3 else 0.22,
    )
    for axes in all_axes:
        axes.set_ylim(max(len(species), 1) - 0.3, -0.7)
        axes.yaxis.set_major_locator(FixedLocator(list(range(len(labels)))))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.6)
        axes.spines["left"].set_visible(False)
        for row in range(len(species)):
            axes.axhline(row, color="#efefef", linewidth=0.6, zorder=0)
    all_axes[0].set_yticks(list(range(len(labels))), labels)
    if not species:
        all_axes[0].text(0.5, 0.5, "nothing to show", transform=all_axes[0].transAxes, ha="center", va="center")
    return picture, all_axes


def renderer_of(picture: Picture) -> Any:
    """What measures text in ``picture``."""
    canvas: Any = FigureCanvasAgg(picture)
    return canvas.get_renderer()


def _widest(texts: Sequence[str]) -> float:
    """Width in inches of the widest of ``texts``."""
    picture = Picture(figsize=(1, 1))
    renderer = renderer_of(picture)
    widths = [picture.text(0, 0, text).get_window_extent(renderer).width / picture.dpi for text in texts]
    return max(widths, default=0.0)


def legend_rows(labels: Sequence[str], width: float) -> int:
    """Rows of the legend that tells ``labels`` apart in ``width`` inches; none where there is one label."""
    return -(-len(labels) // _legend_columns(labels, width)) if len(labels) > 1 else 0


def _legend_columns(labels: Sequence[str], width: float) -> int:
    widest = max(len(clean(label, LONGEST_LEGEND)) for label in labels) * LETTER + 0.5
    return max(1, min(len(labels), int((width - 0.3) / widest)))


def legend(picture: Picture, all_axes: Iterable[Axes], width: float) -> None:
    """One legend at the top for all that ``all_axes`` label, if several are told apart."""
    handles: dict[str, Any] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) > 1:
        picture.legend(
            list(handles.values()), list(handles), loc="upper center", frameon=False, borderaxespad=0.2,
            ncol=_legend_columns(list(handles), width), handlelength=2.6, columnspacing=1.2,
        )  # fmt: skip


def position_ticks(axes: Axes, positions: Sequence[float], width: float) -> None:
    """Ticks where the points are, if their numbers fit; else round ones.

    Args:
        axes: A drawn panel.
        positions: Where its points are.
        width: Of the panel, in inches.
    """
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    if len(positions) < 2:
        axes.set_xticks(list(positions))
        return
    span = positions[-1] - positions[0]
    axes.set_xlim(positions[0] - 0.04 * span, positions[-1] + 0.04 * span)
    kept = [positions[0]]
    for position in positions[1:]:
        between = (len(f"{kept[-1]:,.6g}") + len(f"{position:,.6g}")) / 2 * 5.6 + 4
        if (position - kept[-1]) / (1.08 * span) * width >= between * POINT:
            kept.append(position)
    if len(kept) == len(positions):
        axes.set_xticks(kept)
    else:
        whole = all(position == int(position) for position in positions)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=whole, steps=[1, 2, 5, 10]))


def log_ticks(axes: Axes) -> None:
    """Whole numbers along a logarithmic axis: every power of ten, and 2 and 5 of each where the axis is short."""
    low, high = axes.get_xlim()
    few = high / low < 300
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=30))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator() if few else LogLocator(subs=range(2, 10), numticks=100))
    axes.xaxis.set_minor_formatter(NullFormatter())


def svg(picture: Picture, name: str, title: str, caption: str) -> str:
    """The picture as one ``<svg>`` element that tells its title, and whose ids no other figure of a page has."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        picture.savefig(buffer, format="svg", metadata=nothing, facecolor="white")
    text = buffer.getvalue()
    text = text[text.index("<svg") :].rstrip() + "\n"
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    # Only within tags: a species may be called 'id="x"'.
    text = re.sub(r"<[^<>]+>", lambda tag: re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag[0]), text)
    opening, rest = text.split(">", 1)
    told = f'\n <title id="{name}-title">{_xml(title)}</title>\n <desc id="{name}-desc">{_xml(caption)}</desc>'
    return f'{opening} role="img" aria-labelledby="{name}-title {name}-desc">{told}{rest}'


def _xml(text: str) -> str:
    """``text`` within an element; what XML cannot hold becomes a blank."""
    text = "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
