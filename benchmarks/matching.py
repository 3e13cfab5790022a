"""Matching beyond cosine: local evidence, fusion, calibration and unknown animals, measured on the test side of splits.

    python benchmarks/matching.py evidence PROJECT STORE --split S --model M [--species nyala] [--depth 50]
           [--points 256] [--box] [--extractor aliked-n16] [--queries N] [--part 0/2]
    python benchmarks/matching.py symmetry PROJECT STORE --split S --model M [--points 256] [--count 300]
    python benchmarks/matching.py report PROJECT STORE PLAN --out docs/results/matching

``evidence`` compares every test annotation with the first ``--depth`` of its shortlist, as matching makes it, and keeps
what it finds in STORE by the pair's annotations: what is there is never computed again, also for another split or
model, and two processes may share the work (``--part``). A pair is computed once, the annotation with the lower id as
the query; ``symmetry`` says what that loses. ``report`` reads PLAN, a JSON list of studies (``Study``), and writes
tables and a figure.

Each query is ranked against the test annotations of its species and side, its own encounter left out. The fused order
and all probabilities are cross-fitted: those of a query come from fits that never saw its individual, either side of
it. Intervals are of 95 %, by bootstrap over individuals, and differences are paired. Of equal scores the wrong one
comes first. Inliers are ordered by their number, equal numbers by the sum of confidences.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resight import embedding
from resight.artefacts import write_csv
from resight.calibrating import (
    FOLDS,
    UNKNOWN_DRAWS,
    Shortlists,
    calibrate,
    pairs_of,
    shortlists_of,
    simulate,
    suggested_shares,
)
from resight.calibration.evidence import PairFeatures
from resight.calibration.fitting import cross_fit
from resight.calibration.open_figures import OpenFigures, open_figures
from resight.calibration.open_set import cross_fitted_new, simulate_unknown
from resight.calibration.reliability import ALL, FIRST, UNCLEAR, Reliability, log_loss
from resight.calibration.stored import passport_of
from resight.catalogue import store as catalogue
from resight.catalogue.store import StoredSplit
from resight.matching.local.evidence import ADAPTIVE, LocalMatcher
from resight.matching.local.extractors import load_extractor
from resight.matching.local.features import ExtractorSpec, LocalFeatures
from resight.matching.local.geometry import GeometrySpec
from resight.matching.local.lightglue import load_matcher
from resight.matching.local.store import make_features
from resight.metrics import bootstrap_means, percentile_interval
from resight.project.folder import ProjectFolder
from resight.types import Annotation

LONGEST_PX = 640
KEPT_POINTS = 512  # features are taken once; a study with fewer points takes the surest of them
COLUMNS = ("local_sum", "local_count", "local_inliers", "inlier_sum", "square_sum", "sure_count", "inlier_square_sum")
SURE = 0.5  # confidence from which on a match counts as sure
ROWS_A_SHARD = 20  # annotations compared between two writes

Pair = tuple[str, str]
Doubles = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Way:
    """How local evidence is computed."""

    extractor: str
    points: int
    outline: bool

    @property
    def folder_name(self) -> str:
        """Under which it is kept."""
        return f"{self.extractor}-{self.points}-{'outline' if self.outline else 'box'}"

    @property
    def spec(self) -> ExtractorSpec:
        """How its keypoints are taken."""
        return ExtractorSpec(name=self.extractor, points=max(self.points, KEPT_POINTS), longest_px=LONGEST_PX)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Found:
    """The matches of one pair.

    Attributes:
        confidences: (m,) float32.
        inliers: (m,) bool, which agree with one map.
    """

    confidences: NDArray[np.float32]
    inliers: NDArray[np.bool_]

    def columns(self) -> tuple[float, ...]:
        """In the order of ``COLUMNS``."""
        sure = self.confidences >= SURE
        return (
            float(self.confidences.sum()),
            len(self.confidences),
            int(self.inliers.sum()),
            float(self.confidences[self.inliers].sum()),
            float((self.confidences**2).sum()),
            int(sure.sum()),
            float((self.confidences[self.inliers] ** 2).sum()),
        )


class KnownPairs:
    """What pairs were found to have in common, kept in shards on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[Pair, Found] = {}
        for path in sorted(folder.glob("*.npz")):
            with np.load(path, allow_pickle=False) as file:
                ends = np.cumsum(file["lengths"])[:-1]
                columns = np.split(file["confidences"], ends), np.split(file["inliers"], ends)
                for a, b, *row in zip(file["a"].tolist(), file["b"].tolist(), *columns, strict=True):
                    self._found[a, b] = Found(*row)

    def __contains__(self, pair: Pair) -> bool:
        """Whether a pair was compared, in this direction."""
        return pair in self._found

    def __getitem__(self, pair: Pair) -> Found:
        """Its matches."""
        return self._found[pair]

    def write(self, name: str, rows: Sequence[tuple[str, str, Found]]) -> None:
        """Keep some pairs, in a shard of their own."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{name}.tmp"
        with temporary.open("wb") as file:
            np.savez(
                file,
                a=np.array([row[0] for row in rows]),
                b=np.array([row[1] for row in rows]),
                lengths=np.array([len(row[2].confidences) for row in rows], np.int64),
                confidences=np.concatenate([row[2].confidences for row in rows]),
                inliers=np.concatenate([row[2].inliers for row in rows]),
            )
        temporary.rename(self._folder / f"{name}.npz")


@dataclass(frozen=True)
class Side:
    """The test side of a split as one model ranks it."""

    split: StoredSplit
    annotations: Mapping[str, Annotation]
    shortlists: Shortlists


def open_side(project: ProjectFolder, split: str, model: str, species: str, depth: int) -> Side:
    """Rank the test annotations of one species, each side of the animal by itself."""
    with project.database.reading() as connection:
        frozen = catalogue.load_split(connection, split)
        annotations = catalogue.list_annotations(connection, project.settings, species=[species])
        policies = catalogue.policies(connection, project.settings)
    vectors = embedding.load(project.folder / "embeddings" / model, None, name=model)
    shortlists = shortlists_of(frozen, annotations, vectors, policies, depth=depth, species=[species])
    return Side(frozen, {one.annotation_id: one for one in annotations}, shortlists)


def pairs_wanted(shortlists: Shortlists, queries: Sequence[int]) -> list[Pair]:
    """The pairs of some queries' shortlists, each once."""
    held = shortlists.held
    found = set()
    for query in queries:
        for row in shortlists.neighbours[query][held[query]]:
            a, b = shortlists.ids[query], shortlists.ids[int(row)]
            found.add((min(a, b), max(a, b)))
    return sorted(found)


