"""Several models as one: what counting them equally, averaging their calibrations and fitting their shares give.

    python benchmarks/bench_ensembles.py PROJECT --split s0 --models a,b --models a,b,c

Scores the test side of a split one-vs-all. *Averaged* takes each model's own calibration (``resight calibrate --split
S --model M``, made beforehand). *Fitted* is one regression on all models; the individuals are in two halves, and each
half is scored by the fit on the other, so that nothing is scored by what it was fitted on. Differences are to the best
model alone, by mAP, with 95 % intervals, paired, by bootstrap over identities. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resight.artefacts import Passport
from resight.calibration.shortlists import Shortlists, shortlists_of
from resight.calibration.stored import Calibration
from resight.catalogue import store
from resight.catalogue.policy import individual_of
from resight.comparison import PairedScores, compare
from resight.embedding import EmbeddingSet
from resight.ensemble.shares import DEPTH
from resight.metrics import average_precision, excluded, top_k
from resight.project import Project
from resight.project.chosen import Chosen
from resight.ranking import codes_of, rank_one_vs_all


@dataclass(frozen=True)
class Scores:
    """Of each query of a species: whether a match is at rank 1, and its average precision."""

    hit: NDArray[np.bool_]
    precision: NDArray[np.float64]


def score(split: store.StoredSplit, table: EmbeddingSet, ids: Sequence[str]) -> tuple[Scores, NDArray[np.bool_]]:
    """All annotations of a species, each against the others, and which of them can match at all."""
    row_of = table.row_of()
    ranking = rank_one_vs_all(
        np.asarray(table.vectors[[row_of[key] for key in ids]]),
        labels=codes_of([split.identity[key] for key in ids]),
        groups=codes_of([split.encounter[key] for key in ids]),
        k=20,
    )
    return Scores(top_k(ranking, 1), average_precision(ranking)), ~excluded(ranking)


def halves(split: store.StoredSplit, keys: Sequence[str]) -> NDArray[np.bool_]:
    """(n,) which annotations are of the first half of the individuals, by a draw."""
    animals = codes_of([f"{split.species[key]} {individual_of(split.identity[key])}" for key in keys])
    return (np.random.default_rng(0).permutation(int(animals.max()) + 1) % 2 == 0)[animals]


def only(lists: Shortlists, queries: NDArray[np.bool_]) -> Shortlists:
    """The shortlists of some of the queries."""
    return replace(lists, neighbours=np.where(queries[:, None], lists.neighbours, -1))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--split", required=True)
    parser.add_argument("--models", action="append", required=True, help="names with commas between")
    asked = parser.parse_args()
    project = Project.open(asked.project)
    with project.database.reading() as connection:
        split = store.load_split(connection, asked.split)
        policy_of = store.policies(connection, project.settings)
        annotations = store.list_annotations(connection, project.settings)
    test = [a for a in annotations if split.subset.get(a.annotation_id) == store.TEST]
    print("| species | models | best alone: top-1, mAP | equal | averaged | fitted | fitted less best, top-1 | mAP |")
    print("|---|---|---|---|---|---|---|---|")
    for names in asked.models:
        equal = project._open(names.split(","))
        sets = project._embed_each(test, equal)
        averaged = equal.weighed(Path("nowhere"), partial(_calibration, project), asked.split)
        lists = shortlists_of(split, test, equal.join(sets, split.species), policy_of, depth=DEPTH)
        first = halves(split, lists.ids)
        fits = [equal.fitted(sets, only(lists, part), asked.split) for part in (first, ~first)]
        for species in sorted({split.species[key] for key in lists.ids}):
            ids = [key for key in lists.ids if split.species[key] == species]
            in_first = first[[split.species[key] == species for key in lists.ids]]
            print(_row(species, split, ids, in_first, equal, averaged, fits, sets), flush=True)


def _calibration(project: Project, name: str, passport: Passport) -> Calibration | None:
    return project._calibration(name, "none", passport)


def _row(
    species: str,
    split: store.StoredSplit,
    ids: Sequence[str],
    first: NDArray[np.bool_],
    equal: Chosen,
    averaged: Chosen,
    fits: Sequence[Chosen],
    sets: Sequence[EmbeddingSet],
) -> str:
    def joint(chosen: Chosen) -> Scores:
        return score(split, chosen.join(sets, split.species), ids)[0]

    alone = [score(split, one, ids)[0] for one in sets]
    can_match = score(split, sets[0], ids)[1]
    best = max(alone, key=lambda one: one.precision[can_match].mean())
    on_first, on_second = (joint(one) for one in fits)
    mixed = Scores(
        np.where(first, on_second.hit, on_first.hit), np.where(first, on_second.precision, on_first.precision)
    )
    identity = codes_of([split.identity[key] for key in ids])[can_match]
    pair = PairedScores(species, identity, best.hit[can_match], mixed.hit[can_match], best.precision[can_match],
                        mixed.precision[can_match])  # fmt: skip
    (told,) = compare("best", [pair]).species
    cells = [
        f"{100 * one.hit[can_match].mean():.1f}, {100 * one.precision[can_match].mean():.1f}"
        for one in (best, joint(equal), joint(averaged), mixed)
    ]
    names = " + ".join(one.name for one in equal.found)
    gains = [_gain(told.difference, told.difference_ci95), _gain(told.map_difference, told.map_difference_ci95)]
    return f"| {species} | {names} | {' | '.join(cells)} | {' | '.join(gains)} |"


def _gain(value: float | None, ends: tuple[float, float] | None) -> str:
    return "–" if value is None or ends is None else f"{value:+.1f} ({ends[0]:+.1f} to {ends[1]:+.1f})"


if __name__ == "__main__":
    main()
