"""From photos to queries: reading them, knowing them again in the catalogue, grouping and embedding what they show.

A photo that the catalogue holds is asked as the catalogue has it: its box, theta and viewpoint, unless the user gives
others. So a known photo and a new one go the same way, and the query never finds itself.

Several photos of one animal may be one query. Where the sides of an animal are different identities, its photos are a
query a side: a mean over both would be near to neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from resight.catalogue.checking import INSIDE_SHARE, share_inside
from resight.catalogue.policy import separates_sides
from resight.errors import ImageError, InputError, UnknownName
from resight.images import MAX_PIXELS, ImageFacts, cut_chip, cut_preview, inspect, read_file
from resight.matching.candidates import Query
from resight.matching.sheet import PREVIEW_PIXELS
from resight.settings import Policy
from resight.types import Annotation, Box

GroupBy = Literal["photo", "animal", "encounter"]

Describe = Callable[[Callable[[int], NDArray[np.uint8]]], NDArray[np.float16]]
"""A model, or several as one: it is given what cuts (photos, side, side, 3) chips of a side in pixels, and gives
(photos, dim) vectors."""


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
        same_animal: Content hashes of all photos of which the user says that they show this animal.
        apart: Why it is not in one query with photos that it was given with, in words; ``None`` where that needs none.
    """

    path: Path
    content_hash: str
    box: Box | None
    theta_rad: float
    viewpoint: str | None
    known_as: Annotation | None
    own_encounters: frozenset[str]
    same_animal: frozenset[str] = frozenset()
    apart: str | None = None


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


def grouped(
    photos: Sequence[QueryPhoto], *, by: GroupBy = "photo", policy: Policy = "separate"
) -> list[list[QueryPhoto]]:
    """Put photos of one animal together, a group a query, in the order of their first photos.

    - ``photo``: every animal of every photo by itself.
    - ``animal``: all photos show one animal, as the user says.
    - ``encounter``: photos that the catalogue has in one encounter and under one name. Those without a name are one
      animal unless a photo or the names say that the encounter has several; then, as for photos that the catalogue does
      not know, each stands by itself. Two animals of one photo are never put together.

    Where the policy separates the sides, each viewpoint makes a group of its own, and so do the photos without one,
    which may show either side.

    Args:
        photos: As :func:`find_photos` found them.
        by: What belongs together.
        policy: The species' viewpoint policy.

    Raises:
        UnknownName: ``by`` is none of these.
        InputError: one animal was asked for, and a photo shows several.
    """
    UnknownName.require("way to group photos", [by], get_args(GroupBy))
    if by == "photo":
        return [[photo] for photo in photos]
    animals = _as_one_animal(photos) if by == "animal" else _by_encounter(photos)
    if separates_sides(policy):
        animals = [side for animal in animals for side in _by_viewpoint(animal)]
    return animals


def _as_one_animal(photos: Sequence[QueryPhoto]) -> list[list[QueryPhoto]]:
    """Whichever query a photo comes to be in, it finds none of the others nor what is near to them."""
    _refuse_several_animals(photos)
    contents = frozenset(photo.content_hash for photo in photos)
    encounters = frozenset().union(*(photo.own_encounters for photo in photos))
    animal = [replace(photo, own_encounters=encounters, same_animal=contents) for photo in photos]
    return [animal] if animal else []


def _by_encounter(photos: Sequence[QueryPhoto]) -> list[list[QueryPhoto]]:
    in_photo: dict[tuple[str, str], set[object]] = {}  # (encounter, photo) -> the animals it shows
    names: dict[str, set[str]] = {}
    for photo in photos:
        if photo.known_as is not None:
            encounter = photo.known_as.encounter
            in_photo.setdefault((encounter, photo.content_hash), set()).add(_animal(photo.known_as))
            if photo.known_as.individual is not None:
                names.setdefault(encounter, set()).add(photo.known_as.individual)
    several = {encounter for (encounter, _), animals in in_photo.items() if len(animals) > 1}
    several |= {encounter for encounter, found in names.items() if len(found) > 1}
    groups: dict[object, list[QueryPhoto]] = {}
    for place, photo in enumerate(photos):
        known = photo.known_as
        if known is None:
            groups[place] = [replace(photo, apart="Its encounter is not known, so it is asked by itself.")]
        elif known.individual is None and known.encounter in several:
            groups[place] = [replace(photo, apart="Its encounter shows several animals, so it is asked by itself.")]
        else:
            groups.setdefault((known.encounter, known.individual), []).append(photo)
    return list(groups.values())


