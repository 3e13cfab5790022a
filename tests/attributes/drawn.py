"""Made-up labels and features, and pictures of an animal that looks to one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from resight.attributes.labels import Labelled, group_of
from resight.embedding import EmbeddingSet
from resight.types import Annotation

from ..made_up import annotation


def animal(name: str, **changes: Any) -> Annotation:
    """A zebra's annotation; the fields that only the catalogue's later ones have may be given too."""
    later = {key: changes.pop(key) for key in ("proposed", "filtered", "detector", "quality") if key in changes}
    return replace(annotation(name, **changes), **later)


def labelled(
    labels: Sequence[str], groups: Sequence[str], field: str = "viewpoint", species: str = "zebra"
) -> Labelled:
    """Annotations with these labels, each of the individual that its group names."""
    annotations = tuple(
        animal(f"a{n:04}", individual=group, species=species) for n, group in enumerate(groups)
    )  # fmt: skip
    return Labelled(field, annotations, tuple(labels), tuple(map(group_of, annotations)), (species,), {})


def features_of(labels: Sequence[str], *, dim: int = 24, distance: float = 6.0, seed: int = 0) -> NDArray[np.float32]:
    """A cloud for each label, so many standard deviations from the next."""
    rng = np.random.default_rng(seed)
    classes = sorted(set(labels))
    centres = distance * np.eye(len(classes), dim)
    return np.stack([centres[classes.index(label)] + rng.normal(size=dim) for label in labels]).astype(np.float32)


def embeddings(ids: Sequence[str], vectors: NDArray[np.floating]) -> EmbeddingSet:
    return EmbeddingSet("features", tuple(ids), tuple(f"chip of {name}" for name in ids), vectors.astype(np.float16))


def looking_left(seed: int, size: int = 128) -> NDArray[np.uint8]:
    """An animal of no species, somewhere in a picture, with its ringed head on the left, as (size, size, 3)."""
    rng = np.random.default_rng(seed)
    ground = Image.fromarray(rng.integers(40, 215, (12, 12, 3), dtype=np.uint8))
    picture = ground.resize((size, size), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    x, y, w, h = rng.uniform([0.2, 0.2, 0.35, 0.15], [0.4, 0.55, 0.5, 0.3]) * size
    red, green, blue = (int(c) for c in rng.integers(0, 256, 3))
    draw.ellipse((x, y, x + w, y + h), fill=(red, green, blue))
    for share in (0.12, 0.26, 0.72, 0.86):
        leg = x + share * w
        draw.rectangle((leg, y + 0.7 * h, leg + 0.06 * w, y + 1.7 * h), fill=(red, green, blue))
    head, middle = rng.uniform(0.4, 0.6) * h, x - 0.1 * h
    for ring in range(5, 0, -1):
        r = head * ring / 5
        shade = 250 if ring % 2 else 10
        draw.ellipse((middle - r, y - r, middle + r, y + r), fill=(shade, shade, shade))
    return np.asarray(picture)


def mirrored(chips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, size, size, 3) as a mirror shows them."""
    return np.ascontiguousarray(chips[:, :, ::-1])
