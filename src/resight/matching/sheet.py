"""The match sheet: one self-contained HTML page with every query beside its candidates, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from resight.artefacts import write_text
from resight.errors import InputError
from resight.images import upright_size
from resight.matching.candidates import Candidate, Match
from resight.matching.pictures import HEIGHT, STEPS, Frame, PairPicture, Strokes, frame_of, strokes
from resight.matching.words import new_or_known, percent
from resight.version import __version__

PREVIEW_PIXELS = 360


@dataclass(frozen=True)
class SheetEntry:
    """One query of a sheet.

    Attributes:
        match: Its answer.
        pictures: JPEG bytes of its photos' cut-outs.
        pairs: annotation_id → what is drawn over the query and that candidate, where there is something.
    """

    match: Match
    pictures: tuple[bytes, ...]
    pairs: Mapping[str, PairPicture] = field(default_factory=dict)


@dataclass(frozen=True)
class _Photo:
    """A query's photo, which is in the page once; ``name`` is that of its element."""

    name: str
    url: str
    width: int
    height: int


@dataclass(frozen=True)
class _Pair:
    """A query's photo and a candidate's side by side."""

    photo: _Photo
    frame: Frame
    strokes: tuple[Strokes, ...]
    drawn: int
    of: int
    query_heat: str | None
    candidate_heat: str | None


@dataclass(frozen=True)
class _Card:
    """One candidate; ``pair`` is there where something is drawn over it, ``reasons`` are its own."""

    candidate: Candidate
    url: str | None
    pair: _Pair | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Shown:
    """One query as the page shows it; ``reasons`` are those that hold for every candidate."""

    match: Match
    photos: tuple[_Photo, ...]
    cards: tuple[_Card, ...]
    reasons: tuple[str, ...]

    @property
    def has_pairs(self) -> bool:
        """Whether something is drawn over some candidate."""
        return any(card.pair is not None for card in self.cards)

    @property
    def calibrated(self) -> bool:
        """Whether some candidate has a probability."""
        return any(card.candidate.p_same is not None for card in self.cards)


def write_sheet(
    target: Path,
    entries: Sequence[SheetEntry],
    preview_of: Callable[[str], bytes | None],
    *,
    model: str,
    project: str,
    details: Mapping[str, str],
) -> None:
    """Write the page.

    Args:
        target: The HTML file.
        entries: The queries.
        preview_of: annotation_id → JPEG bytes of its cut-out, ``None`` where the photo cannot be used.
        model: The model's name.
        project: The project's folder, for the heading.
        details: annotation_id → when it was taken, where known.

    Raises:
        InputError: the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("resight.matching", "."), autoescape=select_autoescape(), trim_blocks=True
    )
    environment.filters["names"] = _names
    environment.filters["percent"] = percent
    environment.filters["sentence"] = _sentence
    shown = [_show(number, entry, preview_of) for number, entry in enumerate(entries, start=1)]
    pairs = [card.pair for one in shown for card in one.cards if card.pair is not None]
    page = environment.get_template("sheet.html").render(
        entries=shown,
        details=details,
        model=model,
        project=project,
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        new_or_known=new_or_known,
        height=HEIGHT,
        steps=STEPS,
        has_lines=any(pair.strokes for pair in pairs),
        has_heat=any(pair.query_heat or pair.candidate_heat for pair in pairs),
    )
    try:
        write_text(target, page)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); name another file") from None


def _show(number: int, entry: SheetEntry, preview_of: Callable[[str], bytes | None]) -> _Shown:
    photos = tuple(
        _Photo(f"photo-{number}-{place}", _data_url(jpeg, "jpeg"), *upright_size(jpeg, entry.match.image))
        for place, jpeg in enumerate(entry.pictures, start=1)
    )
    candidates = entry.match.candidates
    shared: tuple[str, ...] = ()
    if len(candidates) > 1:
        first = candidates[0].reasons
        shared = tuple(text for text in first if all(text in candidate.reasons for candidate in candidates))
    # Side by side all of them or none, so that the cards are alike.
    pairs = entry.pairs if any(pair.draws for pair in entry.pairs.values()) else {}
    cards = []
    for candidate in candidates:
        jpeg = preview_of(candidate.annotation_id)
        pair = pairs.get(candidate.annotation_id)
        drawn = _pair(pair, photos, jpeg, candidate) if pair is not None and jpeg is not None else None
        own = tuple(text for text in candidate.reasons if text not in shared)
        cards.append(_Card(candidate, None if jpeg is None else _data_url(jpeg, "jpeg"), drawn, own))
    return _Shown(entry.match, photos, tuple(cards), shared)


def _pair(pair: PairPicture, photos: Sequence[_Photo], jpeg: bytes, candidate: Candidate) -> _Pair | None:
    if pair.photo >= len(photos):  # the sheet was given no picture of it
        return None
    photo = photos[pair.photo]
    frame = frame_of((photo.width, photo.height), upright_size(jpeg, candidate.file_name))
    heats = (None if heat is None else _data_url(heat, "png") for heat in (pair.query_heat, pair.candidate_heat))
    if pair.lines is None:
        return _Pair(photo, frame, (), 0, 0, *heats)
    return _Pair(photo, frame, strokes(pair.lines, frame), len(pair.lines), pair.lines.of, *heats)


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def _names(images: str) -> str:
    """The photos' names without their folders: the page is made to be passed on."""
    return ", ".join(Path(image).name for image in images.split(", "))