def _by_viewpoint(photos: Sequence[QueryPhoto]) -> list[list[QueryPhoto]]:
    groups: dict[str | None, list[QueryPhoto]] = {}
    for photo in photos:
        groups.setdefault(photo.viewpoint, []).append(photo)
    if len(groups) == 1:
        return list(groups.values())
    why = f"The photos of this animal are seen from {_listed(groups)}, and each viewpoint is a query of its own."
    return [[replace(photo, apart=why) for photo in group] for group in groups.values()]


def _listed(viewpoints: Iterable[str | None]) -> str:
    return ", ".join(viewpoint or "a viewpoint that is not known" for viewpoint in viewpoints)


def _refuse_several_animals(photos: Sequence[QueryPhoto]) -> None:
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


def make_query(
    photos: Sequence[QueryPhoto], species: str, describe: Describe, *, policy: Policy = "separate"
) -> tuple[Query, str | None]:
    """Embed the photos of one animal.

    Args:
        photos: At least one: a group of :func:`grouped`.
        species: What it is compared inside.
        describe: Makes vectors of the photos.
        policy: The species' viewpoint policy.

    Returns:
        The query, whose vectors, places and ``known_as`` are in the order of the photos, and a line about what was
        taken from the catalogue and how the photos were grouped (or ``None``). Where the photos differ in viewpoint and
        the policy does not mind, the query has none.

    Raises:
        InputError: the photos show different sides of the animal where these are apart, or one of them shows several
            animals.
    """
    _refuse_several_animals(photos)
    viewpoints = list(dict.fromkeys(photo.viewpoint for photo in photos))
    if len(viewpoints) > 1 and separates_sides(policy):
        raise InputError(
            f"one query shows one side, and its photos are seen from {_listed(viewpoints)}: match each side by itself, "
            "or give all of them one --viewpoint"
        )

    def cut(size: int) -> NDArray[np.uint8]:
        return np.stack(
            [cut_chip(read_file(photo.path), str(photo.path), photo.box, photo.theta_rad, size) for photo in photos]
        )

    known = [photo.known_as for photo in photos if photo.known_as is not None]
    query = Query(
        image=", ".join(str(photo.path) for photo in photos),
        species=species,
        viewpoint=viewpoints[0] if len(viewpoints) == 1 else None,
        places=tuple((photo.box, photo.theta_rad) for photo in photos),
        vectors=describe(cut),
        own_photos=frozenset().union(*({photo.content_hash} | photo.same_animal for photo in photos)),
        own_annotations=frozenset(annotation.annotation_id for annotation in known),
        own_encounters=frozenset().union(*(photo.own_encounters for photo in photos)),
        known_as=tuple(photo.known_as for photo in photos),
    )
    return query, _note(photos)


def _note(photos: Sequence[QueryPhoto]) -> str | None:
    sentences = list(dict.fromkeys(photo.apart for photo in photos if photo.apart is not None))
    known = [photo.known_as for photo in photos if photo.known_as is not None]
    if known:
        names = sorted({annotation.individual or "not identified" for annotation in known})
        sentences.append(
            f"In the catalogue as {', '.join(names)}: box, rotation and viewpoint, where not given, were taken from "
            "there, and it is not compared with itself."
        )
    proposed = sorted({field for annotation in known for field in annotation.proposed})
    if proposed:
        sentences.append(f"What it says of {' and '.join(proposed)} is a proposal that nobody has accepted.")
    return " ".join(sentences) or None


def previews(photos: Sequence[QueryPhoto]) -> tuple[bytes, ...]:
    """JPEG bytes of each photo's cut-out, for the match sheet."""
    return tuple(
        cut_preview(read_file(photo.path), str(photo.path), photo.box, photo.theta_rad, PREVIEW_PIXELS)
        for photo in photos
    )


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