def drawn_queries(shortlists: Shortlists, count: int | None, seed: int = 0) -> list[int]:
    """Queries that can match, all or some of them drawn."""
    possible = np.flatnonzero(shortlists.can_match)
    if count is None or count >= len(possible):
        return [int(row) for row in possible]
    return sorted(int(row) for row in np.random.default_rng(seed).permutation(possible)[:count])


def compute(project: ProjectFolder, folder: Path, side: Side, way: Way, pairs: Sequence[Pair], part: str) -> None:
    """Compute the pairs that are not there yet."""
    known = KnownPairs(folder / "pairs" / way.folder_name)
    place, parts = (int(number) for number in part.split("/"))
    mine = sorted({a for a, _ in pairs})[place::parts]  # whatever is known by now: the parts may start at any time
    by_query: dict[str, list[str]] = {}
    for a, b in pairs:
        if (a, b) not in known:
            by_query.setdefault(a, []).append(b)
    mine = [a for a in mine if a in by_query]
    needed = sorted({key for a in mine for key in (a, *by_query[a])})
    print(f"{len(pairs)} pairs wanted; {sum(len(by_query[a]) for a in mine)} to compute here, of {len(needed)} photos",
          flush=True)  # fmt: skip
    if not mine:
        return
    with project.database.reading() as connection:
        outlines = catalogue.outlines(connection, needed) if way.outline else {}
    started = time.process_time()
    # Each process makes a part of the features, and waits for none: what is there when it is needed is not made again.
    both = sorted({key for pair in pairs for key in pair})
    extractor = load_extractor(way.spec)
    for some in (both[place::parts], needed):
        chosen = [side.annotations[key] for key in some]
        features = make_features(chosen, outlines, project.settings.image_roots, folder / "features", extractor)
        print(f"features: {features.made} made, {len(features.by_outline)} of {len(features.keys)} by outline, "
              f"{len(features.broken)} broken outlines, {len(features.failures)} failures, "
              f"{time.process_time() - started:.0f} s of CPU", flush=True)  # fmt: skip
    matcher = LocalMatcher(load_matcher(way.spec.name), ADAPTIVE, geometry=GeometrySpec(), remembered=500)

    def load(key: str) -> LocalFeatures:
        return features.load(key).best(way.points)

    started, done = time.process_time(), 0
    rows: list[tuple[str, str, Found]] = []
    for number, a in enumerate(mine, start=1):
        if a not in features.keys:
            continue
        others = [b for b in by_query[a] if b in features.keys]
        for b, one in zip(others, matcher.compare(load(a), others, load), strict=True):
            assert one is not None
            assert one.inliers is not None
            rows.append((a, b, Found(one.matches.confidences, one.inliers)))
        done += len(others)
        if rows and (number % ROWS_A_SHARD == 0 or number == len(mine)):
            known.write(f"{time.time_ns()}-{place}", rows)
            rows = []
            print(f"{number}/{len(mine)}: {done / (time.process_time() - started):.1f} pairs/s of CPU", flush=True)


