"""Annotations a second whose quality is measured on one core, and near-duplicates among 225,000 hashes.

Measuring: JPEGs of 1, 3 and 12 megapixels are drawn by this script (noise over gradients, quality 90); the box is the
middle 80 % of the picture. Compared are decoding and cutting alone, as measuring does it, all numbers, and as a peer
plain Pillow that decodes the whole picture, crops it, makes it grey and resizes it. Rounds alternate, medians count.

Near-duplicates: 225,000 annotations of one species, in encounters of 5, a third of which are bursts whose hashes differ
in up to 6 bits; nobody is named. The peer compares all hashes with all in blocks, a tenth of them, times 100.

With ``--project``, the numbers of that project's photos are shown too: sharpness as they are and blurred, and how many
bits of the hash differ where a photo is saved again at quality 50 or at half the size.

    python benchmarks/bench_quality.py [--rounds 5] [--annotations 225000] [--project DIR]

Exits 1 where an aim is missed: all numbers in at most 1.5 times the time of decoding and cutting alone over all sizes
together, and near-duplicates in under 60 s.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from resight.catalogue import store
from resight.catalogue.photos import PhotoReader
from resight.images import cut_grey, hash_of
from resight.project import Project
from resight.quality.near_duplicates import COPY_BITS, near_duplicate_of
from resight.quality.numbers import LONGEST, numbers_of, sharpness
from resight.splits import duplicates
from resight.types import Annotation, Box

AIM_RATIO, AIM_SECONDS = 1.5, 60.0
SIZES = {1: (1224, 816), 3: (2121, 1414), 12: (4242, 2828)}


def draw(width: int, height: int) -> bytes:
    """A JPEG that costs as much to decode as a photo."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 8, (height, width, 1))
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def plain(content: bytes, box: Box) -> Image.Image:
    """Decode, crop, make grey, resize, as anyone would."""
    with Image.open(io.BytesIO(content)) as picture:
        cut = picture.convert("L").crop((int(box.x), int(box.y), int(box.x + box.w), int(box.y + box.h)))
        cut.thumbnail((LONGEST, LONGEST), Image.Resampling.BILINEAR)
        return cut


def measure_speed(rounds: int) -> float:
    """Print the speeds; give what all numbers take over what decoding and cutting alone takes."""
    ways: dict[str, Callable[[bytes, Box], object]] = {
        "plain": plain,
        "cut": lambda content, box: cut_grey(content, "x", box, 0.0, LONGEST),
        "numbers": lambda content, box: numbers_of(content, "x", box, 0.0),
    }
    seconds: dict[tuple[str, int], list[float]] = {}
    photos = {}
    for megapixels, (width, height) in SIZES.items():
        box = Box(round(width * 0.1), round(height * 0.1), round(width * 0.8), round(height * 0.8))
        photos[megapixels] = draw(width, height), box
    for _ in range(rounds + 1):
        for megapixels, (content, box) in photos.items():
            for way, function in ways.items():
                started = time.perf_counter()
                for _ in range(3):
                    function(content, box)
                seconds.setdefault((way, megapixels), []).append((time.perf_counter() - started) / 3)
    of = {key: statistics.median(values[1:]) for key, values in seconds.items()}  # the first warms up
    print(f"annotations a second on one core, medians of {rounds} rounds")
    print("megapixels   plain Pillow   decoded and cut   all numbers")
    for megapixels in SIZES:
        print(f"{megapixels:10d} {'':3}" + "".join(f"{1 / of[way, megapixels]:13.1f}{'':3}" for way in ways))
    total = {way: sum(of[way, megapixels] for megapixels in SIZES) for way in ways}
    ratio = total["numbers"] / total["cut"]
    print(f"all together: {ratio:.2f} times the time of decoding and cutting, aim {AIM_RATIO}; ", end="")
    print(f"{total['plain'] / total['numbers']:.1f} times as fast as plain Pillow, which measures nothing")
    return ratio


