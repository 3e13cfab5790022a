"""Every figure against the plainest loop that follows its definition, and against scikit-learn, on random data."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from resight.experiments.gallery import DRAWS, gallery_size, shuffled
from resight.experiments.scores import auroc_of, score
from resight.experiments.sides import TestSide
from resight.ranking import TIE

from .made_sides import cosines_of, ordered, random_side

NEAR = 1e-9
CASES = pytest.mark.parametrize(("seed", "ties"), [(seed, ties) for seed in range(6) for ties in (False, True)])


def flags(
    side: TestSide, cosines: NDArray[np.float64], query: int, gallery: list[int], *, own_encounter: bool = False
) -> list[bool]:
    """Whether each of a query's gallery, nearest first, has its identity."""
    rows = [
        row for row in gallery if row != query and (own_encounter or side.encounters[row] != side.encounters[query])
    ]
    match = [bool(side.identities[row] == side.identities[query]) for row in rows]
    return [match[place] for place in ordered([cosines[query, row] for row in rows], match)]


def percent(values: list[Any]) -> float | None:
    return 100 * sum(values) / len(values) if values else None


def rows_tested(side: TestSide) -> list[int]:
    return [row for row in range(len(side.annotation_ids)) if side.tested[row]]


def same(found: float | None, expected: float | None) -> bool:
    assert (found is None) == (expected is None), (found, expected)
    return found is None or found == pytest.approx(expected, abs=NEAR)


@CASES
def test_the_papers_figures_and_what_is_left_out(seed: int, ties: bool) -> None:
    side, vectors = random_side(seed, ties=ties)
    found, cosines, tested = score(side, vectors), cosines_of(vectors), rows_tested(side)
    answers = {row: flags(side, cosines, row, tested) for row in tested}
    queries = [row for row in tested if any(answers[row])]
    assert found.excluded == len(tested) - len(queries) > 0
    assert found.annotation_ids == tuple(side.annotation_ids[row] for row in queries)
    for name in ("identities", "encounters", "individuals", "trained"):
        assert getattr(found, name).tolist() == getattr(side, name)[queries].tolist()
    for k in (1, 5, 10, 20):
        hits = [any(answers[row][:k]) for row in queries]
        assert found.hits(k).tolist() == hits
        assert same(getattr(found, f"top{k}"), percent(hits))
    precisions = []
    for row in queries:
        hit_at = [place + 1 for place, match in enumerate(answers[row]) if match]
        precisions.append(sum((number + 1) / place for number, place in enumerate(hit_at)) / len(hit_at))
    assert found.precisions.tolist() == pytest.approx(precisions, abs=NEAR)
    assert same(found.map, percent(precisions))
    assert same(found.top1_chance, percent([sum(answers[row]) / len(answers[row]) for row in queries]))
    seen = [bool(side.trained[row]) for row in queries]
    top1 = [answers[row][0] for row in queries]
    assert same(found.top1_seen, percent([hit for hit, one in zip(top1, seen, strict=True) if one]))
    assert same(found.top1_unseen, percent([hit for hit, one in zip(top1, seen, strict=True) if not one]))


@CASES
def test_encounters_whose_photos_vote_together(seed: int, ties: bool) -> None:
    side, vectors = random_side(seed, ties=ties)
    cosines, tested = cosines_of(vectors), rows_tested(side)
    hits, photos = [], []
    for encounter, identity in sorted({(side.encounters[row], side.identities[row]) for row in tested}):
        votes = [
            row
            for row in range(len(side.annotation_ids))
            if side.encounters[row] == encounter and side.identities[row] == identity
        ]
        gallery = [row for row in tested if side.encounters[row] != encounter]
        match = [bool(side.identities[row] == identity) for row in gallery]
        if any(match):
            # The rule of ties holds for the cosine with the mean vector, which is the mean cosine times a factor.
            factor = np.sqrt(np.mean([[cosines[a, b] for a in votes] for b in votes]))
            means = [float(np.mean([cosines[vote, row] for vote in votes])) / factor for row in gallery]
            hits.append(match[ordered(means, match)[0]])
            photos.append(len(votes))
    found = score(side, vectors)
    assert found.encounters_scored == len(hits)
    assert same(found.top1_encounter, percent(hits))
    assert found.photos_per_encounter == pytest.approx(np.mean(photos))
    assert max(photos) > 1


