"""Chips a second on one core against plain Pillow: open, convert, crop, resize.

JPEGs of 1, 2, 3 and 5 megapixels are drawn by this script (noise over gradients, quality 90, so that decoding costs
what it does for photos); the box is the middle 80 % of the picture. Both sides get the file's path and give a
256 x 256 RGB array; ours also hashes the content, as every chip needs. Rounds alternate, and medians are compared.
A second line adds what writing the chip to the cache costs.

    python benchmarks/bench_chips.py [--size 256] [--rounds 7]

Exits 1 where the aim (1.5 times plain Pillow over all sizes together) is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from resight.artefacts import content_hash
from resight.chips import write_chip
from resight.images import cut_chip, read_file
from resight.types import Box

AIM = 1.5
SIZES = {1: (1224, 816), 2: (1732, 1155), 3: (2121, 1414), 5: (2738, 1826)}
A_SIZE = 6


def draw(folder: Path) -> dict[int, list[Path]]:
    """Write ``A_SIZE`` JPEGs of each size."""
    rng = np.random.default_rng(0)
    files: dict[int, list[Path]] = {}
    for megapixels, (width, height) in SIZES.items():
        for number in range(A_SIZE):
            coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            grain = rng.normal(0, 8, (height, width, 3))
            picture = Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))
            path = folder / f"{megapixels}-{number}.jpg"
            picture.save(path, quality=90)
            files.setdefault(megapixels, []).append(path)
    return files


def box_of(megapixels: int) -> Box:
    """The middle 80 % of the picture."""
    width, height = SIZES[megapixels]
    return Box(round(width * 0.1), round(height * 0.1), round(width * 0.8), round(height * 0.8))


def plain(path: Path, box: Box, size: int) -> np.ndarray:
    """Open, convert, crop, resize, as anyone would."""
    with Image.open(path) as picture:
        cut = picture.convert("RGB").crop((int(box.x), int(box.y), int(box.x + box.w), int(box.y + box.h)))
        return np.asarray(cut.resize((size, size), Image.Resampling.BILINEAR))


def ours(path: Path, box: Box, size: int) -> np.ndarray:
    """Read, hash and cut as ``resight.chips`` does."""
    content = read_file(path)
    content_hash(content)
    return cut_chip(content, path.name, box, 0.0, size)


def main() -> int:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = draw(folder)

        def cached(path: Path, box: Box, size: int) -> np.ndarray:
            chip = ours(path, box, size)
            write_chip(folder / "cache" / f"{path.stem}.npy", chip)
            return chip

        ways: dict[str, Callable[[Path, Box, int], np.ndarray]] = {"plain": plain, "ours": ours, "cached": cached}
        seconds: dict[tuple[str, int], list[float]] = {}
        for _ in range(arguments.rounds + 1):
            for way, function in ways.items():
                for megapixels, paths in files.items():
                    started = time.perf_counter()
                    for path in paths:
                        function(path, box_of(megapixels), arguments.size)
                    seconds.setdefault((way, megapixels), []).append((time.perf_counter() - started) / len(paths))
        per_image = {key: statistics.median(values[1:]) for key, values in seconds.items()}  # the first warms up
    print(f"chips of {arguments.size} px a second on one core, medians of {arguments.rounds} rounds")
    print("megapixels   plain Pillow   resight   ratio   with cache   ratio")
    for megapixels in SIZES:
        a, b, c = (per_image[way, megapixels] for way in ways)
        print(f"{megapixels:10d} {1 / a:14.1f} {1 / b:9.1f} {a / b:7.2f} {1 / c:12.1f} {a / c:7.2f}")
    a, b, c = (sum(per_image[way, megapixels] for megapixels in SIZES) for way in ways)
    print(f"all together: {a / b:.2f} times plain Pillow, {a / c:.2f} with the chip written to the cache; aim {AIM}")
    return 0 if a / b >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
