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
from resight.calibration.evidence import (
    Bools,
    Candidates,
    Doubles,
    Group,
    Ints,
    Pairs,
    best_names,
    candidates_of,
    species_of_rows,
)
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
from resight.calibration.shortlists import LocalArrays, Shortlists, as_compared, pairs_of, stops_of
from resight.calibration.stopping import Length
from resight.calibration.stored import Calibration
from resight.catalogue.policy import individual_of
from resight.catalogue.store import StoredSplit
from resight.ranking import Ranking, codes_of
from resight.types import Annotation

FOLDS = 5
UNKNOWN_DRAWS = 4  # simulated halvings of the identities; every second one is the complement of the one before
CALIBRATED, BEST_COSINE = "P(new)", "best cosine"


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
    shortlists: Shortlists,
    local: LocalArrays | None,
    cross: CrossFusion,
    *,
    shortlist: int | Ints,
    decisive: Doubles | None = None,
    seed: int = 0,
) -> Simulated:
    """Take half of the identities out of the galleries, several times, and see what every query finds then.

    Args:
        shortlists: At a depth of about twice ``shortlist``, so that as many remain.
        local: Local evidence of the pairs, at the same depth.
        cross: Fusions without each query's identity.
        shortlist: As many candidates as matching looks at, of all queries or (n,) of each.
        decisive: As for :func:`pairs_of`; what ends the search is looked for among those that remain.
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
        candidates = candidates_of(cosine, names, kept, as_compared(columns, kept, decisive))
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
    """

    calibration: Calibration
    peer_figures: Mapping[str, OpenFigures]


def calibrate(
    shortlists: Shortlists,
    local: LocalArrays | None,
    passport: Passport,
    shares: Mapping[str, SuggestedShare],
    *,
    shortlist: int,
    lengths: Mapping[str, Length] | None = None,
    costs: Costs | None = None,
) -> Judged:
    """Fit P(same) and P(new), and judge both on identities that each fit did not see.

    From which local evidence on a candidate is decisive is found on all queries, those that judge among them: it is one
    number a species.

    Args:
        shortlists: At a depth of about twice ``shortlist``.
        local: Local evidence of all their pairs; ``None`` calibrates the cosine alone.
        passport: From :func:`resight.calibration.stored.passport_of`.
        shares: Species → the share of new animals to expect.
        shortlist: As many candidates as matching looks at.
        lengths: Species → as many as it looks at there; from :func:`resight.calibration.shortlists.lengths_of`.
        costs: Of errors, for the operating points.
    """
    costs, lengths = costs or Costs(), lengths or {}
    each = shortlists.each({name: one.candidates for name, one in lengths.items()}, shortlist).astype(np.int64)
    stops = {} if local is None else stops_of(shortlists, local, shortlist=each)
    decisive = shortlists.each({name: one.decisive for name, one in stops.items()}, np.inf)
    pairs = pairs_of(shortlists, local, shortlist=each, decisive=decisive)
    fusion, cross = fit_fusion(pairs), cross_fit(pairs, folds=FOLDS)
    held_out = cross.held_out(pairs.candidates, pairs.identity, pairs.groups, pairs.group_of)
    simulated = simulate(shortlists, local, cross, shortlist=each, decisive=decisive)
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
    reliability, first_right = _reliability(pairs, held_out.p, held_out.logit), _first_right(pairs, held_out.logit)
    calibration = Calibration(
        fusion, open_set, passport, reliability, figures, points, dict(shares), dict(lengths), stops, first_right
    )
    return Judged(calibration, peers)


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
    species = species_of_rows(pairs.groups, pairs.group_of)
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
    species = species_of_rows(pairs.groups, pairs.group_of)
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


def _first_kept(shortlists: Shortlists, out: Bools, shortlist: int | Ints) -> tuple[Bools, Ints]:
    """(n, longest) which places still hold a candidate, and the (n, longest) old places that they are from."""
    keep = shortlists.held & ~out[shortlists.neighbours]
    order = np.argsort(~keep, axis=1, kind="stable")[:, : int(np.max(shortlist))]
    within = np.arange(order.shape[1]) < np.reshape(shortlist, (-1, 1))
    return np.take_along_axis(keep, order, axis=1) & within, order


def _names_in_galleries(shortlists: Shortlists, out: Bools) -> Ints:
    """(n,) int64, how many individuals stay in the gallery of each query."""
    left = np.unique(np.stack([shortlists.gallery[~out], shortlists.individual[~out]], axis=1), axis=0)
    counts = np.bincount(left[:, 0], minlength=int(shortlists.gallery.max()) + 1)
    return counts[shortlists.gallery]
