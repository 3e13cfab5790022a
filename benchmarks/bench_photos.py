"""Import of a card of raw photos: photos a second and core, and peak memory at N and at a tenth of it.

The photos are JPEGs with EXIF, made by this script: a few pictures are encoded, and each file has another time, camera
and comment, so that no two have the same content. Files of one day lie in one folder. The peer, in the same run and on
one thread, is what nobody can do without: reading every file and hashing it.

    python benchmarks/bench_photos.py [--photos 2000] [--megapixels 0.1] [--workers 1]

Exits 1 where the aim (150 photos a second and core, memory flat: at most 100 MiB more at N than at a tenth) is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

AIM_A_SECOND, AIM_MORE_MIB = 150.0, 100.0
PICTURES = 4
A_FOLDER = 1000

IMPORT = """
import json, resource, time
from pathlib import Path
from resight import parallel, settings
from resight.catalogue.database import Database
from resight.catalogue.raw_photos import PhotoOptions, import_photos

def peak_mib():
    status = Path("/proc/self/status")  # getrusage may tell the peak of the process that started this one
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

parallel.os.cpu_count = lambda: {workers}
project, card = Path({project!r}), Path({card!r})
if not project.exists():
    settings.write_new(project)
    Database(settings.read(project).resolved_catalogue_url).create()
read = settings.read(project)
started, busy = time.perf_counter(), time.process_time()
report = import_photos(
    card, database=Database(read.resolved_catalogue_url), settings=read, options=PhotoOptions(),
    reports_folder=project / "reports",
)
print(json.dumps([
    report.added, report.unchanged, report.encounters, time.perf_counter() - started, time.process_time() - busy,
    peak_mib(),
]))
"""


def pictures(megapixels: float) -> list[bytes]:
    """A few encoded pictures of a photo's size in bytes: smooth shapes with noise upon them."""
    width = round(math.sqrt(megapixels * 1e6 * 4 / 3))
    height = round(width * 3 / 4)
    made = []
    for seed in range(PICTURES):
        rng = np.random.default_rng(seed)
        small = Image.fromarray(rng.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.integers(-12, 13, smooth.shape, dtype=np.int16), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG", quality=92)
        made.append(buffer.getvalue())
    return made


def draw(card: Path, photos: int, megapixels: float) -> int:
    """Write the card; gives its bytes."""
    encoded = pictures(megapixels)
    total = 0
    for number in range(photos):
        folder = card / "DCIM" / f"{100 + number // A_FOLDER}CANON"
        folder.mkdir(parents=True, exist_ok=True)
        minutes = number * 7 // 5
        exif = Image.Exif()
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon", "Canon EOS 7D"
        details = exif.get_ifd(ExifTags.IFD.Exif)
        details[ExifTags.Base.BodySerialNumber] = str(number // (10 * A_FOLDER))
        day = time.strftime("%Y:%m:%d %H:%M:%S", time.gmtime(1_400_000_000 + 60 * minutes))
        details[ExifTags.Base.DateTimeOriginal] = day
        segment = exif.tobytes()
        comment = str(number).encode()
        picture = encoded[number % PICTURES]
        content = b"".join(
            (
                picture[:2],
                b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment,
                b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment,
                picture[2:],
            )
        )
        (folder / f"IMG_{number % A_FOLDER:04}.JPG").write_bytes(content)
        total += len(content)
    return total


def run(project: Path, card: Path, workers: int) -> tuple[int, int, int, float, float, float]:
    """Import in a process of its own: added, unchanged, encounters, seconds, seconds of processor, peak MiB."""
    script = IMPORT.format(project=str(project), card=str(card), workers=workers)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    added, unchanged, encounters, seconds, busy, mib = json.loads(done.stdout)
    return added, unchanged, encounters, seconds, busy, mib


def hashing(card: Path) -> float:
    """Seconds to read and hash every file, one after the other."""
    started = time.perf_counter()
    for file in sorted(card.rglob("*.JPG")):
        hashlib.sha256(file.read_bytes()).digest()
    return time.perf_counter() - started


def main() -> int:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=2_000)
    parser.add_argument("--megapixels", type=float, default=0.1)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = max(1, given.photos // 10)
        draw(folder / "few", few, given.megapixels)
        size = draw(folder / "card", given.photos, given.megapixels)
        _, _, _, _, _, mib_few = run(folder / "project-few", folder / "few", given.workers)
        peer = hashing(folder / "card")
        added, _, encounters, seconds, busy, mib = run(folder / "project", folder / "card", given.workers)
        _, unchanged, _, again, _, _ = run(folder / "project", folder / "card", given.workers)
    if (added, unchanged) != (given.photos, given.photos):
        raise SystemExit(f"{added:,} of {given.photos:,} photos were added, and {unchanged:,} known afterwards")
    a_second = given.photos / busy
    print(f"{given.photos:,} JPEGs of {given.megapixels:g} megapixels, {size / given.photos / 1024:,.0f} KiB each")
    print(f"read and hash alone  {given.photos / peer:8,.0f} photos/s, one thread")
    print(
        f"resight import       {given.photos / seconds:8,.0f} photos/s with {given.workers} threads, {a_second:,.0f} a "
        f"second of processor time ({encounters:,} encounters)"
    )
    print(f"the same again       {given.photos / again:8,.0f} photos/s (adds nothing)")
    print(f"peak memory          {mib_few:8,.0f} MiB at {few:,}, {mib:,.0f} MiB at {given.photos:,}")
    reached = a_second >= AIM_A_SECOND and mib - mib_few <= AIM_MORE_MIB
    print(
        f"aim: {AIM_A_SECOND:.0f} a second and core, at most {AIM_MORE_MIB:.0f} MiB more: "
        f"{'reached' if reached else 'missed'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
