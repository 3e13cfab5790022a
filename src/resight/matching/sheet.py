"""The match sheet: one self-contained HTML page with every query beside its candidates, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from resight.artefacts import write_text
from resight.errors import InputError
from resight.matching.candidates import Match
from resight.version import __version__

PREVIEW_PIXELS = 360


@dataclass(frozen=True)
class SheetEntry:
    """One query of a sheet: its answer, and JPEG bytes of its photos."""

    match: Match
    pictures: tuple[bytes, ...]


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
    environment.filters["picture"] = _data_url
    environment.filters["counted"] = _counted
    environment.filters["names"] = _names
    page = environment.get_template("sheet.html").render(
        entries=entries,
        preview_of=preview_of,
        details=details,
        model=model,
        project=project,
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    try:
        write_text(target, page)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); name another file") from None


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _names(images: str) -> str:
    """The photos' names without their folders: the page is made to be passed on."""
    return ", ".join(Path(image).name for image in images.split(", "))


def _counted(excluded: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(excluded.items(), key=lambda item: -item[1]))
