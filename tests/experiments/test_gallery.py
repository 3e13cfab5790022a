from __future__ import annotations

import numpy as np
import pytest

from resight.errors import InputError
from resight.experiments import gallery
from resight.experiments.gallery import gallery_size, shuffled
from resight.experiments.scores import score

from .made_sides import at_degrees, random_side, side_of


def test_a_curve_by_hand() -> None:
    # With both others of a in the gallery, 20 has a at 10 beside it; with one, that is 0 in half of the draws, and
    # then b at 32 is nearer. 0 and 10 always have an a nearest, and 32 has one too: it is b's, and alone.
    curve = gallery_size(side_of("aaab"), at_degrees(0, 10, 20, 32), (1, 2, 3), draws=40)
    assert (curve.queries, curve.excluded, curve.sizes) == (3, 1, (1, 2, 3))
    assert sorted(set(curve.top1_by_draw[0])) == pytest.approx([200 / 3, 100.0])
    assert curve.top1[1:] == (100.0, 100.0)
    assert curve.top1_sd[1:] == (0.0, 0.0)
    assert curve.top1[0] == pytest.approx(curve.top1_by_draw[0].mean())
    assert curve.top1_sd[0] == pytest.approx(curve.top1_by_draw[0].std(ddof=1))
    missed = int((curve.top1_by_draw[0] < 100).sum())
    assert 8 <= missed <= 32
    assert curve.top5 == (100.0, 100.0, 100.0)
    assert curve.top5_sd == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("ties", [False, True])
def test_a_gallery_of_all_is_the_papers_scheme(ties: bool) -> None:
    side, vectors = random_side(3, ties=ties)
    found, curve = score(side, vectors), gallery_size(side, vectors, (50,), draws=2)
    assert (curve.queries, curve.excluded) == (found.queries, found.excluded)
    assert curve.top1 == (pytest.approx(found.top1, abs=1e-9),)
    assert curve.top5 == (pytest.approx(found.top5, abs=1e-9),)
    assert curve.top1_sd == (0.0,)


def test_neither_tiles_nor_other_sizes_nor_more_draws_change_a_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    side, vectors = random_side(8, ties=True)
    whole = gallery_size(side, vectors, (1, 2, 3), draws=4)
    some = gallery_size(side, vectors, (2,), draws=3)
    assert whole.top1_by_draw[1, :3].tolist() == some.top1_by_draw[0].tolist()
    monkeypatch.setattr(gallery, "_TILE_ENTRIES", 300)
    tiled = gallery_size(side, vectors, (1, 2, 3), draws=4)
    assert tiled.top1_by_draw.tolist() == whole.top1_by_draw.tolist()
    assert tiled.top5_by_draw.tolist() == whole.top5_by_draw.tolist()
    assert gallery_size(side, vectors, (1, 2, 3), draws=4, seed=1).top1 != whole.top1


def test_a_model_that_has_collapsed_finds_nobody() -> None:
    side = side_of("aabbccdd" * 3)
    curve = gallery_size(
        side, np.ones((24, 512)) + 1e-6 * np.random.default_rng(0).normal(size=(24, 512)), (1, 5), draws=2
    )
    assert curve.top1 == (0.0, 0.0)


def test_a_match_must_exceed_a_non_match_by_more_than_rounding() -> None:
    # From 0 the cosines of 0.03 and 0.06 degrees differ by 4e-7, in favour of the match; from 0.03 both are the same.
    assert gallery_size(side_of("aab"), at_degrees(0, 0.03, 0.06), (1,)).top1 == (0.0,)
    assert gallery_size(side_of("aab"), at_degrees(0, 0.03, 0.12), (1,)).top1 == (100.0,)


def test_without_queries_there_is_no_curve() -> None:
    for side, n in ((side_of("abc"), 3), (side_of(""), 0), (side_of("aa", tested=[0, 0]), 2)):
        curve = gallery_size(side, np.eye(3)[:n], (1, 2))
        assert (curve.top1, curve.top5, curve.top1_sd) == ((None, None),) * 3
        assert (curve.queries, curve.excluded) == (0, int(side.tested.sum()))
    one = gallery_size(side_of("aa"), np.eye(2), (1,), draws=1)
    assert (one.top1, one.top1_sd) == ((100.0,), (None,))


def test_what_cannot_be_drawn_is_refused() -> None:
    side, vectors = side_of("aa"), np.eye(2)
    for sizes, draws in (((0, 1), 1), ((), 1), ((1,), 0)):
        with pytest.raises(InputError, match="must be at least 1"):
            gallery_size(side, vectors, sizes, draws=draws)
    with pytest.raises(InputError, match="with 2 rows"):
        gallery_size(side, np.eye(3), (1,))


def test_an_order_depends_on_names_seed_and_purpose_alone() -> None:
    names = [f"a{number}" for number in range(40)]
    order = [names[row] for row in shuffled(names, 0, "x")]
    assert [sorted(names)[row] for row in shuffled(sorted(names), 0, "x")] == order
    rest = names[:7] + names[8:]
    assert [rest[row] for row in shuffled(rest, 0, "x")] == [name for name in order if name != "a7"]
    assert sorted(order) == sorted(names)
    assert order not in ([names[row] for row in shuffled(names, *other)] for other in ((1, "x"), (0, "y")))
