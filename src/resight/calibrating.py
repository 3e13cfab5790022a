"""Calibrating a model's answers: from the test side of a split to P(same) and P(new), and how true these are.

Queries are compared as matching compares them: inside a species, the other side of the animal and the query's own
encounter left out, and a shortlist of the nearest taken. What turns the evidence into probabilities is then fitted on
identities that the model was not trained on, or was; and judged on those that each fit did not see.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.artefacts import Passport
from resight.calibration.evidence import Candidates, Group, Ints, Pairs, best_names, candidates_of
from resight.calibration.fitting import CrossFusion, cross_fit, fit_fusion
from resight.calibration.open_figures import OpenFigures, OperatingPoint, open_figures, operating_point
from resight.calibration.open_set import (
    OpenQueries,
    SuggestedShare,
    cross_fitted_new,
    fit_open_set,
    shift_share,
    simulate_unknown,
    suggested_share_of_new,
)
from resight.calibration.reliability import Reliability, cosine_readings, reliability_views
from resight.calibration.stored import Calibration
from resight.catalogue.policy import animal_of, individual_of, separates_sides, side_of
from resight.catalogue.store import TEST, StoredSplit
from resight.embedding import EmbeddingSet
from resight.errors import InputError
from resight.ranking import Ranking, codes_of, rank_one_vs_all
from resight.settings import Policy
from resight.types import Annotation

FOLDS = 5
UNKNOWN_DRAWS = 4  # simulated halvings of the identities; every second one is the complement of the one before
CALIBRATED, BEST_COSINE = "P(new)", "best cosine"

Bools = NDArray[np.bool_]
LocalArrays = Mapping[str, NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Costs:
    """What errors cost, by which a query is called new or not.

    Attributes:
        missed: A known animal that is called new.
        false: A wrong name.
    """

    missed: float = 1.0
    false: float = 1.0


@dataclass(frozen=True)
class Shortlists:
    """The shortlists of all test annotations as queries, gallery after gallery; n of them, ``depth`` candidates each.

    Attributes:
        ids: Their annotation ids.
        individual: (n,) int64 codes; the sides of one animal share a code, no two species do.
        groups: The species and viewpoints there are.
        group_of: (n,) int64, each query's place in ``groups``.
        gallery: (n,) int64, which gallery it is compared inside.
        neighbours: (n, depth) int64, rows of ``ids``, nearest first; −1 where there are fewer.
        cosine: (n, depth) float32, −inf beside −1.
        can_match: (n,) bool, whether any annotation it is compared with is of its animal.
    """

    ids: tuple[str, ...]
    individual: Ints
    groups: tuple[Group, ...]
    group_of: Ints
    gallery: Ints
    neighbours: Ints
    cosine: NDArray[np.float32]
    can_match: Bools

    @property
    def held(self) -> Bools:
        """(n, depth) which places hold a candidate."""
        held: Bools = self.neighbours >= 0
        return held

    @property
    def names(self) -> Ints:
        """(n, depth) codes of the candidates' individuals, −1 where there is none."""
        return np.where(self.held, self.individual[self.neighbours], -1)


