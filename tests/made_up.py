"""Made-up photos, annotations and a network without weights, for the rooms between the catalogue and the answers."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from resight.artefacts import Passport
from resight.types import Annotation

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)

STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation → how a camera that writes it stores an upright picture."""


def quarters(width: int, height: int) -> Image.Image:
    """Red and green above, blue and yellow below: no turn or mirror image looks the same."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, YELLOW
    return Image.fromarray(pixels)


def waves(width: int, height: int) -> Image.Image:
    """A smooth picture without symmetry, in which a shift by a pixel shows as a difference."""
    y, x = np.mgrid[0:height, 0:width]
    layers = (np.sin(x / 40), np.sin(y / 40), np.sin((x + y) / 60))
    return Image.fromarray(np.stack([127 + 100 * layer for layer in layers], axis=-1).astype(np.uint8))


def noise(seed: int, width: int = 32, height: int = 24) -> Image.Image:
    """A picture like no other."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(picture: Image.Image, format: str = "PNG", **settings: Any) -> bytes:
    """A picture as a file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **settings)
    return buffer.getvalue()


def stored(upright: Image.Image, orientation: int, format: str, **settings: Any) -> bytes:
    """A picture as a camera held that way stores it, with the tag that says so."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turned = upright if orientation == 1 else upright.transpose(STORED_AS[orientation])
    return encoded(turned, format, exif=exif, **settings)


def write_photo(root: Path, path: str, content: bytes) -> str:
    """Put a file below an image root and give the SHA-256 of its content."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def annotation(name: str, **changes: Any) -> Annotation:
    """An annotation of a zebra, alone in its photo ``NAME.png`` and in its encounter."""
    values: dict[str, Any] = {
        "annotation_id": name,
        "source": "drawn",
        "file_name": f"{name}.png",
        "image_id": int(hashlib.sha256(name.encode()).hexdigest()[:8], 16),
        "image_root": "drawn",
        "image_path": f"{name}.png",
        "content_hash": None,
        "image_width": None,
        "image_height": None,
        "image_status": "ok",
        "species": "zebra",
        "part": None,
        "individual": None,
        "viewpoint": None,
        "encounter": name,
        "encounter_known": False,
        "identity": None,
        "allowed": True,
        "box": None,
        "theta_rad": 0.0,
        "taken_at": None,
    }
    unknown = changes.keys() - values.keys() - {"image_bytes"}
    assert not unknown, f"an annotation has no {unknown}"
    return Annotation(**{**values, **changes})


class HashingModel:
    """Turns a chip into numbers that depend on all of its pixels, and counts what it was given."""

    def __init__(self, dim: int = 8, fail_in_batch: int | None = None) -> None:
        self.dim = dim
        self.batches: list[int] = []
        self._fail_in_batch = fail_in_batch

    def embed_chips(self, chips: NDArray[np.uint8]) -> NDArray[np.float16]:
        """(n, size, size, 3) uint8 → (n, dim) float16."""
        if self._fail_in_batch == len(self.batches) + 1:
            raise RuntimeError("the power went")
        self.batches.append(len(chips))
        return np.stack([self.vector_of(chip) for chip in chips])

    def vector_of(self, chip: NDArray[np.uint8]) -> NDArray[np.float16]:
        """(dim,) float16."""
        seed = int.from_bytes(hashlib.sha256(np.ascontiguousarray(chip).tobytes()).digest()[:8], "big")
        return np.random.default_rng(seed).normal(size=self.dim).astype(np.float16)


def passport(weights_hash: str = "aaaa", dim: int = 8) -> Passport:
    """The passport of the vectors of a :class:`HashingModel`."""
    return Passport("embeddings", {"weights_hash": weights_hash, "dim": dim, "mean": [0.5, 0.5, 0.5]})