@dataclass(frozen=True)
class Study:
    """One table of the report.

    Attributes:
        name: How the tables call it.
        split: Whose test side.
        model: Whose vectors make the shortlists.
        species: Of the queries.
        ks: Lengths of the shortlist.
        points: Keypoints a photo; ``outline`` whether only those inside the animal's outline, ``extractor`` of what.
        queries: How many are drawn; ``None`` takes all.
        shortlist: Candidates for calibration and unknown animals; ``None`` leaves these out. Twice as many are needed.
        pooled: Studies of one value here are averaged, queries counting alike.
    """

    name: str
    split: str
    model: str
    species: str = "nyala"
    ks: tuple[int, ...] = (10, 20, 50)
    points: int = 256
    outline: bool = True
    extractor: str = "aliked-n16"
    queries: int | None = None
    shortlist: int | None = None
    pooled: str = ""


@dataclass(frozen=True)
class Studied:
    """A study's shortlists with the local evidence of their pairs.

    Attributes:
        shortlists: Queries that are not part of the study have no candidates.
        local: Name → (n, depth), NaN where a pair was not computed.
        animals: (n,) each query's individual, by name.
        chosen: (m,) rows of the queries.
    """

    study: Study
    side: Side
    shortlists: Shortlists
    local: Mapping[str, Doubles]
    animals: NDArray[Any]
    chosen: NDArray[np.int64]


def open_study(project: ProjectFolder, folder: Path, study: Study, known: Mapping[str, KnownPairs]) -> Studied:
    """Rank, and put each pair's evidence beside it."""
    depth = max(*study.ks, 2 * (study.shortlist or 0))
    side = open_side(project, study.split, study.model, study.species, depth)
    lists, pairs = side.shortlists, known[way_of(study).folder_name]
    chosen = np.array(drawn_queries(lists, study.queries), np.int64)
    if study.queries is not None:
        left_out = np.setdiff1d(np.arange(len(lists.ids)), chosen)
        neighbours, cosine = lists.neighbours.copy(), lists.cosine.copy()
        neighbours[left_out], cosine[left_out] = -1, -np.inf
        lists = replace(lists, neighbours=neighbours, cosine=cosine)
    found = np.full((*lists.neighbours.shape, len(COLUMNS)), np.nan)
    for query, place in zip(*np.nonzero(lists.held), strict=True):
        a, b = lists.ids[query], lists.ids[int(lists.neighbours[query, place])]
        pair = (min(a, b), max(a, b))
        if pair in pairs:
            found[query, place] = pairs[pair].columns()
    local = {name: found[..., place] for place, name in enumerate(COLUMNS)}
    animals = np.array([str(side.annotations[key].individual) for key in lists.ids], dtype=object)
    return Studied(study, side, lists, local, animals, chosen)


def way_of(study: Study) -> Way:
    """How its evidence is computed."""
    return Way(study.extractor, study.points, study.outline)


