"""What one run makes of one species: the paper's figures, and those that tell how far they carry.

Every figure is in percent, ``None`` where there is nothing to average, and every ranking is ``resight.ranking.rank``'s.

- The paper's (§3.4): each test annotation is a query, all the others are the gallery, but those of its own encounter.
- By encounter: the photos of an encounter vote together. A gallery annotation g has the score (1/P) Σ_p cos(p, g), the
  mean over the encounter's P photos of one identity. That is the cosine with the mean of their unit vectors up to a
  factor that is the same for all g, so it is ranked exactly like a single photo. The mean, not the largest cosine: of
  photos taken within minutes the largest grows with their number for the wrong animals too, and one blurred photo is
  enough to be near to anybody. Averaging a track's vectors is also the habit in re-identification from video (Zheng et
  al. 2016, "MARS", ECCV).
- Single-image gallery: one annotation of each identity, drawn at random, is the gallery and the others are queries, as
  where every animal is known by one photo. The mean of ``DRAWS`` draws.
- Open set: half of the individuals are taken out of the gallery, so that their photos are of somebody new (below).
- Leak probes: what a leaky test would show (the encounter's other photos are in the gallery, and only the photo itself
  is left out), and how far the surroundings alone give the animal away. What a random order would reach stands beside.

Open set. Individuals, with all their identities, are put in a random order and dealt out to four hands. The gallery
holds those of hands 1 and 3; queries of hands 1 and 3 are *known*, those of 2 and 4 are *new*. A query's score s is the
best cosine in the gallery, without its own encounter, and it is called new where s < t, else the identity of that best
annotation.

- AUROC = P(s of a known query > s of a new one) + P(equal) / 2, over all pairs of a known and a new query.
- BAKS, balanced accuracy on known samples: the mean, over known identities, of the share of the identity's queries that
  are called by its name. BAUS, on unknown samples: the mean, over new identities, of the share called new. Their
  geometric mean √(BAKS · BAUS) is the score of AnimalCLEF 2025; the definitions are those of ``BAKS`` and ``BAUS`` in
  the package wildlife-datasets, which comes with WildlifeReID-10k (Adam et al. 2024).
- The threshold t is never chosen on the queries that it is applied to, nor on others of the same individuals: that of
  hands 1 and 2 is the one with the highest √(BAKS · BAUS) on the queries of hands 3 and 4, and the other way round.
  Thresholds tried are those between neighbouring scores and beyond both ends; of equally good ones the middle one.

Then the hands change roles: 2 and 4 make the gallery. AUROC, BAKS and BAUS are the means of both rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import InputError
from resight.experiments.gallery import DRAWS, check_vectors, codes, shuffled
from resight.experiments.sides import TestSide
from resight.metrics import Bools, Doubles, average_precision, excluded, top_k
from resight.ranking import Floats, Ints, Ranking, rank, rank_one_vs_all, unit_rows

PER_QUERY = ("top1", "top5", "top10", "top20", "map")
"""Figures that are means over queries, of which there are intervals and paired differences."""

_HANDS = 4
_ROUNDING = 2.5e-7  # about what the rounding of float32 can make of equal cosines, and far below ``ranking.TIE``


@dataclass(frozen=True, eq=False)
class Scores:
    """Figures of one species of one run. Arrays have an entry a query: a test annotation with a possible match.

    Attributes:
        species: Its name.
        seed: Of what was drawn: the single-image galleries and the individuals that play the new ones.
        annotation_ids: The queries.
        individuals: Their individuals' names.
        identities: Their identities' names.
        encounters: Their encounters' keys.
        trained: Whether their identity is in training.
        first_ranks: Rank of the first match, from 1.
        precisions: Average precision, 0 to 1.
        excluded: Test annotations that are no query, since they have no possible match.
        top1_chance: What ``top1`` would be by a random order: the mean share of matches in a query's gallery.
        top1_encounter: Percent of encounters with a match at rank 1, their photos voting together.
        encounters_scored: How many encounters ``top1_encounter`` averages; a test encounter of several identities
            counts once for each.
        photos_per_encounter: Mean number of photos that vote.
        top1_single_image: ``top1`` with one annotation of each identity in the gallery, mean of ``DRAWS`` draws.
        auroc: Of telling known individuals from new ones by the best cosine.
        baks: Balanced accuracy on known samples; ``baus`` likewise on unknown ones.
        top1_leaky: ``top1`` of the same queries when photos of their own encounter are in the gallery.
        queries_leaky: How many of them have another photo of their encounter; where there is none, ``top1_leaky``
            shows nothing.
        top1_background: ``top1`` from the background alone; ``None`` without backgrounds.
        queries_background: How many queries it averages.
        top1_same_queries: ``top1`` of just these queries from the whole chip, in the same gallery: what
            ``top1_background`` is to be compared with.
        background_left_out: Test annotations without a background.
    """

    species: str
    seed: int
    annotation_ids: tuple[str, ...]
    individuals: NDArray[np.str_]
    identities: NDArray[np.str_]
    encounters: NDArray[np.str_]
    trained: Bools
    first_ranks: Ints
    precisions: Doubles
    excluded: int
    top1_chance: float | None
    top1_encounter: float | None
    encounters_scored: int
    photos_per_encounter: float | None
    top1_single_image: float | None
    auroc: float | None
    baks: float | None
    baus: float | None
    top1_leaky: float | None
    queries_leaky: int
    top1_background: float | None
    queries_background: int
    top1_same_queries: float | None
    background_left_out: int

    def hits(self, k: int) -> Bools:
        """(n_query,) whether a match stands among the first ``k``."""
        if k < 1:
            raise InputError(f"top-k needs k of at least 1, got {k}")
        return self.first_ranks <= k

    def values(self, figure: str) -> Doubles:
        """(n_query,) what each query adds to one of ``PER_QUERY``, in percent; the figure is their mean.

        Raises:
            InputError: another figure.
        """
        if figure not in PER_QUERY:
            raise InputError(f"{figure!r} is no figure of single queries; choose one of {', '.join(PER_QUERY)}")
        shares = self.precisions if figure == "map" else self.hits(int(figure.removeprefix("top"))).astype(np.float64)
        return shares * 100.0

    @property
    def queries(self) -> int:
        """Test annotations with a possible match."""
        return len(self.annotation_ids)

    @property
    def top1(self) -> float | None:
        """Percent of queries with a match at rank 1."""
        return _mean(self.values("top1"))

    @property
    def top5(self) -> float | None:
        """Percent of queries with a match among the first 5."""
        return _mean(self.values("top5"))

    @property
    def top10(self) -> float | None:
        """Percent of queries with a match among the first 10."""
        return _mean(self.values("top10"))

    @property
    def top20(self) -> float | None:
        """Percent of queries with a match among the first 20."""
        return _mean(self.values("top20"))

    @property
    def map(self) -> float | None:
        """Mean average precision over the whole gallery."""
        return _mean(self.values("map"))

    @property
    def top1_seen(self) -> float | None:
        """``top1`` of queries whose identity is in training."""
        return _mean(self.values("top1")[self.trained])

    @property
    def top1_unseen(self) -> float | None:
        """``top1`` of the other queries."""
        return _mean(self.values("top1")[~self.trained])

    @property
    def open_set(self) -> float | None:
        """Geometric mean of ``baks`` and ``baus``."""
        return None if self.baks is None or self.baus is None else float(np.sqrt(self.baks * self.baus))


def score(side: TestSide, vectors: NDArray[Any], *, background: NDArray[Any] | None = None, seed: int = 0) -> Scores:
    """Score one species of one run; what is scored stands at the top of this file.

    Args:
        side: Who is who.
        vectors: (n, dim) of any float type, in order of ``side.annotation_ids``; need not be normalised.
        background: (n, dim) vectors of the backgrounds alone, likewise; a row with NaN or infinity, or of zeros, has
            none.
        seed: Of what is drawn.

    Raises:
        InputError: tables that do not fit the side, or a vector that is zero, NaN or infinite.
    """
    check_vectors(side, vectors, "vectors")
    unit = unit_rows(vectors, f"the vectors of {side.species}")
    tested = np.flatnonzero(side.tested)
    labels, groups = codes(side.identities), codes(side.encounters)
    ranking = _one_vs_all(unit, labels, groups, tested)
    used = ~excluded(ranking)
    queries = tested[used]

    by_encounter, n_encounters, photos = _by_encounter(unit, labels, groups, side.tested)
    auroc, baks, baus = _open_set(side, unit, labels, groups, seed)
    top1_background, n_background, top1_same, without = _background(side, unit, labels, groups, background)
    in_encounter = np.bincount(groups, minlength=1)
    return Scores(
        species=side.species,
        seed=seed,
        annotation_ids=tuple(side.annotation_ids[row] for row in queries),
        individuals=side.individuals[queries],
        identities=side.identities[queries],
        encounters=side.encounters[queries],
        trained=side.trained[queries].astype(np.bool_),
        first_ranks=ranking.first_match_rank[used],
        precisions=average_precision(ranking)[used],
        excluded=int((~used).sum()),
        top1_chance=_percent(ranking.n_possible[used] / np.maximum(ranking.n_compared[used], 1)),
        top1_encounter=by_encounter,
        encounters_scored=n_encounters,
        photos_per_encounter=photos,
        top1_single_image=_single_image(side, unit, labels, groups, seed),
        auroc=auroc,
        baks=baks,
        baus=baus,
        top1_leaky=_leaky(unit, labels, queries),
        queries_leaky=int((in_encounter[groups[queries]] > 1).sum()),
        top1_background=top1_background,
        queries_background=n_background,
        top1_same_queries=top1_same,
        background_left_out=without,
    )


def _one_vs_all(vectors: NDArray[Any], labels: Ints, groups: Ints, rows: Ints) -> Ranking:
    return rank_one_vs_all(vectors[rows], labels=labels[rows], groups=groups[rows], k=1)


def _top1(ranking: Ranking) -> float | None:
    return _percent(top_k(ranking, 1)[~excluded(ranking)])


def _by_encounter(unit: Floats, labels: Ints, groups: Ints, tested: Bools) -> tuple[float | None, int, float | None]:
    """Top-1 of test encounters whose photos vote together, how many they are, and their mean number of photos.

    One vote is cast for each identity of an encounter: photos of the other side of an animal do not speak for this one.
    Photos of the encounter that are not tested vote as well, but the gallery holds test annotations only.
    """
    _, vote = np.unique(np.stack([groups, labels]), axis=1, return_inverse=True)
    vote = vote.reshape(-1)
    order = np.argsort(vote, kind="stable")
    firsts = np.flatnonzero(np.diff(vote[order], prepend=-1))
    photos = np.diff(firsts, append=len(order))
    cast = np.bincount(vote[tested], minlength=len(firsts)) > 0
    first_rows = order[firsts]
    means = np.add.reduceat(unit[order], firsts, axis=0) if len(order) else unit
    cancelled = np.linalg.norm(means, axis=1) < 1e-6 * photos  # opposite vectors say nothing; then one photo speaks
    means[cancelled] = unit[first_rows[cancelled]]
    ranking = rank(
        means[cast],
        unit[tested],
        query_labels=labels[first_rows[cast]],
        gallery_labels=labels[tested],
        query_groups=groups[first_rows[cast]],
        gallery_groups=groups[tested],
        k=1,
    )
    used = ~excluded(ranking)
    return _top1(ranking), int(used.sum()), _mean(photos[cast][used])


def _single_image(side: TestSide, unit: Floats, labels: Ints, groups: Ints, seed: int) -> float | None:
    tested = np.flatnonzero(side.tested)
    names = [side.annotation_ids[row] for row in tested]
    found = []
    for draw in range(DRAWS):
        order = tested[shuffled(names, seed, f"single image {draw}")]
        gallery = np.sort(order[np.unique(labels[order], return_index=True)[1]])
        queries = np.setdiff1d(tested, gallery)
        ranking = rank(
            unit[queries],
            unit[gallery],
            query_labels=labels[queries],
            gallery_labels=labels[gallery],
            query_groups=groups[queries],
            gallery_groups=groups[gallery],
            k=1,
        )
        top1 = _top1(ranking)
        if top1 is not None:
            found.append(top1)
    return _mean(np.array(found))


def _leaky(unit: Floats, labels: Ints, queries: Ints) -> float | None:
    """Top-1 of the queries among all rows but themselves."""
    ranking = rank(
        unit[queries],
        unit,
        query_labels=labels[queries],
        gallery_labels=labels,
        self_index=queries,
        k=1,
    )
    return _percent(top_k(ranking, 1))


def _background(
    side: TestSide, unit: Floats, labels: Ints, groups: Ints, background: NDArray[Any] | None
) -> tuple[float | None, int, float | None, int]:
    """Top-1 from backgrounds, its queries, top-1 of the same from whole chips, and how many have no background."""
    tested = np.flatnonzero(side.tested)
    if background is None:
        return None, 0, None, len(tested)
    check_vectors(side, background, "background vectors")
    there = np.isfinite(background[tested]).all(axis=1) & (background[tested] != 0).any(axis=1)
    rows = tested[there]
    ranking = _one_vs_all(background, labels, groups, rows)
    same = _one_vs_all(unit, labels, groups, rows)
    return _top1(ranking), int((~excluded(ranking)).sum()), _top1(same), int((~there).sum())


@dataclass(frozen=True)
class Answers:
    """Queries of an open-set test; every array is (n,).

    Attributes:
        scores: Best cosine.
        right: Whether the best annotation has the query's identity; False where it is new.
        known: Whether its individual is in the gallery.
        labels: Codes of identity.
    """

    scores: Doubles
    right: Bools
    known: Bools
    labels: Ints

    def of(self, rows: Bools) -> Answers:
        """Some of them."""
        return Answers(self.scores[rows], self.right[rows], self.known[rows], self.labels[rows])


def _open_set(
    side: TestSide, unit: Floats, labels: Ints, groups: Ints, seed: int
) -> tuple[float | None, float | None, float | None]:
    """AUROC, BAKS and BAUS, means of the two rounds."""
    tested = np.flatnonzero(side.tested)
    names, individual = np.unique(side.individuals[tested], return_inverse=True)
    dealt = np.empty(len(names), dtype=np.int64)
    dealt[shuffled(names.tolist(), seed, "open set")] = np.arange(len(names)) % _HANDS
    hand = dealt[individual]
    rounds = []
    for parity in (0, 1):
        known = hand % 2 == parity
        gallery = tested[known]
        ranking = rank(
            unit[tested],
            unit[gallery],
            query_labels=labels[tested],
            gallery_labels=labels[gallery],
            query_groups=groups[tested],
            gallery_groups=groups[gallery],
            self_index=np.where(known, np.cumsum(known) - 1, -1),
            k=1,
        )
        # A known query without a possible match would be taken for new, rightly: it is no sample of either.
        scored = np.where(known, ranking.n_possible > 0, ranking.n_compared > 0)
        answers = Answers(
            _without_rounding(ranking.scores[scored, 0].astype(np.float64)),
            ranking.is_match[scored, 0],
            known[scored],
            labels[tested[scored]],
        )
        auroc = auroc_of(answers.scores[answers.known], answers.scores[~answers.known])
        rounds.append((auroc, *balanced_accuracies(answers, hand[scored] < _HANDS // 2)))
    means = [_mean(np.array([one for one in figures if one is not None])) for figures in zip(*rounds, strict=True)]
    return means[0], means[1], means[2]


def _without_rounding(scores: Doubles) -> Doubles:
    """Scores of which each is the same as its neighbour where rounding alone can have set them apart.

    Else the figures of a model whose vectors are all alike would depend on how a product was rounded.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.diff(ordered, prepend=-np.inf) > _ROUNDING
    found = np.empty_like(scores)
    found[order] = ordered[starts][np.cumsum(starts) - 1]
    return found


