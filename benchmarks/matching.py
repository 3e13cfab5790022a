"""Matching beyond cosine: local evidence, fusion, calibration and unknown animals, measured on the test side of splits.

    python benchmarks/matching.py evidence PROJECT STORE --split S --model M [--species nyala] [--depth 50]
           [--points 512] [--box | --foreground] [--extractor aliked-n16] [--enlarged 1] [--queries N] [--part 0/2]
    python benchmarks/matching.py symmetry PROJECT STORE --split S --model M [--points 512] [--count 300]

``evidence`` compares every test annotation with the first ``--depth`` of its shortlist, as matching makes it, and keeps
what it finds in STORE by the pair's annotations: what is there is never computed again, also for another split or
model, and two processes may share the work (``--part``). A pair is computed once, the annotation with the lower id as
the query; ``symmetry`` says what that loses. ``benchmarks/report_matching.py`` makes tables and figures of it.

Each query is ranked against the test annotations of its species and side, its own encounter left out.
"""

from __future__ import annotations

import argparse
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
from resight.calibration.evidence import LOCAL_FEATURES
from resight.calibration.shortlists import Shortlists, shortlists_of
from resight.catalogue import store as catalogue
from resight.catalogue.store import StoredSplit
from resight.matching.local.evidence import ADAPTIVE, Evidence, LocalMatcher
from resight.matching.local.extractors import load_extractor
from resight.matching.local.features import ExtractorName, ExtractorSpec, LocalFeatures
from resight.matching.local.foreground import Estimates
from resight.matching.local.geometry import GeometrySpec
from resight.matching.local.lightglue import PairMatches, load_matcher
from resight.matching.local.pairs import numbers_of
from resight.matching.local.store import fit_estimates, make_features
from resight.project.folder import ProjectFolder
from resight.types import Annotation

LONGEST_PX = 640
KEPT_POINTS = 512  # features are taken once; a study with fewer points takes the surest of them
COLUMNS = (*LOCAL_FEATURES, "confidences", "matches", "inliers")  # the package's, and plainer ones
ROWS_A_SHARD = 20  # annotations compared between two writes

