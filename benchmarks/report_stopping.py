"""How short a shortlist may be, and how soon its comparing may end, from the evidence of ``benchmarks/matching.py``.

    python benchmarks/report_stopping.py PROJECT STORE PLAN --out docs/results/matching

PLAN as for ``benchmarks/report_matching.py``; studies of a drawn part of the queries are left out. For each species,
split and model: the shortest list that holds the right animal as often as wanted, the evidence from which on a
candidate of it ends the search (``resight.calibration.stopping``), how many pairs of the longest list that saves, and
what it costs in top-1. Top-1 is of fits without the query's individual, which saw what was left of the evidence;
differences are paired, to the longest list compared to its end, with 95 % intervals by bootstrap over individuals.
Written are ``stopping.csv`` and ``stopping.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from matching import Studied, open_study
from report_matching import (
    Row,
    between,
    first_right,
    known_pairs,
    percent,
    read_arguments,
    read_plan,
    show,
    write_rows,
)
from resight.artefacts import write_text
from resight.calibrating import FOLDS
from resight.calibration.evidence import LOCAL_FEATURES
from resight.calibration.fitting import cross_fit
from resight.calibration.shortlists import lengths_of, pairs_of, stops_of
from resight.calibration.stopping import LEAST_QUERIES, Stop, looked_at
from resight.metrics import bootstrap_means, percentile_interval
from resight.project.folder import ProjectFolder

RECALLS = (None, 0.7, 0.8, 0.9, 0.95)  # None is the longest list
STRONGEST = LEAST_QUERIES  # queries of which it is told how many are right


def hits_of(studied: Studied, k: int, stop: Stop | None) -> tuple[NDArray[np.bool_], float, int]:
    """(m,) which queries have the right animal first, the share of them that stop early, and the pairs compared."""
    lists = studied.shortlists
    first = slice(0, k)
    held, same = lists.held[:, first], lists.names[:, first] == lists.individual[:, None]
    decisive = np.full(len(lists.ids), np.inf if stop is None else stop.decisive)
    looked = looked_at(studied.local["local_sum"][:, first], held, decisive)
    evidence = {name: studied.local[name][:, first] for name in LOCAL_FEATURES}
    pairs = pairs_of(lists, evidence, shortlist=k, decisive=decisive)
    held_out = cross_fit(pairs, folds=FOLDS).held_out(pairs.candidates, pairs.identity, pairs.groups, pairs.group_of)
    fused = np.full(held.shape, np.nan)
    fused[held] = held_out.logit
    return first_right(fused, same, held)[studied.chosen], float((held & ~looked).any(axis=1).mean()), int(looked.sum())


def stop_of(studied: Studied, k: int) -> Stop | None:
    """What ends the search along lists of ``k``."""
    lists = studied.shortlists
    return stops_of(lists, studied.local, shortlist=k).get(studied.study.species)


def strongest_right(studied: Studied, k: int) -> float:
    """Of the queries with the strongest local evidence on any candidate, the share for which that one is right."""
    lists = studied.shortlists
    held, sums = lists.held[:, :k], np.where(lists.held[:, :k], studied.local["local_sum"][:, :k], -np.inf)
    right = first_right(sums, lists.names[:, :k] == lists.individual[:, None], held)
    return float(right[np.argsort(-sums.max(axis=1), kind="stable")[:STRONGEST]].mean())


def stopping_rows(studies: Sequence[Studied]) -> list[Row]:
    """One row a recall, over all queries of some studies."""
    study = studies[0].study
    longest = max(study.ks)
    animals = np.concatenate([one.animals[one.chosen] for one in studies])
    codes = np.unique(animals, return_inverse=True)[1].astype(np.int64)
    whole = [hits_of(one, longest, None) for one in studies]
    base = np.concatenate([part[0] for part in whole])
    rows: list[Row] = []
    for wanted in RECALLS:
        lengths = [lengths_of(one.shortlists, wanted=wanted, longest=longest)[study.species] for one in studies]
        stops = [stop_of(one, length.candidates) for one, length in zip(studies, lengths, strict=True)]
        to_end = [hits_of(one, length.candidates, None) for one, length in zip(studies, lengths, strict=True)]
        parts = [hits_of(one, length.candidates, stop) if stop else end
                 for one, length, stop, end in zip(studies, lengths, stops, to_end, strict=True)]  # fmt: skip
        hits, ends = (np.concatenate([part[0] for part in some]).astype(float) for some in (parts, to_end))
        draws = bootstrap_means(100 * np.stack([ends - base, hits - base], axis=1), codes)
        (low, high), (worse, better) = (percentile_interval(draws[:, place]) for place in (0, 1))
        right = [strongest_right(one, length.candidates) for one, length in zip(studies, lengths, strict=True)]
        reached = np.average([length.reached or 0.0 for length in lengths], weights=[one.queries for one in lengths])
        rows.append(
            {
                "study": study.pooled if len(studies) > 1 else study.name, "species": study.species,
                "queries": len(hits), "gallery": int(np.median([length.gallery for length in lengths])),
                "longest": longest, "wanted": wanted, "k": "/".join(str(length.candidates) for length in lengths),
                "reached": 100 * float(reached), "strongest_right": 100 * float(np.mean(right)),
                "decisive": "/".join(f"{stop.decisive:.1f}" if stop else "none" for stop in dict.fromkeys(stops)),
                "stopped": 100 * float(np.mean([part[1] for part in parts])),
                "saved_by_k": 100 * (1 - sum(part[2] for part in to_end) / sum(part[2] for part in whole)),
                "saved": 100 * (1 - sum(part[2] for part in parts) / sum(part[2] for part in whole)),
                "top1_to_end": 100 * ends.mean(), "to_end": 100 * (ends - base).mean(), "to_end_low": low,
                "to_end_high": high, "top1": 100 * hits.mean(), "difference": 100 * (hits - base).mean(),
                "difference_low": worse, "difference_high": better,
            }
        )  # fmt: skip
    return rows


def as_markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = ["| | queries | photos | recall wanted | K | recall | pairs saved | top-1 | less the longest list | "
             f"strongest {STRONGEST} right | decisive from | queries stopped | pairs saved | top-1 |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        stops = row["decisive"] != "none"
        cells = [row["study"], row["queries"], row["gallery"],
                 "–" if row["wanted"] is None else f"{row['wanted']:.0%}", row["k"], percent(row, "reached"),
                 percent(row, "saved_by_k"), percent(row, "top1_to_end"),
                 "" if row["wanted"] is None else between(row, "to_end", "to_end_low", "to_end_high"),
                 percent(row, "strongest_right"), row["decisive"],
                 *(percent(row, name) if stops else "–" for name in ("stopped", "saved", "top1"))]  # fmt: skip
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Read, measure, write."""
    arguments = read_arguments(__doc__)
    project = ProjectFolder(arguments.project)
    studies = [one for one in read_plan(arguments.plan) if one.queries is None]
    known = known_pairs(arguments.store, studies)
    rows: list[Row] = []
    groups: dict[str, list[Studied]] = {}
    for study in studies:
        studied = open_study(project, arguments.store, study, known)
        rows += show(stopping_rows([studied]))
        if study.pooled:
            groups.setdefault(study.pooled, []).append(studied)
    for members in groups.values():
        rows += show(stopping_rows(members))
    write_rows(arguments.out / "stopping.csv", rows)
    write_text(arguments.out / "stopping.md", as_markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
