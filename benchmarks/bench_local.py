"""Pairs a second of local evidence against LightGlue as it is published: pair by pair, float32, early exit and pruning.

Each query is matched with a shortlist of 20, among which there is one photo of the same animal. Both sides get the same
features from memory (512 points of ALIKED on the animal, taken before) and the same number of threads, and take turns
query by query; medians are compared. ``whole`` and ``seven layers`` keep every point. ``prepared`` is what a query
costs where its candidates came before, as they do when a whole catalogue is evaluated. Agreement is the share of
queries whose first candidate is the same on both sides.

    python benchmarks/bench_local.py [--coco FILE] [--queries 12] [--points 512] [--threads 2]

The photos are drawn by the demo unless ``--coco`` names a dataset whose annotations have names; its images lie beside
it. Exits 1 where the aim (5 times the peer, agreement of 98 %) is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resight.demo.population import draw_population
from resight.images import read_file, upright_size
from resight.matching.local.evidence import ADAPTIVE, LocalMatcher, MatchPlan, order_by_evidence
from resight.matching.local.extractors import load_extractor
from resight.matching.local.features import ExtractorSpec, LocalFeatures
from resight.matching.local.lightglue import Effort, LightGlue, load_kornias, load_matcher
from resight.matching.local.store import show
from resight.memory import freed_memory_kept
from resight.outlines import read_outline
from resight.types import Box

AIM, AIM_AGREEMENT = 5.0, 0.98
SHORTLIST = 20

Compare = Callable[[LocalFeatures, Sequence[LocalFeatures]], list[float]]
Way = Callable[[], int]


@dataclass(frozen=True)
class Animal:
    """One annotation with its features."""

    name: str
    features: LocalFeatures


def two_encounters(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Two photos of one animal that are not of one encounter, where that is told."""

    def encounter(row: dict[str, Any]) -> Any:
        return row.get("encounter_id") or row["image_id"]

    others = (row for row in rows if row["image_id"] != rows[0]["image_id"] and encounter(row) != encounter(rows[0]))
    other = next(others, None)
    return None if other is None else (rows[0], other)


def read_animals(coco: Path, spec: ExtractorSpec, queries: int) -> tuple[list[Animal], list[Animal]]:
    """Queries, and as many animals as a shortlist takes; the first of these are the queries' in other encounters."""
    dataset = json.loads(coco.read_text(encoding="utf-8"))
    files = {image["id"]: image["file_name"] for image in dataset["images"]}
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in dataset["annotations"]:
        by_name.setdefault(f"{row.get('name')} {row.get('viewpoint')}", []).append(row)
    pairs = [pair for _, rows in sorted(by_name.items()) if (pair := two_encounters(rows)) is not None]
    extractor = load_extractor(spec)

    def taken(row: dict[str, Any]) -> Animal:
        name = files[row["image_id"]]
        path = next(path for path in (coco.parent / name, coco.parent / "images" / name) if path.is_file())
        content, outline = read_file(path), None
        if row.get("segmentation"):
            outline = read_outline(row["segmentation"], *upright_size(content, path.name))
        theta_rad = row["theta"] if isinstance(row.get("theta"), float) else 0.0
        shown = show(content, path.name, Box(*row["bbox"]), theta_rad, outline, spec)
        return Animal(str(row.get("name")), extractor.extract(shown.chip, shown.inside))

    gallery = [taken(second) for _, second in pairs[: max(queries, SHORTLIST)]]
    return [taken(first) for first, _ in pairs[:queries]], gallery


def shortlists(queries: Sequence[Animal], gallery: Sequence[Animal]) -> list[tuple[Animal, list[Animal]]]:
    """A query and its candidates, in any order."""
    rng = np.random.default_rng(0)
    found = []
    for query, same in zip(queries, gallery, strict=False):
        others = [one for one in gallery if one.name != query.name]
        candidates = [same, *(others[i] for i in rng.permutation(len(others))[: SHORTLIST - 1])]
        found.append((query, [candidates[i] for i in rng.permutation(len(candidates))]))
    return found