def first_right(scores: Doubles, same: NDArray[np.bool_], held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) whether the best of each row is of the query's animal; of equal ones the wrong one counts as best."""
    scores = np.where(held, np.nan_to_num(scores, nan=-np.inf), -np.inf)
    right = np.where(same & held, scores, -np.inf).max(axis=1)
    found: NDArray[np.bool_] = right > np.where(~same & held, scores, -np.inf).max(axis=1)
    return found


def ways_of_ordering(studied: Studied, k: int) -> dict[str, NDArray[np.bool_]]:
    """Name → (n,) whether the first candidate is right, when the first ``k`` are put in that order."""
    lists = studied.shortlists
    first = slice(0, k)
    held, same = lists.held[:, first], lists.names[:, first] == lists.individual[:, None]
    local = {name: values[:, first] for name, values in studied.local.items()}
    evidence = {name: local[name] for name in ("local_sum", "local_count", "local_inliers")}
    found = {
        "embedding": first_right(lists.cosine[:, first].astype(np.float64), same, held),
        "local sum": first_right(local["local_sum"], same, held),
        "inliers": first_right(local["local_inliers"] + local["local_sum"] / 1e4, same, held),
    }
    pairs = pairs_of(lists, evidence, shortlist=k)
    held_out = cross_fit(pairs, folds=FOLDS).held_out(pairs.candidates, pairs.identity, pairs.groups, pairs.group_of)
    if np.isfinite(held_out.logit).all():
        fused = np.full(held.shape, np.nan)
        fused[held] = held_out.logit
        found["fused"] = first_right(fused, same, held)
    found["in the shortlist"] = (same & held).any(axis=1)
    return found


Row = dict[str, Any]


def top1_rows(studies: Sequence[Studied]) -> list[Row]:
    """Top-1 of each way by K over all queries of some studies, and how far above the embedding alone."""
    study = studies[0].study
    animals = np.concatenate([one.animals[one.chosen] for one in studies])
    codes = np.unique(animals, return_inverse=True)[1].astype(np.int64)
    name = study.pooled if len(studies) > 1 else study.name
    rows = []
    for k in study.ks:
        parts = [ways_of_ordering(one, k) for one in studies]
        computed = float(np.mean([np.isfinite(one.local["local_sum"][:, :k][one.shortlists.held[:, :k]]).mean()
                                  for one in studies]))  # fmt: skip
        base = np.concatenate([part["embedding"][one.chosen] for part, one in zip(parts, studies, strict=True)])
        for way in parts[0]:
            if not all(way in part for part in parts):
                continue
            hits = np.concatenate([part[way][one.chosen] for part, one in zip(parts, studies, strict=True)])
            figures = 100.0 * np.stack([hits, hits.astype(float) - base], axis=1)
            draws = bootstrap_means(figures, codes)
            low, high = percentile_interval(draws[:, 0])
            worse, better = percentile_interval(draws[:, 1])
            rows.append(
                {
                    "study": name, "species": study.species, "model": ", ".join(one.study.model for one in studies),
                    "points": study.points, "inside": "outline" if study.outline else "box", "queries": len(hits),
                    "individuals": len(np.unique(codes)), "k": k, "way": way, "top1": figures[:, 0].mean(),
                    "top1_low": low, "top1_high": high, "difference": figures[:, 1].mean(),
                    "difference_low": worse, "difference_high": better, "share_of_pairs_computed": computed,
                }
            )  # fmt: skip
    return rows


def unlogged(values: Doubles, scale: float = 10.0) -> Doubles:
    """What the fusion must be given so that it sees ``values`` / ``scale`` itself, whatever it makes of them."""
    logs = not np.isclose(PairFeatures(("cosine", "local_sum"), np.ones((1, 2))).column("local_sum")[0], 1.0)
    scaled = np.maximum(values, 0) / scale
    return np.expm1(np.minimum(scaled, 60)) if logs else scaled


def less_own_mean(lists: Shortlists, values: Doubles) -> Doubles:
    """Each pair's value less the mean of all pairs that its candidate is in, and 20 so that it stays above 0."""
    held = lists.held & np.isfinite(values)
    query, place = np.nonzero(held)
    found = np.full((len(lists.ids), len(lists.ids)), np.nan)
    found[query, lists.neighbours[query, place]] = values[query, place]
    found = np.fmax(found, found.T)
    mean = np.nansum(found, axis=0) / np.maximum(np.isfinite(found).sum(axis=0), 1)
    less: Doubles = values - mean[lists.neighbours] + 20
    return less


