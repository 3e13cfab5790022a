"""All figures, intervals and gallery curves of an experiment's table, of many species at once.

Made-up vectors of ``--rows`` test annotations in ``--species`` species, ten of an identity, each an encounter of its
own, with half as many further photos of the same encounters, and as many background vectors. For every species
everything is made that a report shows: ``score`` (top-k, mAP, by encounter, single-image gallery, open set, both leak
probes), ``gallery_size`` for 1 to 10 annotations an identity with 10 draws; then the macro estimate of every figure,
and the interval of every species. Time is taken without making the vectors; the peak is that of the whole process.

    OMP_NUM_THREADS=2 python benchmarks/bench_experiments.py
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from resight.experiments.gallery import gallery_size
from resight.experiments.scores import PER_QUERY, Scores, score
from resight.experiments.sides import TestSide
from resight.experiments.statistics import estimate, macro_estimate

PER_IDENTITY = 10
AIM_SECONDS, AIM_MIB = 60.0, 2048


def drawn(species: int, rows: int, dim: int) -> tuple[TestSide, NDArray[np.float32], NDArray[np.float32]]:
    """One species: its test side, and vectors of chips and of backgrounds, of which about half are answered rightly."""
    rng = np.random.default_rng(species)
    encounter = np.concatenate([np.arange(rows), np.arange(0, rows, 2)])
    identity = encounter // PER_IDENTITY
    latent = rng.normal(size=(identity.max() + 1, 64))[identity] + 1.4 * rng.normal(size=(rows, 64))[encounter]
    vectors = latent.astype(np.float32) @ rng.normal(size=(64, dim)).astype(np.float32)
    vectors += 4 * rng.standard_normal(size=vectors.shape, dtype=np.float32)
    background = rng.standard_normal(size=vectors.shape, dtype=np.float32)
    names = np.array([f"{number:06}" for number in identity])
    side = TestSide(
        species=f"species {species:02}",
        annotation_ids=tuple(f"{number:08}" for number in range(len(encounter))),
        individuals=names,
        identities=names,
        encounters=np.array([f"{number:06}" for number in encounter]),
        tested=np.arange(len(encounter)) < rows,
        trained=identity % 2 == 0,
    )
    return side, vectors, background


def scored(asked: argparse.Namespace, spent: dict[str, float]) -> Iterator[Scores]:
    """Score every species; what it takes is added to ``spent``."""
    for species in range(asked.species):
        side, vectors, background = drawn(species, asked.rows // asked.species, asked.dim)
        start = time.perf_counter()
        found = score(side, vectors, background=background)
        spent["score"] += time.perf_counter() - start
        start = time.perf_counter()
        gallery_size(side, vectors)
        spent["gallery size"] += time.perf_counter() - start
        yield found


def main() -> int:
    """Print one line; 1 if the aim is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=1_280)
    parser.add_argument("--species", type=int, default=40)
    asked = parser.parse_args()
    spent = {"score": 0.0, "gallery size": 0.0, "intervals": 0.0}
    every = list(scored(asked, spent))
    start = time.perf_counter()
    for figure in PER_QUERY:
        macro_estimate({one.species: [one] for one in every}, figure)
        for one in every:
            estimate([one], figure)
    spent["intervals"] = time.perf_counter() - start
    seconds = sum(spent.values())
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    good = seconds < AIM_SECONDS and peak_mib < AIM_MIB
    parts = ", ".join(f"{name} {value:.1f} s" for name, value in spent.items())
    print(
        f"all figures of {sum(one.queries for one in every)} queries in {asked.species} species, {asked.dim} "
        f"dimensions: {seconds:.1f} s (aim {AIM_SECONDS:.0f} s; {parts}), peak {peak_mib:.0f} MiB (aim {AIM_MIB}): "
        f"{'reached' if good else 'NOT REACHED'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