Pair = tuple[str, str]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Way:
    """How local evidence is computed.

    The longer side of an evidence chip is at most 640 px times ``enlarged``; no photo is enlarged by more than that.
    Without ``outline``, points are those of the whole box or, with ``foreground``, where the animal is estimated to be.
    """

    extractor: ExtractorName
    points: int
    outline: bool
    enlarged: float = 1.0
    foreground: bool = False

    @property
    def folder_name(self) -> str:
        """Under which it is kept."""
        larger = "" if self.enlarged == 1 else f"-{self.enlarged:g}x"
        kept = "outline" if self.outline else "estimate" if self.foreground else "box"
        return f"{self.extractor}-{self.points}-{kept}{larger}"

    @property
    def spec(self) -> ExtractorSpec:
        """How its keypoints are taken."""
        longest_px, points = round(LONGEST_PX * self.enlarged), max(self.points, KEPT_POINTS)
        return ExtractorSpec(self.extractor, points, longest_px=longest_px, most_enlarged=max(1.0, self.enlarged))


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
        nowhere, points = np.empty(0, np.int64), np.empty((0, 2), np.float32)
        matches = PairMatches(nowhere, nowhere, self.confidences)
        numbers = numbers_of(Evidence(matches, points, points, self.inliers, whole=True))
        return (*numbers, float(self.confidences.sum()), len(self.confidences), int(self.inliers.sum()))


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
    both = sorted({key for pair in pairs for key in pair})
    with project.database.reading() as connection:
        outlines = catalogue.outlines(connection, both) if way.outline else {}
    started = time.process_time()
    # Each process makes a part of the features, and waits for none: what is there when it is needed is not made again.
    extractor = load_extractor(way.spec)
    roots = project.settings.image_roots
    estimates = Estimates(folder / "features" / "foreground") if way.foreground else None
    if estimates is not None:
        fit_estimates(side.annotations.values(), roots, way.spec, estimates)
    for some in (both[place::parts], needed):
        chosen = [side.annotations[key] for key in some]
        features = make_features(chosen, outlines, roots, folder / "features", extractor, estimates)
        print(f"features: {features.made} made, {len(features.by_outline)} of {len(features.keys)} by outline, "
              f"{len(features.by_estimate)} by estimate, "
              f"{len(features.broken)} broken outlines, {len(features.failures)} failures, "
              f"{time.process_time() - started:.0f} s of CPU", flush=True)  # fmt: skip
    matcher = LocalMatcher(load_matcher(way.spec.name), ADAPTIVE, geometry=GeometrySpec(), remembered=500)

    def load(key: str) -> LocalFeatures:
        return features.load(key).best(way.points)

    started, done = time.process_time(), 0
    rows: list[tuple[str, str, Found]] = []
    for number, a in enumerate(mine, start=1):
        others = [b for b in by_query[a] if a in features.keys and b in features.keys]
        for b, one in zip(others, matcher.compare(load(a), others, load) if others else (), strict=True):
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
        points: Keypoints a photo; ``outline`` whether only those inside the animal's outline, ``foreground`` whether
            those where the animal is estimated to be, ``extractor`` of what.
        queries: How many are drawn; ``None`` takes all.
        shortlist: Candidates for calibration and unknown animals; ``None`` leaves these out. Twice as many are needed.
        pooled: Studies of one value here are averaged, queries counting alike.
    """

    name: str
    split: str
    model: str
    species: str = "nyala"
    ks: tuple[int, ...] = (10, 20, 50)
    points: int = 512
    outline: bool = True
    extractor: ExtractorName = "aliked-n16"
    enlarged: float = 1.0
    foreground: bool = False
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
    return Way(study.extractor, study.points, study.outline, study.enlarged, study.foreground)


def asked_way(arguments: argparse.Namespace) -> Way:
    """How local evidence is asked for on the command line."""
    outline = not (arguments.box or arguments.foreground)
    return Way(arguments.extractor, arguments.points, outline, arguments.enlarged, arguments.foreground)


def run_symmetry(arguments: argparse.Namespace) -> int:
    """``symmetry``: drawn pairs of shortlists compared both ways."""
    torch.set_num_threads(1)
    project = ProjectFolder(arguments.project)
    way = asked_way(arguments)
    side = open_side(project, arguments.split, arguments.model, arguments.species, arguments.depth)
    pairs = pairs_wanted(side.shortlists, drawn_queries(side.shortlists, None))
    drawn = [pairs[row] for row in np.random.default_rng(0).permutation(len(pairs))[: arguments.count]]
    known = KnownPairs(arguments.store / "pairs" / way.folder_name)
    needed = sorted({key for pair in drawn for key in pair})
    with project.database.reading() as connection:
        outlines = catalogue.outlines(connection, needed) if way.outline else {}
    chosen = [side.annotations[key] for key in needed]
    folder, roots = arguments.store / "features", project.settings.image_roots
    estimates = Estimates(folder / "foreground") if way.foreground else None
    features = make_features(chosen, outlines, roots, folder, load_extractor(way.spec), estimates)
    matcher = LocalMatcher(load_matcher(way.spec.name), ADAPTIVE, remembered=500)

    def load(key: str) -> LocalFeatures:
        return features.load(key).best(way.points)

    there, back = [], []
    for a, b in drawn:
        if (a, b) in known:
            one = matcher.compare(load(b), [a], load)[0]
            assert one is not None
            there.append(known[a, b].columns()[0])
            back.append(numbers_of(one)[0])
    a_sum, b_sum = np.array(there), np.array(back)
    off = np.abs(a_sum - b_sum)
    print(f"{len(off)} pairs: sum of squared confidences mean {a_sum.mean():.2f}, difference between the directions "
          f"median {np.median(off):.3f}, 95 % below {np.quantile(off, 0.95):.3f}, most {off.max():.3f}; correlation "
          f"{np.corrcoef(a_sum, b_sum)[0, 1]:.5f}")  # fmt: skip
    return 0


def run_evidence(arguments: argparse.Namespace) -> int:
    """``evidence``."""
    torch.set_num_threads(1)
    project = ProjectFolder(arguments.project)
    way = asked_way(arguments)
    side = open_side(project, arguments.split, arguments.model, arguments.species, arguments.depth)
    queries = drawn_queries(side.shortlists, arguments.queries)
    compute(project, arguments.store, side, way, pairs_wanted(side.shortlists, queries), arguments.part)
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("evidence", run_evidence), ("symmetry", run_symmetry)):
        command = commands.add_parser(name)
        command.add_argument("project", type=Path)
        command.add_argument("store", type=Path)
        command.add_argument("--split", required=True)
        command.add_argument("--model", required=True)
        command.add_argument("--species", default="nyala")
        command.add_argument("--depth", type=int, default=50)
        command.add_argument("--points", type=int, default=512)
        command.add_argument("--box", action="store_true", help="keypoints of the whole box, even with an outline")
        command.add_argument(
            "--foreground", action="store_true", help="where the animal is estimated to be, without outlines"
        )
        command.add_argument("--extractor", default="aliked-n16")
        command.add_argument("--enlarged", type=float, default=1.0)
        command.add_argument("--queries", type=int)
        command.add_argument("--part", default="0/1")
        command.add_argument("--count", type=int, default=300)
        command.set_defaults(run=run)
    arguments = parser.parse_args()
    result: int = arguments.run(arguments)
    return result


if __name__ == "__main__":
    sys.exit(main())