def peer(spec: ExtractorSpec) -> Compare:
    """kornia's LightGlue as it comes, pair by pair."""
    network = load_kornias(spec.name)

    def given(one: LocalFeatures) -> dict[str, torch.Tensor]:
        return {
            "keypoints": torch.from_numpy(one.keypoints)[None],
            "descriptors": torch.from_numpy(one.descriptors).float()[None],
            "image_size": torch.tensor([one.size]),
        }

    @freed_memory_kept()  # as ours does
    def compare(query: LocalFeatures, candidates: Sequence[LocalFeatures]) -> list[float]:
        with torch.inference_mode():
            pairs = (network({"image0": given(query), "image1": given(one)}) for one in candidates)
            return [float(pair["scores"][0].sum()) for pair in pairs]

    return compare


def ways(query: Animal, candidates: Sequence[Animal], theirs: Compare, network: LightGlue) -> dict[str, Way]:
    """Each way of finding the first of the candidates."""
    features = {str(number): one.features for number, one in enumerate(candidates)}
    adaptive = LocalMatcher(network, ADAPTIVE)

    def ours(matcher: LocalMatcher) -> int:
        return order_by_evidence(matcher.compare(query.features, list(features), features.__getitem__))[0]

    return {
        "peer": lambda: int(np.argmax(theirs(query.features, list(features.values())))),
        "whole": lambda: ours(LocalMatcher(network, MatchPlan())),
        "seven layers": lambda: ours(LocalMatcher(network, MatchPlan(Effort(layers=7)))),
        "adaptive": lambda: ours(adaptive),
        "adaptive, prepared": lambda: ours(adaptive),
    }


def main() -> int:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coco", type=Path)
    parser.add_argument("--queries", type=int, default=12)
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spec = ExtractorSpec(points=arguments.points)
    with tempfile.TemporaryDirectory() as name:
        coco = arguments.coco
        if coco is None:
            drawn = draw_population(Path(name), individuals=SHORTLIST, encounters=2, photos_per_encounter=1,
                                    workers=arguments.threads)  # fmt: skip
            coco = next(species.path for species in drawn.species if species.format == "coco")
        started = time.perf_counter()
        queries, gallery = read_animals(coco, spec, arguments.queries)
        animals = [*queries, *gallery]
        extracting = (time.perf_counter() - started) / len(animals)
    theirs, network = peer(spec), load_matcher(spec.name)
    seconds: dict[str, list[float]] = {}
    first: dict[str, list[int]] = {}
    right: dict[str, int] = {}
    lists = shortlists(queries, gallery)
    for number, (query, candidates) in enumerate([lists[0], *lists]):  # the first one warms up
        for way, function in ways(query, candidates, theirs, network).items():
            started = time.perf_counter()
            best = function()
            if number:
                seconds.setdefault(way, []).append((time.perf_counter() - started) / len(candidates))
                first.setdefault(way, []).append(best)
                right[way] = right.get(way, 0) + (candidates[best].name == query.name)
    points = [len(one.features) for one in animals]
    print(f"{len(lists)} queries, {SHORTLIST} candidates each, {statistics.median(points):.0f} points a photo (least "
          f"{min(points)}), {arguments.threads} threads; taking them: {extracting:.2f} s a photo")  # fmt: skip
    print(f"{'way':20} {'pairs/s':>8} {'ratio':>6} {'same first as the peer':>23} {'right first':>12}")
    agreements, ratios = {}, {}
    for way, taken in seconds.items():
        speed = 1 / statistics.median(taken)
        ratios[way] = speed * statistics.median(seconds["peer"])
        agreements[way] = statistics.mean(a == b for a, b in zip(first[way], first["peer"], strict=True))
        print(f"{way:20} {speed:8.1f} {ratios[way]:6.2f} {agreements[way]:23.0%} {right[way] / len(lists):12.0%}")
    return 0 if ratios["adaptive"] >= AIM and agreements["adaptive"] >= AIM_AGREEMENT else 1


if __name__ == "__main__":
    sys.exit(main())
