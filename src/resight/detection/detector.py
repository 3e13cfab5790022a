"""What a detector is: something with a name that says what animals are in a photo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from resight.catalogue.detecting import RawPhoto
from resight.catalogue.sources.megadetector import is_animal, species_of
from resight.detection.paths import Place
from resight.types import Detection

LEAST_CONFIDENCE = 0.005  # below it a network's answer is noise, and not counted
CATEGORIES = ("animal", "person", "vehicle")
"""What MegaDetector's networks tell apart, in the order of their outputs."""

_PERSONS = frozenset({"person", "human"})
_VEHICLES = frozenset({"vehicle"})


@dataclass(frozen=True, slots=True)
class Found:
    """All that a detector sees in one photo, however unsure it is.

    Attributes:
        animals: With their species where the detector names it.
        persons: Their confidences.
        vehicles: Their confidences.
    """

    animals: tuple[Detection, ...] = ()
    persons: tuple[float, ...] = ()
    vehicles: tuple[float, ...] = ()


Look = Callable[[RawPhoto, Callable[[], bytes]], Found]
"""Looks at one photo, from several threads at once: given what the catalogue knows of it, with its size, and what reads
its bytes. Raises :class:`resight.errors.ImageError` where it cannot look at this one."""


@dataclass(frozen=True)
class Ready:
    """A detector made ready for the photos of a catalogue.

    Attributes:
        look: Looks at one photo.
        covers: The images it can say something of, by their ids; ``None`` is any.
        unmatched: What it knows and no photo is known for: file name → why.
    """

    look: Look
    covers: frozenset[int] | None = None
    unmatched: Mapping[str, str] = field(default_factory=dict)


class Detector(Protocol):
    """Finds animals in photos."""

    @property
    def name(self) -> str:
        """What the catalogue keeps of it; another network or file has another name."""
        ...

    def ready(self, places: Mapping[int, Place]) -> Ready:
        """Get ready for photos: image id → where it lies."""
        ...


def sort_out(seen: Iterable[tuple[str, Detection]]) -> Found:
    """Tell animals, persons and vehicles apart by the names of their categories.

    ``animal`` names no species; what is neither that nor a person, a vehicle or nothing at all is the name of one.
    """
    animals: list[Detection] = []
    persons: list[float] = []
    vehicles: list[float] = []
    for category, detection in seen:
        name = category.casefold()
        if is_animal(category):
            animals.append(replace(detection, species=species_of(category)))
        elif name in _PERSONS:
            persons.append(detection.confidence)
        elif name in _VEHICLES:
            vehicles.append(detection.confidence)
    return Found(tuple(animals), tuple(persons), tuple(vehicles))
