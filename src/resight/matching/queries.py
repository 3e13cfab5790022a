"""From photos to queries: reading them, knowing them again in the catalogue, and embedding what they show.

A photo that the catalogue holds is asked as the catalogue has it: its box, theta and viewpoint, unless the user gives
others. So a known photo and a new one go the same way, and the query never finds itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resight.catalogue.checking import INSIDE_SHARE, share_inside
from resight.embedding import EmbedsChips
from resight.errors import ImageError, InputError
from resight.images import MAX_PIXELS, ImageFacts, cut_chip, cut_preview, inspect, read_file
from resight.matching.candidates import Query
from resight.matching.sheet import PREVIEW_PIXELS
from resight.types import Annotation, Box


@dataclass(frozen=True)
class Asked:
    """What the user said about the photos of a query; ``None`` is not said."""

    species: str
    viewpoint: str | None
    box: Box | None


@dataclass(frozen=True)
class QueryPhoto:
    """One animal in one photo that is asked about.

    Attributes:
        path: The photo.
        content_hash: Of its bytes, which are read again when its turn comes.
        box: What is cut; ``None`` is the whole photo.
        theta_rad: Rotation of the box.
        viewpoint: From where the animal is seen, ``None`` where not known.
        known_as: The catalogue's annotation of the same animal in the same photo.
        own_encounters: Encounters of this photo in the catalogue, whose other photos are near-duplicates.
    """

    path: Path
    content_hash: str
    box: Box | None
    theta_rad: float
    viewpoint: str | None
    known_as: Annotation | None
    own_encounters: frozenset[str]


def find_photos(paths: Sequence[Path], asked: Asked, gallery: Sequence[Annotation]) -> list[QueryPhoto]:
    """Look at the photos of queries; one that shows several catalogued animals becomes several.

    Args:
        paths: The photos.
        asked: What the user said of them.
        gallery: All annotations of the species, among which photos are known again by content.

    Raises:
        InputError: naming every photo that cannot be used, or a box outside of one.
    """
    by_content: dict[str, list[Annotation]] = {}
    for annotation in gallery:
        if annotation.content_hash is not None:
            by_content.setdefault(annotation.content_hash, []).append(annotation)
    photos: list[QueryPhoto] = []
    complaints: list[str] = []
    for path in paths:
        try:
            facts = inspect(read_file(path), str(path))
        except ImageError as error:
            complaints.append(str(error))
            continue
        box = asked.box
        if box is not None and not _fits(box, facts):
            complaints.append(
                f"--box {box.x:g},{box.y:g},{box.w:g},{box.h:g} does not fit {path}, which has "
                f"{facts.width} x {facts.height} pixels; give X,Y,W,H of the animal, most of it inside"
            )
            continue
        photos.extend(_as_queries(path, facts.content_hash, asked, by_content.get(facts.content_hash, [])))
    if complaints:
        raise InputError("; ".join(complaints))
    return photos


def _fits(box: Box, facts: ImageFacts) -> bool:
    has_area = box.w > 0 and box.h > 0 and box.w * box.h <= MAX_PIXELS
    return has_area and share_inside(box, 0.0, facts.width, facts.height) >= INSIDE_SHARE


def _as_queries(path: Path, content_hash: str, asked: Asked, known: Sequence[Annotation]) -> list[QueryPhoto]:
    same = [a for a in known if asked.box is None or a.box == asked.box]
    animals: dict[object, list[Annotation]] = {}
    for a in same:  # several sources may have the same animal in the same photo: it is one query
        animals.setdefault(_animal(a), []).append(a)
    if animals:
        return [
            QueryPhoto(
                path,
                content_hash,
                found[0].box,
                found[0].theta_rad,
                asked.viewpoint or found[0].viewpoint,
                found[0],
                frozenset(a.encounter for a in found),
            )
            for found in animals.values()
        ]
    # With a box of the user's own it is not known which of the photo's animals is meant; any encounter may be its own.
    encounters = frozenset(a.encounter for a in known)
    return [QueryPhoto(path, content_hash, asked.box, 0.0, asked.viewpoint, None, encounters)]


def _animal(annotation: Annotation) -> object:
    """What tells the animals of one photo apart: their names, else their boxes."""
    return annotation.individual or annotation.box


def make_query(photos: Sequence[QueryPhoto], species: str, model: EmbedsChips, size: int) -> tuple[Query, str | None]:
    """Embed the photos of one animal.

    Args:
        photos: At least one.
        species: What it is compared inside.
        model: The network.
        size: Side of its chips in pixels.

    Returns:
        The query, and a line about what was taken from the catalogue (or ``None``).

    Raises:
        InputError: the photos show different sides of the animal, or one of them shows several animals.
    """
    animals: dict[str, set[object]] = {}
    for photo in photos:
        if photo.known_as is not None:
            animals.setdefault(photo.content_hash, set()).add(_animal(photo.known_as))
    crowded = sorted({str(photo.path) for photo in photos if len(animals.get(photo.content_hash, ())) > 1})
    if crowded:
        raise InputError(
            f"--same-animal was given {', '.join(crowded)}, where the catalogue has several animals; match it by "
            "itself, or say which animal with --box"
        )
    viewpoints = {photo.viewpoint for photo in photos if photo.viewpoint is not None}
    if len(viewpoints) > 1:
        raise InputError(
            f"--same-animal was given photos from {', '.join(sorted(viewpoints))}; one query shows one side: match "
            "each side by itself, or give all of them one --viewpoint"
        )
    chips = np.stack(
        [cut_chip(read_file(photo.path), str(photo.path), photo.box, photo.theta_rad, size) for photo in photos]
    )
    known = [photo.known_as for photo in photos if photo.known_as is not None]
    query = Query(
        image=", ".join(str(photo.path) for photo in photos),
        species=species,
        viewpoint=next(iter(viewpoints), None),
        places=tuple((photo.box, photo.theta_rad) for photo in photos),
        vectors=model.embed_chips(chips),
        own_photos=frozenset(photo.content_hash for photo in photos),
        own_annotations=frozenset(annotation.annotation_id for annotation in known),
        own_encounters=frozenset().union(*(photo.own_encounters for photo in photos)),
    )
    return query, _note(known)


def _note(known: Sequence[Annotation]) -> str | None:
    if not known:
        return None
    names = sorted({annotation.individual or "not identified" for annotation in known})
    proposed = sorted({field for annotation in known for field in annotation.proposed})
    doubt = f" What it says of {' and '.join(proposed)} is a proposal that nobody has accepted." if proposed else ""
    return (
        f"In the catalogue as {', '.join(names)}: box, rotation and viewpoint, where not given, were taken from there, "
        f"and it was not compared with itself nor with its own encounter.{doubt}"
    )


def previews(photos: Sequence[QueryPhoto]) -> tuple[bytes, ...]:
    """JPEG bytes of each photo's cut-out, for the match sheet."""
    return tuple(
        cut_preview(read_file(photo.path), str(photo.path), photo.box, photo.theta_rad, PREVIEW_PIXELS)
        for photo in photos
    )


def grouped(photos: Sequence[QueryPhoto], *, same_animal: bool) -> list[list[QueryPhoto]]:
    """One group a query: every photo by itself, or all together."""
    return [list(photos)] if same_animal else [[photo] for photo in photos]


def all_of_one_species(names: Mapping[str, object], species: str | None) -> str:
    """The species to match inside: the one asked for, or the only one there is.

    Raises:
        InputError: none was asked for and the catalogue holds several, or none.
    """
    if species is not None:
        return species
    if len(names) == 1:
        return next(iter(names))
    if not names:
        raise InputError("the catalogue is empty; import a dataset first: resight import PATH")
    raise InputError(f"the catalogue holds {', '.join(sorted(names))}; say which with --species")