def feeds(studied: Studied) -> dict[str, dict[str, Doubles] | None]:
    """Ways of giving local evidence to the fusion: name → its three columns, or fewer."""
    local, lists = studied.local, studied.shortlists
    plain = {name: local[name] for name in ("local_sum", "local_count", "local_inliers")}
    squares = {"local_sum": local["square_sum"], "local_inliers": local["inlier_square_sum"]}
    sure = {"local_sum": local["local_sum"], "local_count": local["sure_count"], "local_inliers": local["inlier_sum"]}
    less = {name: less_own_mean(lists, values) for name, values in squares.items()}
    linear = {
        "sum, count, inliers; not logged": plain,
        "sum, sure count, inlier sum; not logged": sure,
        "sums of squares, all and inliers; not logged": squares,
        "the same less the candidate's mean": less,
    }
    return {
        "none: cosine alone": None,
        "as the package has it": plain,
        "sums of squares, all and inliers; as the package": squares,
        **{name: {key: unlogged(values) for key, values in columns.items()} for name, columns in linear.items()},
    }


def feed_rows(studies: Sequence[Studied], k: int) -> list[Row]:
    """Top-1 and log loss of the cross-fitted fusion, by what it is given."""
    study = studies[0].study
    found: dict[str, list[tuple[NDArray[np.bool_], Doubles, NDArray[np.bool_]]]] = {}
    for one in studies:
        lists = one.shortlists
        held, same = lists.held[:, :k], lists.names[:, :k] == lists.individual[:, None]
        for name, local in feeds(one).items():
            columns = None if local is None else {key: values[:, :k] for key, values in local.items()}
            pairs = pairs_of(lists, columns, shortlist=k)
            held_out = cross_fit(pairs, folds=FOLDS).held_out(
                pairs.candidates, pairs.identity, pairs.groups, pairs.group_of
            )
            fused = np.full(held.shape, np.nan)
            fused[held] = held_out.logit
            found.setdefault(name, []).append((first_right(fused, same, held)[one.chosen], held_out.p, pairs.same))
    animals = np.concatenate([one.animals[one.chosen] for one in studies])
    codes = np.unique(animals, return_inverse=True)[1].astype(np.int64)
    base = np.concatenate([part[0] for part in found["as the package has it"]])
    rows = []
    for name, parts in found.items():
        hits = np.concatenate([part[0] for part in parts])
        figures = 100.0 * np.stack([hits, hits.astype(float) - base], axis=1)
        worse, better = percentile_interval(bootstrap_means(figures, codes)[:, 1])
        rows.append(
            {
                "study": study.pooled if len(studies) > 1 else study.name, "species": study.species, "k": k,
                "given": name, "queries": len(hits), "top1": figures[:, 0].mean(), "difference": figures[:, 1].mean(),
                "difference_low": worse, "difference_high": better,
                "log_loss": float(np.mean([log_loss(p, same) for _, p, same in parts])),
            }
        )  # fmt: skip
    return rows


def reliability_rows(studied: Studied) -> tuple[list[Row], Mapping[str, Reliability], Mapping[str, OpenFigures]]:
    """Calibration error of each view, of the fusion with local evidence, of the cosine alone, and of bare cosines."""
    study = studied.study
    evidence = {name: studied.local[name] for name in ("local_sum", "local_count", "local_inliers")}
    shares = suggested_shares(studied.side.annotations.values())
    rows = []
    kept: dict[str, Reliability] = {}
    figures: dict[str, OpenFigures] = {}
    assert study.shortlist is not None
    for fused, local in (("fused", evidence), ("cosine, calibrated", None)):
        passport = passport_of({}, shortlist=study.shortlist, local_key=None, model=study.model, split=study.split,
                               catalogue_revision=0)  # fmt: skip
        judged = calibrate(studied.shortlists, local, passport, shares, shortlist=study.shortlist)
        figures[fused] = judged.calibration.open_figures[study.species]
        figures["best cosine"] = judged.peer_figures[study.species]
        for view, one in judged.calibration.reliability[study.species].items():
            reading, _, what = view.rpartition(": ")
            if what not in (ALL, FIRST, UNCLEAR) or (reading and local is None):
                continue
            kept[f"{reading or fused}: {what}"] = one
            rows.append(
                {
                    "study": study.name, "species": study.species, "shortlist": study.shortlist,
                    "probability": reading or fused, "of": what, "pairs": one.pairs, "same": one.same, "ece": one.ece,
                    "ece_by_chance": one.ece_by_chance, "brier": one.brier, "log_loss": one.log_loss,
                }
            )  # fmt: skip
    return rows, kept, figures