def shortlists_of(
    split: StoredSplit,
    annotations: Iterable[Annotation],
    embeddings: EmbeddingSet,
    policy_of: Mapping[str, Policy],
    *,
    depth: int,
    species: Sequence[str] | None = None,
) -> Shortlists:
    """Rank the test side of a split as matching does.

    Args:
        split: Frozen; its identities and encounters count.
        annotations: Of the catalogue, for their viewpoints.
        embeddings: Vectors of the test annotations; those without one take no part.
        policy_of: Species → viewpoint policy.
        depth: Candidates a query.
        species: Only these; ``None``: all.

    Raises:
        InputError: nothing to compare.
    """
    row_of = embeddings.row_of()
    members: dict[tuple[str, str | None], list[Annotation]] = defaultdict(list)
    for one in annotations:
        name = split.species.get(one.annotation_id)
        if split.subset.get(one.annotation_id) != TEST or name is None or one.annotation_id not in row_of:
            continue
        if species is not None and name not in species:
            continue
        side = side_of(split.identity[one.annotation_id]) if separates_sides(policy_of.get(name, "ignore")) else None
        members[name, side].append(one)
    codes: dict[tuple[str, str], int] = {}
    groups: dict[Group, int] = {}
    parts: list[tuple[list[str], list[int], list[int], Ranking]] = []
    for (name, side), of_gallery in sorted(members.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        ids = [one.annotation_id for one in of_gallery]
        animals = [(animal_of(name), individual_of(split.identity[key])) for key in ids]
        individual = [codes.setdefault(animal, len(codes)) for animal in animals]
        of_group = [groups.setdefault(Group(name, side or one.viewpoint), len(groups)) for one in of_gallery]
        ranking = rank_one_vs_all(
            np.asarray(embeddings.vectors[[row_of[key] for key in ids]]),
            labels=np.array(individual, np.int64),
            groups=codes_of([split.encounter[key] for key in ids]),
            k=depth,
        )
        parts.append((ids, individual, of_group, ranking))
    if not parts:
        raise InputError(f"split {split.name!r} has no test annotation with a vector; make another split")
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    shifted = [
        np.where(part[3].neighbours >= 0, part[3].neighbours + start, -1)
        for part, start in zip(parts, starts, strict=False)
    ]
    return Shortlists(
        tuple(key for part in parts for key in part[0]),
        np.array([code for part in parts for code in part[1]], np.int64),
        tuple(groups),
        np.array([place for part in parts for place in part[2]], np.int64),
        np.repeat(np.arange(len(parts)), np.diff(starts)),
        np.concatenate(shifted),
        np.concatenate([part[3].scores for part in parts]),
        np.concatenate([part[3].n_possible > 0 for part in parts]),
    )


def pairs_of(shortlists: Shortlists, local: LocalArrays | None, *, shortlist: int) -> Pairs:
    """The confirmed and refuted pairs of the first ``shortlist`` candidates of every query.

    Args:
        shortlists: From :func:`shortlists_of`.
        local: Local evidence of each pair, (n, depth or shortlist) arrays; see
            :func:`resight.calibration.evidence.candidates_of`.
        shortlist: As many as matching looks at.
    """
    first = slice(0, shortlist)
    held, names = shortlists.held[:, first], shortlists.names[:, first]
    candidates = candidates_of(shortlists.cosine[:, first], names, held, _columns(local, first))
    query = np.nonzero(held)[0]
    return Pairs(
        candidates,
        names[held] == shortlists.individual[query],
        shortlists.neighbours[:, first][held],
        shortlists.individual[query],
        shortlists.groups,
        shortlists.group_of[query],
    )


@dataclass(frozen=True)
class Simulated:
    """Queries of which half of the identities were made unknown, and what the cosine alone says of them.

    Attributes:
        queries: One row a query and draw, of species that have a probability.
        best_cosine: (m,) of the nearest candidate that was kept.
        cosine_right: (m,) whether that one is the query's animal.
    """

    queries: OpenQueries
    best_cosine: NDArray[np.float64]
    cosine_right: Bools


def simulate(
    shortlists: Shortlists, local: LocalArrays | None, cross: CrossFusion, *, shortlist: int, seed: int = 0
) -> Simulated:
    """Take half of the identities out of the galleries, several times, and see what every query finds then.

    Args:
        shortlists: At a depth of about twice ``shortlist``, so that as many remain.
        local: Local evidence of the pairs, at the same depth.
        cross: Fusions without each query's identity.
        shortlist: As many candidates as matching looks at.
        seed: Of the draws.
    """
    n = len(shortlists.ids)
    drawn = simulate_unknown(shortlists.individual, draws=UNKNOWN_DRAWS, seed=seed)
    species_names = tuple(sorted({group.species for group in shortlists.groups}))
    species_of_group = np.array([species_names.index(group.species) for group in shortlists.groups], np.int64)
    parts: list[dict[str, NDArray[Any]]] = []
    for draw, out in enumerate(drawn):
        kept, order = _first_kept(shortlists, out, shortlist)
        cosine = np.take_along_axis(shortlists.cosine, order, axis=1)
        names = np.where(kept, np.take_along_axis(shortlists.names, order, axis=1), -1)
        columns = None if local is None else {
            name: np.take_along_axis(np.asarray(values), order, axis=1) for name, values in local.items()
        }  # fmt: skip
        candidates = candidates_of(cosine, names, kept, columns)
        evidence = _held_out_evidence(cross, candidates, shortlists, kept)
        is_known_species = np.isfinite(evidence)
        usable = np.ones(n, np.bool_)
        usable[np.unique(candidates.query[~is_known_species])] = False
        rows = usable[candidates.query]
        best = best_names(evidence[rows], candidates.query[rows], candidates.name[rows], n)
        counted = _names_in_galleries(shortlists, out)
        is_new = out | ~shortlists.can_match
        nearest = np.where(kept[:, 0], cosine[:, 0], -1.0).astype(np.float64)
        parts.append(
            {
                "best": best.best, "gap": best.gap, "names": np.where(np.isneginf(best.best), 0, counted),
                "is_new": is_new, "right": (best.name == shortlists.individual) & ~is_new,
                "identity": shortlists.individual, "species": species_of_group[shortlists.group_of],
                "draw": np.full(n, draw), "cosine": nearest,
                "cosine_right": kept[:, 0] & (names[:, 0] == shortlists.individual) & ~is_new, "usable": usable,
            }
        )  # fmt: skip
    every = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    chosen = every["usable"]
    taken = {name: every[name][chosen] for name in every}
    queries = OpenQueries(
        best=taken["best"], gap=taken["gap"], names=taken["names"], is_new=taken["is_new"], right=taken["right"],
        identity=taken["identity"], species=taken["species"], draw=taken["draw"], species_names=species_names,
    )  # fmt: skip
    return Simulated(queries, taken["cosine"], taken["cosine_right"])


@dataclass(frozen=True)
class Judged:
    """A calibration, and the figures of its peers beside its own.

    Attributes:
        calibration: To be stored.
        peer_figures: Species → how well the best cosine tells new animals from known ones.
        first_right: Species → share of queries whose first candidate is right, by the cosine and by all the evidence,
            of fits without the query's identity: whether local evidence helps a species shows here.
    """

    calibration: Calibration
    peer_figures: Mapping[str, OpenFigures]
    first_right: Mapping[str, tuple[float, float]]


def calibrate(
    shortlists: Shortlists,
    local: LocalArrays | None,
    passport: Passport,
    shares: Mapping[str, SuggestedShare],
    *,
    shortlist: int,
    costs: Costs | None = None,
) -> Judged:
    """Fit P(same) and P(new), and judge both on identities that each fit did not see.

    Args:
        shortlists: At a depth of about twice ``shortlist``.
        local: Local evidence of all their pairs; ``None`` calibrates the cosine alone.
        passport: From :func:`resight.calibration.stored.passport_of`.
        shares: Species → the share of new animals to expect.
        shortlist: As many candidates as matching looks at.
        costs: Of errors, for the operating points.
    """
    costs = costs or Costs()
    pairs = pairs_of(shortlists, local, shortlist=shortlist)
    fusion, cross = fit_fusion(pairs), cross_fit(pairs, folds=FOLDS)
    held_out = cross.held_out(pairs.candidates, pairs.identity, pairs.groups, pairs.group_of)
    simulated = simulate(shortlists, local, cross, shortlist=shortlist)
    queries = simulated.queries
    open_set = fit_open_set(queries)
    new = cross_fitted_new(queries, folds=FOLDS)
    part = queries.draw * FOLDS + new.part
    figures, peers, points = {}, {}, {}
    for place, name in enumerate(queries.species_names):
        mine = (queries.species == place) & np.isfinite(new.p)
        if not mine.any() or queries.is_new[mine].all() or not queries.is_new[mine].any():
            continue
        figures[name] = open_figures(new.p[mine], queries.is_new[mine], queries.right[mine], queries.identity[mine],
                                     part[mine])  # fmt: skip
        peers[name] = open_figures(-simulated.best_cosine[mine], queries.is_new[mine], simulated.cosine_right[mine],
                                   queries.identity[mine], part[mine], threshold=0.0)  # fmt: skip
        points[name] = _point(new.p[mine], queries, mine, shares[name].share, costs)
    calibration = Calibration(
        fusion, open_set, passport, _reliability(pairs, held_out.p, held_out.logit), figures, points, dict(shares)
    )
    return Judged(calibration, peers, _first_right(pairs, held_out.logit))


def fused_scores(
    species: str, ids: Sequence[str], ranking: Ranking, local: LocalArrays, split: StoredSplit
) -> NDArray[np.float64]:
    """Scores that put the shortlists of an evaluation in the order of all their evidence.

    Log odds of P(same) by fits without the query's identity, so that nothing is fitted on what it is scored on; where
    there are not enough pairs for a fit, the sum of the local confidences.

    Args:
        species: Whose test side is ranked.
        ids: Annotation ids, in the order of the ranking's rows.
        ranking: One-vs-all by the embedding.
        local: (n, width) arrays, as :func:`pairs_of` takes them; ``width`` candidates are reordered.
        split: Whose identities count.

    Returns:
        (n, width) float64; 0 where no candidate is held.
    """
    width = next(iter(local.values())).shape[1]
    near = ranking.neighbours[:, :width]
    held = near >= 0
    identity = codes_of([split.identity[key] for key in ids])
    individual = codes_of([individual_of(split.identity[key]) for key in ids])
    names = np.where(held, identity[near], -1)
    query = np.nonzero(held)[0]
    pairs = Pairs(
        candidates_of(ranking.scores[:, :width], names, held, local),
        ranking.is_match[:, :width][held],
        near[held],
        individual[query],
        (Group(species),),
        np.zeros(len(query), np.int64),
    )
    found = cross_fit(pairs, folds=FOLDS).held_out(pairs.candidates, pairs.identity, pairs.groups, pairs.group_of).logit
    if not np.isfinite(found).all():
        found = np.nan_to_num(local["local_sum"][held], nan=0.0).astype(np.float64)
    scores = np.zeros(held.shape)
    scores[held] = found
    return scores


def suggested_shares(annotations: Iterable[Annotation]) -> dict[str, SuggestedShare]:
    """Species → the share of new animals that its catalogue lets expect among the next encounters."""
    encounters: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    first_day: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for one in annotations:
        if one.species is None:
            continue
        if one.individual is None:
            continue
        encounters[one.species][one.individual].add(one.encounter)
        if one.taken_at is not None:
            key = (one.individual, one.encounter)
            days = first_day[one.species]
            days[key] = min(days.get(key, one.taken_at), one.taken_at)
    shares = {}
    for name, of_individual in sorted(encounters.items()):
        met: set[str] = set()
        firsts = []
        for (individual, _), _ in sorted(first_day[name].items(), key=lambda item: (item[1], item[0])):
            firsts.append(individual not in met)
            met.add(individual)
        shares[name] = suggested_share_of_new([len(found) for found in of_individual.values()], firsts_in_time=firsts)
    return shares


def _point(p_new: NDArray[np.float64], queries: OpenQueries, mine: Bools, share: float, costs: Costs) -> OperatingPoint:
    shifted = shift_share(p_new, fitted=0.5, expected=share)
    return operating_point(
        shifted,
        queries.is_new[mine],
        queries.right[mine],
        share=share,
        cost_missed=costs.missed,
        cost_false=costs.false,
    )


def _reliability(pairs: Pairs, p: NDArray[np.float64], logit: NDArray[np.float64]) -> dict[str, dict[str, Reliability]]:
    """Species → view → figures; the uncalibrated cosine's under names of their own."""
    species = np.array([group.species for group in pairs.groups], dtype=object)[pairs.group_of]
    cosine = pairs.candidates.features.column("cosine")
    rank, cosine_rank = (_rank_of(scores, pairs.candidates.query) for scores in (logit, cosine))
    found: dict[str, dict[str, Reliability]] = {}
    for name in sorted(set(species)):
        mine = (species == name) & np.isfinite(p)
        if not mine.any():
            continue
        views = dict(reliability_views(p[mine], pairs.same[mine], rank[mine]))
        for reading, values in cosine_readings(cosine[mine]).items():
            peers = reliability_views(values, pairs.same[mine], cosine_rank[mine])
            views |= {f"{reading}: {view}": figures for view, figures in peers.items()}
        found[name] = views
    return found


def _first_right(pairs: Pairs, logit: NDArray[np.float64]) -> dict[str, tuple[float, float]]:
    species = np.array([group.species for group in pairs.groups], dtype=object)[pairs.group_of]
    cosine = pairs.candidates.features.column("cosine")
    found = {}
    for name in sorted(set(species)):
        mine = (species == name) & np.isfinite(logit)
        query, same = pairs.candidates.query[mine], pairs.same[mine]
        if mine.any():
            shares = [float(same[_rank_of(scores[mine], query) == 1].mean()) for scores in (cosine, logit)]
            found[name] = (shares[0], shares[1])
    return found


def _rank_of(scores: NDArray[np.float64], query: Ints) -> Ints:
    """(n,) int64 place of each pair in its query's shortlist, from 1; of equal ones the first first."""
    order = np.lexsort((-np.nan_to_num(scores, nan=-np.inf), query))
    rank = np.empty(len(scores), np.int64)
    starts = np.searchsorted(query[order], query[order])
    rank[order] = np.arange(len(scores)) - starts + 1
    return rank


def _held_out_evidence(
    cross: CrossFusion, candidates: Candidates, shortlists: Shortlists, kept: Bools
) -> NDArray[np.float64]:
    query = np.nonzero(kept)[0]
    found = cross.held_out(candidates, shortlists.individual[query], shortlists.groups, shortlists.group_of[query])
    return found.evidence


def _first_kept(shortlists: Shortlists, out: Bools, shortlist: int) -> tuple[Bools, Ints]:
    """(n, shortlist) which places still hold a candidate, and the (n, shortlist) old places that they are from."""
    keep = shortlists.held & ~out[shortlists.neighbours]
    order = np.argsort(~keep, axis=1, kind="stable")[:, :shortlist]
    return np.take_along_axis(keep, order, axis=1), order


def _names_in_galleries(shortlists: Shortlists, out: Bools) -> Ints:
    """(n,) int64, how many individuals stay in the gallery of each query."""
    left = np.unique(np.stack([shortlists.gallery[~out], shortlists.individual[~out]], axis=1), axis=0)
    counts = np.bincount(left[:, 0], minlength=int(shortlists.gallery.max()) + 1)
    return counts[shortlists.gallery]


def _columns(local: LocalArrays | None, first: slice) -> LocalArrays | None:
    return None if local is None else {name: np.asarray(values)[:, first] for name, values in local.items()}