def auroc_of(known: Doubles, new: Doubles) -> float | None:
    """Percent of pairs of a known and a new query in which the known one scores higher, ties counting half.

    Area under the receiver operating characteristic as the statistic of Mann and Whitney (Fawcett 2006, §7).

    Args:
        known: (n_known,) scores.
        new: (n_new,) scores.
    """
    if not len(known) or not len(new):
        return None
    ordered = np.sort(new)
    below = np.searchsorted(ordered, known, side="left") + np.searchsorted(ordered, known, side="right")
    return float(100.0 * below.sum() / (2 * len(known) * len(new)))


def balanced_accuracies(answers: Answers, first: Bools) -> tuple[float | None, float | None]:
    """BAKS and BAUS in percent, as the top of this file says; ``None`` where a threshold cannot be chosen.

    Args:
        answers: Of n queries.
        first: (n,) the queries whose threshold is chosen on the others; that of the others is chosen on these.
    """
    if not (_both(answers.of(first)) and _both(answers.of(~first))):
        return None, None
    named = np.empty(len(first), dtype=np.bool_)
    for part in (first, ~first):
        named[part] = answers.scores[part] >= best_threshold(answers.of(~part))
    good = np.where(answers.known, answers.right & named, ~named)
    shares = [good * _weights(answers.labels, which) for which in (answers.known, ~answers.known)]
    return float(100.0 * shares[0].sum()), float(100.0 * shares[1].sum())