@CASES
def test_the_single_image_gallery(seed: int, ties: bool) -> None:
    side, vectors = random_side(seed, ties=ties)
    cosines, tested = cosines_of(vectors), rows_tested(side)
    figures = []
    for draw in range(DRAWS):
        gallery: dict[str, int] = {}
        for place in shuffled([side.annotation_ids[row] for row in tested], 3, f"single image {draw}"):
            gallery.setdefault(str(side.identities[tested[place]]), tested[place])
        assert len(gallery) == len({side.identities[row] for row in tested})
        held = sorted(gallery.values())
        answers = [flags(side, cosines, row, held) for row in tested if row not in held]
        figures.append(percent([answer[0] for answer in answers if any(answer)]))
    assert same(score(side, vectors, seed=3).top1_single_image, float(np.mean(figures)))  # type: ignore[arg-type]


@CASES
def test_the_leak_probes(seed: int, ties: bool) -> None:
    side, vectors = random_side(seed, ties=ties)
    rng = np.random.default_rng(seed)
    background = np.round(rng.normal(size=vectors.shape)) if ties else rng.normal(size=vectors.shape)
    background[rng.random(len(background)) < 0.2] = 0
    background[rng.random(len(background)) < 0.1, 2] = np.nan
    has = [bool(np.isfinite(row).all() and row.any()) for row in background]
    found = score(side, vectors, background=background)
    cosines, tested = cosines_of(vectors), rows_tested(side)
    every = list(range(len(side.annotation_ids)))
    queries = [row for row in tested if any(flags(side, cosines, row, tested))]
    leaky = [flags(side, cosines, row, every, own_encounter=True)[0] for row in queries]
    assert same(found.top1_leaky, percent(leaky))
    others = [sum(side.encounters[other] == side.encounters[row] for other in every) > 1 for row in queries]
    assert found.queries_leaky == sum(others)
    of_background = cosines_of(np.where(np.array(has)[:, None], background, 1.0))
    held = [row for row in tested if has[row]]
    matched = [row for row in held if any(flags(side, cosines, row, held))]
    assert found.queries_background == len(matched) > 5
    assert found.background_left_out == len(tested) - len(held) > 0
    assert same(found.top1_background, percent([flags(side, of_background, row, held)[0] for row in matched]))
    assert same(found.top1_same_queries, percent([flags(side, cosines, row, held)[0] for row in matched]))