def open_rows(studied: Studied, figures: Mapping[str, OpenFigures]) -> list[Row]:
    """How well new animals are told from known ones, half of the individuals made unknown, against bare scores."""
    study = studied.study
    assert study.shortlist is not None
    lists, k = studied.shortlists, study.shortlist
    evidence = {name: studied.local[name] for name in ("local_sum", "local_count", "local_inliers")}
    scores: dict[str, Doubles] = {}
    for name, local in (("fused", evidence), ("cosine, calibrated", None)):
        cross = cross_fit(pairs_of(lists, local, shortlist=k), folds=FOLDS)
        simulated = simulate(lists, local, cross, shortlist=k)
        new = cross_fitted_new(simulated.queries, folds=FOLDS)
        if not np.isfinite(new.p).all() or len(new.p) != UNKNOWN_DRAWS * len(lists.ids):
            return []
        scores[name] = new.p
        scores["best cosine"] = -simulated.best_cosine
        part, queries = simulated.queries.draw * FOLDS + new.part, simulated.queries
    best, right = best_local(lists, studied.local["local_sum"], k)
    is_new = queries.is_new
    scores["best local sum"] = -best
    own = open_figures(-best, is_new, right & ~is_new, queries.identity, part, threshold=0.0)
    figures = {**figures, "best local sum": own}
    drawn = {name: aurocs(values, is_new, queries.identity, part) for name, values in scores.items()}
    rows = []
    for name, values in drawn.items():
        low, high = percentile_interval(values[1:])
        worse, better = percentile_interval(values[1:] - drawn["best cosine"][1:])
        has_threshold = name in ("fused", "cosine, calibrated")
        one = figures[name]
        rows.append(
            {
                "study": study.name, "species": study.species, "shortlist": k, "score": name,
                "queries": len(lists.ids), "draws": UNKNOWN_DRAWS, "auroc": values[0], "auroc_low": low,
                "auroc_high": high, "above_best_cosine": values[0] - drawn["best cosine"][0],
                "above_low": worse, "above_high": better, "oscr": one.oscr,
                "baks": one.baks if has_threshold else None, "baus": one.baus if has_threshold else None,
            }
        )  # fmt: skip
        if one.auroc is not None and abs(one.auroc - values[0]) > 1e-6:
            raise AssertionError(f"{name}: {one.auroc} and {values[0]}")
    return rows


def best_local(lists: Shortlists, local_sum: Doubles, k: int) -> tuple[Doubles, NDArray[np.bool_]]:
    """(draws × n,) the best sum of confidences of what is kept in each draw, and whether it is the query's animal."""
    best, right = [], []
    for out in simulate_unknown(lists.individual, draws=UNKNOWN_DRAWS, seed=0):
        keep = lists.held & ~out[lists.neighbours]
        keep &= np.cumsum(keep, axis=1) <= k
        sums = np.where(keep, np.nan_to_num(local_sum, nan=0.0), -1.0)
        same = (lists.names == lists.individual[:, None]) & keep
        best.append(sums.max(axis=1))
        right.append(first_right(sums, same, keep))
    return np.concatenate(best), np.concatenate(right)