def animals(n: int) -> tuple[list[Annotation], dict[str, tuple[int, float]]]:
    """Annotations in encounters of 5, and their hashes and sharpness."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(2**64, size=n, dtype=np.uint64)
    for place in range(n):
        if place % 5 and place // 5 % 3 == 0:
            flips = sum(1 << int(bit) for bit in rng.choice(64, rng.integers(4), replace=False))
            hashes[place] = hashes[place - place % 5] ^ np.uint64(flips)
    drawn = [
        Annotation(
            annotation_id=f"{place:07d}", source="drawn", file_name="", image_id=place, image_root="", image_path="",
            content_hash=None, image_width=None, image_height=None, image_status="ok", species="zebra", part=None,
            individual=None, viewpoint=None, encounter=f"{place // 5}", encounter_known=True, identity=None,
            allowed=True, box=None, theta_rad=0.0, taken_at=None,
        )
        for place in range(n)
    ]  # fmt: skip
    sharp = rng.random(n)
    return drawn, {f"{place:07d}": (int(hashes[place]), float(sharp[place])) for place in range(n)}


def measure_duplicates(n: int) -> float:
    """Print and give the seconds that near-duplicates take."""
    drawn, prints = animals(n)
    started = time.perf_counter()
    found = near_duplicate_of(drawn, prints)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    few = np.array([prints[one.annotation_id][0] for one in drawn[: n // 10]], np.uint64)
    started = time.perf_counter()
    for _ in duplicates._all_with_all(few, duplicates.MOST_BITS):
        pass
    peer = 100 * (time.perf_counter() - started)
    print(f"near-duplicates among {n:,} of one species: {seconds:.1f} s, {len(found):,} found; ", end="")
    print(f"peak of the process {peak:.0f} MiB")
    print(f"all with all would take {peer:.0f} s to compare; aim: under {AIM_SECONDS:.0f} s")
    return seconds


def measure_photos(folder: str, n: int = 480) -> None:
    """Print what the numbers are of photos as they are, blurred, and saved again."""
    project = Project.open(folder)
    with project.database.reading() as connection:
        everything = store.list_annotations(connection, project.settings, unnamed=True)
    of_source: dict[str, list[Annotation]] = defaultdict(list)
    for one in random.Random(0).sample(everything, len(everything)):
        of_source[one.source].append(one)
    reader = PhotoReader(project.settings.image_roots)
    found: dict[str, list[float]] = defaultdict(list)
    bits: dict[str, list[int]] = defaultdict(list)
    for members in of_source.values():
        for one in members[: n // len(of_source)]:
            content = reader.read(one).content
            cut, _ = cut_grey(content, "x", one.box, one.theta_rad, LONGEST)
            grey = np.asarray(cut, np.float32)
            found["as it is"].append(sharpness(grey))
            for radius in (1, 2):
                blurred = np.asarray(cut.filter(ImageFilter.GaussianBlur(radius)), np.float32)
                found[f"Gaussian of {radius} px"].append(sharpness(blurred))
            for axis, name in ((0, "down"), (1, "across")):
                moved = np.mean([np.roll(grey, shift, axis) for shift in range(5)], axis=0).astype(np.float32)
                found[f"moved 5 px {name}"].append(sharpness(moved))
            for name, copy in (("quality 50", saved(content, 1, 50)), ("half the size", saved(content, 2, 85))):
                scale = copy[1]
                box = one.box and Box(*(side * scale for side in (one.box.x, one.box.y, one.box.w, one.box.h)))
                again, _ = cut_grey(copy[0], "x", box, one.theta_rad, LONGEST)
                bits[name].append((hash_of(cut) ^ hash_of(again)).bit_count())
    for way, values in found.items():
        low, middle, high = np.percentile(values, (5, 50, 95))
        higher = np.mean(np.array(found["as it is"])[:, None] > np.array(values)[None])
        print(f"sharpness, {way:16} 5 % {low:5.1f}  median {middle:5.1f}  95 % {high:5.1f}; ", end="")
        print(f"an unblurred one is above it in {higher:.1%}")
    for way, differing in bits.items():
        print(f"hash, saved at {way}: {np.mean(np.array(differing) <= COPY_BITS):.3f} within {COPY_BITS} bits")


def saved(content: bytes, divisor: int, quality: int) -> tuple[bytes, float]:
    """A photo saved again, upright, and its width over the one before."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    size = max(1, picture.width // divisor), max(1, picture.height // divisor)
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue(), size[0] / picture.width


def main() -> int:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--annotations", type=int, default=225_000)
    parser.add_argument("--project")
    arguments = parser.parse_args()
    if arguments.project is not None:
        measure_photos(arguments.project)
    ratio = measure_speed(arguments.rounds)
    seconds = measure_duplicates(arguments.annotations)
    return 0 if ratio <= AIM_RATIO and seconds <= AIM_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