def naive_open_set(side: TestSide, vectors: NDArray[Any], seed: int) -> list[float | None]:
    """AUROC, BAKS, BAUS by loops and by scikit-learn."""
    cosines, tested = cosines_of(vectors), rows_tested(side)
    names = sorted({str(side.individuals[row]) for row in tested})
    hand_of = {names[place]: number % 4 for number, place in enumerate(shuffled(names, seed, "open set"))}
    rounds: list[list[float]] = []
    for parity in (0, 1):
        samples = []  # (score, called, identity or "new", hand)
        gallery = [row for row in tested if hand_of[str(side.individuals[row])] % 2 == parity]
        for query in tested:
            hand = hand_of[str(side.individuals[query])]
            rows = [row for row in gallery if row != query and side.encounters[row] != side.encounters[query]]
            match = [bool(side.identities[row] == side.identities[query]) for row in rows]
            if hand % 2 == parity and not any(match):
                continue
            best = rows[ordered([cosines[query, row] for row in rows], match)[0]]
            samples.append(
                (round(float(cosines[query, best]), 9), str(side.identities[best]), str(side.identities[query]), hand)
            )

        def accuracies(samples: list[tuple[float, str, str, int]], threshold: dict[int, float]) -> tuple[float, float]:
            right: dict[bool, dict[str, list[bool]]] = {True: defaultdict(list), False: defaultdict(list)}
            for value, called, identity, hand in samples:
                known = hand % 2 == parity  # noqa: B023
                answer = "new" if value < threshold[hand] else called
                right[known][identity].append(answer == (identity if known else "new"))
            return tuple(float(np.mean([np.mean(one) for one in right[known].values()])) for known in (True, False))  # type: ignore[return-value]

        threshold: dict[int, float] = {}
        for part, other in (((0, 1), (2, 3)), ((2, 3), (0, 1))):
            chosen_on = [sample for sample in samples if sample[3] in other]
            levels = sorted({sample[0] for sample in chosen_on})
            tried = [levels[0] - 1, *((a + b) / 2 for a, b in pairwise(levels)), levels[-1] + 1]
            quality = [np.prod(accuracies(chosen_on, dict.fromkeys(range(4), one))) for one in tried]
            best_of = [one for one, value in zip(tried, quality, strict=True) if value >= max(quality) - 1e-12]
            threshold.update(dict.fromkeys(part, best_of[len(best_of) // 2]))
        baks, baus = accuracies(samples, threshold)
        known = [sample for sample in samples if sample[3] % 2 == parity]
        called = ["new" if value < threshold[hand] else name for value, name, _, hand in known]
        truth = [sample[2] for sample in known]
        # Balanced accuracy is the recall of each class, averaged.
        library = recall_score(truth, called, labels=sorted(set(truth)), average="macro", zero_division=0)
        assert baks == pytest.approx(library, abs=NEAR)
        auroc = roc_auc_score([s[3] % 2 == parity for s in samples], [s[0] for s in samples])
        rounds.append([100 * auroc, 100 * baks, 100 * baus])
    return np.mean(rounds, axis=0).tolist()


@CASES
def test_open_set(seed: int, ties: bool) -> None:
    side, vectors = random_side(seed, ties=ties, n=110)
    found = score(side, vectors, seed=seed)
    auroc, baks, baus = naive_open_set(side, vectors, seed)
    assert same(found.baks, baks)
    assert same(found.baus, baus)
    assert same(found.auroc, auroc)
    assert found.open_set == pytest.approx(np.sqrt(baks * baus))  # type: ignore[operator]


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_scikit_learns(ties: bool) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        known, new = rng.normal(0.5, 1, 30), rng.normal(0, 1, 17)
        if ties:
            known, new = np.round(known), np.round(new)
        expected = roc_auc_score([1] * 30 + [0] * 17, [*known, *new])
        assert auroc_of(known, new) == pytest.approx(100 * expected, abs=NEAR)


@pytest.mark.parametrize("seed", range(4))
def test_top_k_and_map_are_scikit_learns(seed: int) -> None:
    side, vectors = random_side(seed, ties=False, dim=4)
    found = score(side, vectors)
    rows = np.array(rows_tested(side))
    cosines = cosine_similarity(vectors[rows].astype(np.float64))
    match = side.identities[rows][:, None] == side.identities[rows]
    left_out = side.encounters[rows][:, None] == side.encounters[rows]
    used = (match & ~left_out).any(axis=1)
    distance = np.where(left_out, 3.0, 1 - cosines + float(TIE) * match).clip(0)
    for k in (1, 5, 10, 20):
        nearest = (
            NearestNeighbors(n_neighbors=k, metric="precomputed")
            .fit(distance)
            .kneighbors(distance, return_distance=False)
        )
        hits = np.take_along_axis(match & ~left_out, nearest, axis=1).any(axis=1)
        assert getattr(found, f"top{k}") == pytest.approx(100 * hits[used].mean(), abs=NEAR)
    precisions = [
        average_precision_score(match[row][~left_out[row]], -distance[row][~left_out[row]])
        for row in np.flatnonzero(used)
    ]
    assert found.map == pytest.approx(100 * np.mean(precisions), abs=NEAR)


@CASES
def test_gallery_sizes(seed: int, ties: bool) -> None:
    side, vectors = random_side(seed, ties=ties)
    cosines, tested = cosines_of(vectors), rows_tested(side)
    curve = gallery_size(side, vectors, (1, 2, 3), draws=3, seed=seed)
    for draw in range(3):
        order = shuffled([side.annotation_ids[row] for row in tested], seed, f"gallery {draw}")
        of_identity: dict[str, list[int]] = defaultdict(list)
        for place in order:
            of_identity[str(side.identities[tested[place]])].append(tested[place])
        for at, size in enumerate(curve.sizes):
            hits = []
            for query in tested:
                own = str(side.identities[query])
                gallery = [row for name, rows in of_identity.items() if name != own for row in rows[:size]]
                fit = [row for row in of_identity[own] if side.encounters[row] != side.encounters[query]]
                answer = flags(side, cosines, query, sorted(gallery + fit[:size]))
                if fit:
                    assert sum(answer) == min(size, len(fit))
                    hits.append((any(answer[:1]), any(answer[:5])))
            assert curve.queries == len(hits)
            assert curve.top1_by_draw[at, draw] == pytest.approx(percent([one for one, _ in hits]), abs=NEAR)
            assert curve.top5_by_draw[at, draw] == pytest.approx(percent([five for _, five in hits]), abs=NEAR)