def aurocs(score: Doubles, is_new: NDArray[np.bool_], identity: NDArray[np.int64], part: NDArray[np.int64],
           draws: int = 500) -> Doubles:  # fmt: skip
    """(1 + draws,) mean AUROC over the parts, of all identities first, then of identities drawn with replacement.

    The same draws for any score: differences are paired.
    """
    codes = np.unique(identity, return_inverse=True)[1].reshape(len(identity))
    counts = np.random.default_rng(0).multinomial(codes.max() + 1, np.full(codes.max() + 1, 1 / (codes.max() + 1)),
                                                  size=draws)  # fmt: skip
    weights = np.concatenate([np.ones((1, codes.max() + 1)), counts])
    parts = []
    for code in np.unique(part):
        new, known = (np.flatnonzero((part == code) & side) for side in (is_new, ~is_new))
        if len(new) and len(known):
            above = np.sign(score[new][:, None] - score[known][None]) / 2 + 0.5
            w_new, w_known = weights[:, codes[new]], weights[:, codes[known]]
            total = w_new.sum(axis=1) * w_known.sum(axis=1)
            won = np.einsum("dn,nk,dk->d", w_new, above, w_known, optimize=True)
            parts.append(np.divide(won, total, out=np.full(len(won), np.nan), where=total > 0))
    found: Doubles = np.nanmean(np.stack(parts), axis=0)
    return found


def draw_reliability(path: Path, drawn: Sequence[tuple[str, Sequence[tuple[str, Reliability]]]]) -> None:
    """One panel a view: mean probability against the share that is right, bin by bin, with Wilson intervals."""
    from matplotlib.figure import Figure

    from resight.experiments.drawing import COLOURS, MARKERS, style

    with style():
        picture = Figure(figsize=(3.3 * len(drawn), 3.4), layout="constrained")
        panels = picture.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
        for panel, (title, curves) in zip(panels, drawn, strict=True):
            panel.plot([0, 1], [0, 1], color="#b8b8b8", linewidth=0.8)
            for number, (name, one) in enumerate(curves):
                mean, share = ([getattr(bin_, field) for bin_ in one.bins] for field in ("mean", "share"))
                off = np.array([[bin_.share - bin_.low, bin_.high - bin_.share] for bin_ in one.bins]).T
                ece = f"{name}, error {100 * (one.ece or 0):.1f} %"
                panel.errorbar(mean, share, yerr=np.clip(off, 0, None), color=COLOURS[number], marker=MARKERS[number],
                               markersize=3.5, linewidth=0.9, elinewidth=0.6, label=ece)  # fmt: skip
            panel.set(title=title, xlabel="P(same) that was told", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            panel.legend(fontsize=6.5, frameon=False, loc="upper left")
        panels[0].set_ylabel("share that shows one animal")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.savefig(path, dpi=120, metadata={"Software": None})


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """A table as CSV, numbers to four significant digits behind the point."""

    def shown(value: object) -> object:
        return "" if value is None else f"{value:.4f}" if isinstance(value, float) else value

    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, tuple(rows[0]), ([shown(value) for value in row.values()] for row in rows))


def run_report(arguments: argparse.Namespace) -> int:
    """``report``."""
    project = ProjectFolder(arguments.project)
    studies = [Study(**{**one, "ks": tuple(one.get("ks", Study.ks))}) for one in json.loads(arguments.plan.read_text())]
    known = {
        name: KnownPairs(arguments.store / "pairs" / name) for name in {way_of(one).folder_name for one in studies}
    }
    top1: list[Row] = []
    calibrated: list[Row] = []
    unknown: list[Row] = []
    given: list[Row] = []
    curves: dict[str, Mapping[str, Reliability]] = {}
    groups: dict[str, list[Studied]] = {}
    for study in studies:
        studied = open_study(project, arguments.store, study, known)
        missing = np.isnan(studied.local["local_sum"]) & studied.shortlists.held
        print(f"{study.name}: {len(studied.chosen)} queries, {int(missing.sum())} of "
              f"{int(studied.shortlists.held.sum())} pairs were not computed", flush=True)  # fmt: skip
        top1 += show(top1_rows([studied]))
        if study.pooled:
            groups.setdefault(study.pooled, []).append(studied)
        if study.shortlist is not None:
            rows, curves[study.name], figures = reliability_rows(studied)
            calibrated += show(rows)
            unknown += show(open_rows(studied, figures))
        if study.queries is None and not study.pooled:
            given += show(feed_rows([studied], max(study.ks)))
    for members in groups.values():
        top1 += show(top1_rows(members))
        given += show(feed_rows(members, max(members[0].study.ks)))
    write_rows(arguments.out / "top1.csv", top1)
    write_rows(arguments.out / "calibration.csv", calibrated)
    write_rows(arguments.out / "unknown.csv", unknown)
    write_rows(arguments.out / "given.csv", given)
    names = ("fused", "cosine, at least 0")
    panels = [
        (study.name, [(name, curves[study.name][f"{name}: {FIRST}"]) for name in names])
        for study in studies
        if study.name in curves
    ]
    if panels:
        draw_reliability(arguments.out / "reliability.png", panels)
    return 0


