"""Evaluation of many embeddings against a full distance matrix with a full argsort.

Each figure is run in a process of its own, on the same vectors, one after the other on the same machine; the peak is
that of the whole process. Ours ranks, scores and bootstraps the intervals; the peer only ranks and scores.

The peer does what public re-identification code does: one float32 distance matrix of all queries against the whole
gallery by one matrix product, ``np.argsort`` of all of it, a gather of the labels in that order, then top-k and average
precision query by query. With several species it still evaluates all rows at once and puts other species out of reach
by an infinite distance.

The made-up vectors are clusters of ten in 64 dimensions, projected to ``--dim`` and noised, so that about half of the
queries are answered rightly. The figures must agree, else the run fails.

    python benchmarks/bench_evaluation.py --rows 20000 --dim 2152 --species 40
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from resight.metrics import macro_average, summarise
from resight.ranking import rank_one_vs_all

PER_IDENTITY = 10
AIM_SPECIES, AIM_ONE, AIM_MIB = 20.0, 3.0, 2048


def make(folder: Path, rows: int, dim: int, species: int) -> dict[str, float]:
    """Write vectors.npy (rows, dim) float32, labels.npy and species.npy (rows,) int64."""
    rng = np.random.default_rng(0)
    n_identity = -(-rows // PER_IDENTITY)
    labels = np.arange(rows) // PER_IDENTITY
    latent = rng.normal(size=(n_identity, 64))[labels] + 1.4 * rng.normal(size=(rows, 64))
    vectors = latent.astype(np.float32) @ rng.normal(size=(64, dim)).astype(np.float32)
    vectors += 4 * rng.standard_normal(size=vectors.shape, dtype=np.float32)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "species.npy", labels * species // n_identity)
    return {}


def ours(vectors: np.ndarray, labels: np.ndarray, species: np.ndarray) -> dict[str, float]:
    """Rank and summarise species by species; macro figures in percent."""
    summaries = []
    for one in np.unique(species):
        rows = species == one
        ranking = rank_one_vs_all(vectors if rows.all() else vectors[rows], labels=labels[rows])
        summaries.append(summarise(ranking, labels[rows]))
    macro = macro_average(summaries)
    return {"top1": macro.top1 or 0.0, "map": macro.map or 0.0}


def peer(vectors: np.ndarray, labels: np.ndarray, species: np.ndarray) -> dict[str, float]:
    """Full float32 matrix, full argsort, then query by query; macro figures in percent."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    np.fill_diagonal(distance, np.inf)
    if species[0] != species[-1]:
        distance[species[:, None] != species] = np.inf
    order = np.argsort(distance, axis=1)
    matches = labels[order] == labels[:, None]
    n_reachable = np.bincount(species)[species] - 1
    top1, precision = np.zeros(len(labels)), np.full(len(labels), np.nan)
    for i in range(len(labels)):
        found = matches[i, : n_reachable[i]]
        if not found.any():
            continue
        top1[i] = found[:1].any()
        place = np.arange(1, len(found) + 1)
        precision[i] = ((found.cumsum() / place) * found).sum() / found.sum()
    used = ~np.isnan(precision)
    weight = np.bincount(species[used])
    return {
        "top1": float(np.mean(np.bincount(species[used], top1[used]) / weight)) * 100,
        "map": float(np.mean(np.bincount(species[used], precision[used]) / weight)) * 100,
    }


def work(name: str, folder: Path, one_species: bool) -> None:
    """Run one of the two on the files in ``folder`` and print what it took as JSON."""
    vectors, labels, species = (np.load(folder / f"{stem}.npy") for stem in ("vectors", "labels", "species"))
    if one_species:
        species = np.zeros_like(species)
    # A first small call loads what is loaded once (BLAS threads, lazy imports), for both alike.
    {"ours": ours, "peer": peer}[name](vectors[:200], labels[:200], np.zeros(200, dtype=np.int64))
    start = time.perf_counter()
    figures = {"ours": ours, "peer": peer}[name](vectors, labels, species)
    seconds = time.perf_counter() - start
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib, **figures}))


def child(*arguments: str) -> dict[str, float]:
    """Call this script in a fresh process; its last line is JSON."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    """Print one line a figure; 1 if one is below its aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=2_152)
    parser.add_argument("--species", type=int, default=40)
    parser.add_argument("--work", choices=["make", "ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work == "make":
        print(json.dumps(make(asked.folder, asked.rows, asked.dim, asked.species)))
        return 0
    if asked.work:
        work(asked.work, asked.folder, asked.one)
        return 0

    reached = True
    with tempfile.TemporaryDirectory() as folder:
        # This process stays small: a child's peak on Linux starts from what its parent held.
        size = ("--rows", str(asked.rows), "--dim", str(asked.dim), "--species", str(asked.species))
        child("--work", "make", "--folder", folder, *size)
        for title, aim, extra in (
            (f"{asked.species} species", AIM_SPECIES, ()),
            ("one species", AIM_ONE, ("--one",)),
        ):
            mine = child("--work", "ours", "--folder", folder, *extra)
            theirs = child("--work", "peer", "--folder", folder, *extra)
            ratio = theirs["seconds"] / mine["seconds"]
            agree = all(abs(mine[key] - theirs[key]) < 0.02 for key in ("top1", "map"))
            good = ratio >= aim and mine["peak_mib"] < AIM_MIB and agree
            reached &= good
            print(
                f"evaluation, {asked.rows} x {asked.dim}, {title}: {ratio:.1f}x the full argsort (aim {aim:.0f}x), "
                f"{mine['seconds']:.2f} s against {theirs['seconds']:.2f} s, peak {mine['peak_mib']:.0f} MiB against "
                f"{theirs['peak_mib']:.0f} MiB (aim {AIM_MIB}), top-1 {mine['top1']:.2f} and {theirs['top1']:.2f}, "
                f"mAP {mine['map']:.2f} and {theirs['map']:.2f}: {'reached' if good else 'NOT REACHED'}",
                flush=True,
            )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
