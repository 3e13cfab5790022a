"""The vocabulary: small frozen values that cross the borders between rooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["refused", "quarantined"]


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned rectangle in pixels of the EXIF-upright image, before any rotation by theta."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one row of an import.

    Attributes:
        row: Where it stands: the line of a table (the header is line 1), or ``annotations[12]``.
        field: The column or key.
        value: What stood there, as text.
        problem: What is wrong with it and what was expected.
        severity: ``refused`` keeps the dataset out; ``quarantined`` lets the row in without its picture.
    """

    row: str
    field: str
    value: str
    problem: str
    severity: Severity = "refused"


@dataclass(frozen=True, slots=True)
class Record:
    """One annotation as a source states it, before it is known to the catalogue.

    Unknown is ``None`` in every field. ``file_name`` is what the source wrote; it is a path below the dataset's
    image folder, with ``/`` between its parts. ``taken_at`` is ISO 8601 as the camera had it: a date, or a date
    and a time. ``outline`` is a COCO segmentation (polygons or RLE), kept as it came. ``detector`` names what found the
    box and ``confidence`` (0 to 1) how sure it was; both are ``None`` where a person drew it, or nobody said.
    """

    row: str
    file_name: str
    source_id: str | None = None
    species: str | None = None
    individual: str | None = None
    viewpoint: str | None = None
    encounter: str | None = None
    box: Box | None = None
    theta_rad: float = 0.0
    taken_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    image_width: int | None = None
    image_height: int | None = None
    quality: float | None = None
    outline: Any = None
    detector: str | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """One animal that a detector found in a photo.

    Attributes:
        box: In pixels of the upright image; ``None`` is the whole image.
        confidence: From 0 to 1.
        species: Where the detector names one.
        outline: A COCO segmentation in pixels of the upright image, or ``None``.
    """

    box: Box | None
    confidence: float
    species: str | None = None
    outline: Any = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One animal in one image, as the catalogue knows it, with its identity and encounter resolved.

    Attributes:
        annotation_id: Stable key, the same on every machine that imports the same dataset.
        file_name: The name the source used.
        image_id: Key of the image inside the catalogue; annotations of one image share it.
        image_root: Name of the image root in ``resight.toml``.
        image_path: Path of the image below its root, with ``/`` between its parts.
        content_hash: SHA-256 of the image file, ``None`` until first decoded.
        image_status: ``ok``, ``unverified`` (not decoded yet) or ``quarantined``.
        species: The full species string; annotations are compared only inside one. ``None`` where nobody has said yet
            what animal it is.
        part: The part of the body, parsed from ``species``.
        individual: Name of the individual, ``None`` where unknown.
        viewpoint: One of left, right, front, back, up, down, or ``None``.
        encounter: Key of the encounter, never empty: what the source gave, else individual and day, else the
            annotation itself.
        encounter_known: False where the annotation stands in as its own encounter.
        identity: ``individual``, or ``individual|side`` where the sides differ; ``None`` where unknown.
        allowed: False where the species' viewpoint policy leaves this viewpoint out.
        box: ``None`` means the whole image.
        image_bytes: Size of the image file, by which a moved photo is looked for; ``None`` until first read.
        image_modified_ns: When the file was last written, as the file system says; ``None`` until first read.
        proposed: Which of ``species``, ``part``, ``viewpoint`` and ``quality`` are proposals of a model that nobody has
            accepted yet; such a value counts in matching and is never a label.
        filtered: The quality rule of ``resight.toml`` that leaves the annotation out of training, splits and matching;
            ``None`` where none does.
        detector: What found the box: ``None`` where the source gave it, ``hand`` where a person drew it here.
        confidence: How sure the detector was, from 0 to 1.
        quality: A grade as the source, a person or a proposal gave it.
    """

    annotation_id: str
    source: str
    file_name: str
    image_id: int
    image_root: str
    image_path: str
    content_hash: str | None
    image_width: int | None
    image_height: int | None
    image_status: str
    species: str | None
    part: str | None
    individual: str | None
    viewpoint: str | None
    encounter: str
    encounter_known: bool
    identity: str | None
    allowed: bool
    box: Box | None
    theta_rad: float
    taken_at: str | None
    image_bytes: int | None = None
    image_modified_ns: int | None = None
    proposed: frozenset[str] = frozenset()
    filtered: str | None = None
    detector: str | None = None
    confidence: float | None = None
    quality: float | None = None

    @property
    def known_species(self) -> str:
        """The species of an annotation that has one; the rooms past the catalogue are given no others.

        Raises:
            ValueError: nobody has said yet what animal it is.
        """
        if self.species is None:
            raise ValueError(f"annotation {self.annotation_id} has no species: only named animals belong here")
        return self.species