def _both(answers: Answers) -> bool:
    return bool(answers.known.any() and not answers.known.all())


def _weights(labels: Ints, which: Bools) -> Doubles:
    """(n,) weights with which a sum over queries is the mean over identities of the mean over an identity's queries."""
    _, identity, queries = np.unique(labels[which], return_inverse=True, return_counts=True)
    weights = np.zeros(len(labels))
    weights[which] = 1 / (queries[identity] * len(queries))
    return weights


def best_threshold(answers: Answers) -> float:
    """The score below which a query is best called new, as the top of this file says.

    Args:
        answers: Known queries and new ones, at least one of each.
    """
    levels, at = np.unique(answers.scores, return_inverse=True)
    tried = np.concatenate([[levels[0] - 1], (levels[:-1] + levels[1:]) / 2, [levels[-1] + 1]])
    known = np.bincount(at, weights=_weights(answers.labels, answers.known) * answers.right, minlength=len(levels))
    new = np.bincount(at, weights=_weights(answers.labels, ~answers.known), minlength=len(levels))
    # Threshold number i lies below level i: known queries at level i and above are named, new ones below are told.
    baks = np.append(np.cumsum(known[::-1])[::-1], 0.0)
    baus = np.append(0.0, np.cumsum(new))
    quality = baks * baus
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    return float(tried[best[len(best) // 2]])


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def _percent(values: NDArray[Any]) -> float | None:
    return _mean(values * 100.0)
