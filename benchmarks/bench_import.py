"""Import of a 225,000-annotation COCO file without looking at the pictures: seconds and peak memory.

The file is drawn by this script: 45 species, 37,000 individuals, Wild Me's keys. The peer, in the same run, is what
nobody can do without: ``json.load`` of that file in a process of its own.

    python benchmarks/bench_import.py [--annotations 225000]

Exits 1 where the aim (under 60 s, under 2 GiB) is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

AIM_SECONDS, AIM_MIB = 60.0, 2048.0


def draw(target: Path, annotations: int) -> None:
    """Write the COCO file."""
    rng = random.Random(0)
    species = [f"species_{number:02d}" for number in range(45)]
    individuals = max(1, annotations // 6)

    def unique() -> str:
        return str(uuid.UUID(int=rng.getrandbits(128)))

    images, rows = [], []
    for number in range(annotations):
        image_uuid = unique()
        images.append(
            {
                "id": number,
                "uuid": image_uuid,
                "file_name": f"images/{number:07d}.jpg",
                "width": 1600,
                "height": 1200,
                "date_captured": f"20{rng.randint(10, 23)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d} 10:00:00",
                "gps_lat_captured": "-1.000000",
                "gps_lon_captured": "-1.000000",
            }
        )
        individual = int(individuals * rng.random() ** 2)
        rows.append(
            {
                "id": number,
                "uuid": unique(),
                "image_id": number,
                "image_uuid": image_uuid,
                "category_id": individual % len(species),
                "bbox": [rng.randint(0, 400), rng.randint(0, 300), rng.randint(200, 1100), rng.randint(200, 800)],
                "theta": 0.0,
                "viewpoint": rng.choice(("left", "right", "front", "back")),
                "name": f"animal-{individual:05d}",
                "individual_ids": [],
            }
        )
    categories = [{"id": number, "name": name} for number, name in enumerate(species)]
    document = {"info": {}, "categories": categories, "images": images, "annotations": rows}
    target.write_text(json.dumps(document), encoding="utf-8")


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; give wall seconds and the peak MiB of the largest child so far."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> int:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, default=225_000)
    annotations = parser.parse_args().annotations
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "annotations.json"
        draw(file, annotations)
        load = "import json, sys; json.load(open(sys.argv[1], encoding='utf-8'))"
        peer_seconds, peer_mib = measure([sys.executable, "-c", load, str(file)])
        resight = [sys.executable, "-c", "from resight.cli import main; main()"]
        subprocess.run([*resight, "init", str(folder / "project")], check=True, stdout=subprocess.DEVNULL)
        command = [*resight, "--project", str(folder / "project"), "import", str(file), "--no-verify-images"]
        seconds, mib = measure(command)
        again, _ = measure(command)
    print(f"{annotations:,} annotations, COCO file imported without looking at pictures")
    print(f"json.load alone  {peer_seconds:6.1f} s  {peer_mib:6.0f} MiB")
    print(f"resight import   {seconds:6.1f} s  {mib:6.0f} MiB  ({seconds / peer_seconds:.1f} times json.load)")
    print(f"the same again   {again:6.1f} s  (adds nothing)")
    reached = seconds < AIM_SECONDS and mib < AIM_MIB
    print(f"aim: under {AIM_SECONDS:.0f} s and {AIM_MIB:.0f} MiB: {'reached' if reached else 'missed'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