def show(rows: list[Row]) -> list[Row]:
    """Print rows on their way."""
    for row in rows:
        values = (f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values())
        print("  " + "  ".join(values), flush=True)
    return rows


def run_symmetry(arguments: argparse.Namespace) -> int:
    """``symmetry``: drawn pairs of shortlists compared both ways."""
    torch.set_num_threads(1)
    project = ProjectFolder(arguments.project)
    way = Way(arguments.extractor, arguments.points, not arguments.box)
    side = open_side(project, arguments.split, arguments.model, arguments.species, arguments.depth)
    pairs = pairs_wanted(side.shortlists, drawn_queries(side.shortlists, None))
    drawn = [pairs[row] for row in np.random.default_rng(0).permutation(len(pairs))[: arguments.count]]
    known = KnownPairs(arguments.store / "pairs" / way.folder_name)
    needed = sorted({key for pair in drawn for key in pair})
    with project.database.reading() as connection:
        outlines = catalogue.outlines(connection, needed) if way.outline else {}
    chosen = [side.annotations[key] for key in needed]
    features = make_features(chosen, outlines, project.settings.image_roots, arguments.store / "features",
                             load_extractor(way.spec))  # fmt: skip
    matcher = LocalMatcher(load_matcher(way.spec.name), ADAPTIVE, remembered=500)

    def load(key: str) -> LocalFeatures:
        return features.load(key).best(way.points)

    there, back = [], []
    for a, b in drawn:
        if (a, b) in known:
            one = matcher.compare(load(b), [a], load)[0]
            assert one is not None
            there.append(known[a, b].columns()[0])
            back.append(one.confidence)
    a_sum, b_sum = np.array(there), np.array(back)
    off = np.abs(a_sum - b_sum)
    print(f"{len(off)} pairs: sum of confidences mean {a_sum.mean():.2f}, difference between the directions median "
          f"{np.median(off):.3f}, 95 % below {np.quantile(off, 0.95):.3f}, most {off.max():.3f}; correlation "
          f"{np.corrcoef(a_sum, b_sum)[0, 1]:.5f}")  # fmt: skip
    return 0


def run_evidence(arguments: argparse.Namespace) -> int:
    """``evidence``."""
    torch.set_num_threads(1)
    project = ProjectFolder(arguments.project)
    way = Way(arguments.extractor, arguments.points, not arguments.box)
    side = open_side(project, arguments.split, arguments.model, arguments.species, arguments.depth)
    queries = drawn_queries(side.shortlists, arguments.queries)
    compute(project, arguments.store, side, way, pairs_wanted(side.shortlists, queries), arguments.part)
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run, depth in (("evidence", run_evidence, 50), ("symmetry", run_symmetry, 50)):
        command = commands.add_parser(name)
        command.add_argument("project", type=Path)
        command.add_argument("store", type=Path)
        command.add_argument("--split", required=True)
        command.add_argument("--model", required=True)
        command.add_argument("--species", default="nyala")
        command.add_argument("--depth", type=int, default=depth)
        command.add_argument("--points", type=int, default=256)
        command.add_argument("--box", action="store_true", help="keypoints of the whole box, even with an outline")
        command.add_argument("--extractor", default="aliked-n16")
        command.add_argument("--queries", type=int)
        command.add_argument("--part", default="0/1")
        command.add_argument("--count", type=int, default=300)
        command.set_defaults(run=run)
    report = commands.add_parser("report")
    report.add_argument("project", type=Path)
    report.add_argument("store", type=Path)
    report.add_argument("plan", type=Path)
    report.add_argument("--out", type=Path, required=True)
    report.set_defaults(run=run_report)
    arguments = parser.parse_args()
    result: int = arguments.run(arguments)
    return result


if __name__ == "__main__":
    sys.exit(main())
