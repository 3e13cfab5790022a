from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from resight.errors import InputError
from resight.matching.local.features import LocalFeatures
from resight.matching.local.lightglue import THRESHOLD, Effort, LightGlue, PairMatches, fastest_precision


@cache
def kornias(*, width: int = 32, heads: int = 2, given: int = 8) -> Any:
    """kornia's module with random weights in which points that look alike match."""
    from kornia.feature import LightGlue as KorniaLightGlue

    torch.manual_seed(0)
    module = KorniaLightGlue(
        None, input_dim=given, descriptor_dim=width, num_heads=heads, n_layers=4, depth_confidence=-1,
        width_confidence=-1,
    )  # fmt: skip
    for end in module.log_assignment:
        torch.nn.init.orthogonal_(end.final_proj.weight, gain=12)
        torch.nn.init.constant_(end.matchability.bias, 2.0)
    return module.eval()


def features(seed: int, count: int, *, of: LocalFeatures | None = None, dim: int = 8) -> LocalFeatures:
    """Random points; with ``of``, the same ones in another order, and moved a little."""
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, 100, (count, 2)).astype(np.float32)
    descriptors = rng.normal(size=(count, dim))
    if of is not None:
        order = rng.permutation(len(of))[:count]
        keypoints, descriptors = of.keypoints[order], of.descriptors[order]
        descriptors = descriptors + rng.normal(0, 0.02, descriptors.shape)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return LocalFeatures(keypoints, descriptors.astype(np.float16), np.ones(count, np.float16), (120, 100))


def by_kornia(query: LocalFeatures, candidate: LocalFeatures, module: Any) -> dict[tuple[int, int], float]:
    """Matches and confidences as kornia's module gives them for one pair."""

    def given(one: LocalFeatures) -> dict[str, torch.Tensor]:
        return {
            "keypoints": torch.tensor(one.keypoints)[None],
            "descriptors": torch.tensor(one.descriptors).float()[None],
            "image_size": torch.tensor([one.size]),
        }

    with torch.inference_mode():
        out = module({"image0": given(query), "image1": given(candidate)})
    return {(int(a), int(b)): float(s) for (a, b), s in zip(out["matches"][0].tolist(), out["scores"][0], strict=True)}


def as_dict(found: PairMatches) -> dict[tuple[int, int], float]:
    return dict(zip(zip(found.query_points.tolist(), found.candidate_points.tolist(), strict=True),
                    found.confidences.tolist(), strict=True))  # fmt: skip


def matched(network: LightGlue, query: LocalFeatures, others: list[LocalFeatures], **effort: Any) -> list[PairMatches]:
    return network.match(network.prepare(query), [network.prepare(one) for one in others], Effort(**effort))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("shape", [{}, {"width": 24, "heads": 1}, {"given": 32}])
def test_it_gives_what_kornias_module_gives(shape: dict[str, int], fused: bool) -> None:
    module = kornias(**shape)
    network = LightGlue(module, precision=torch.float32)
    network._fused = fused  # attention is one operation, or product by product as in bfloat16
    dim = shape.get("given", 8)
    query = features(0, 64, dim=dim)
    others = [features(seed, count, of=query) for seed, count in enumerate((64, 32, 64, 20, 64, 64, 64), start=1)]
    others.append(features(99, 96, dim=dim))
    sizes = []
    for candidate, found in zip(others, matched(network, query, others), strict=True):
        expected = by_kornia(query, candidate, module)
        assert as_dict(found).keys() == expected.keys()
        assert as_dict(found) == pytest.approx(expected, abs=2e-4)
        sizes.append(len(expected))
    assert min(sizes[:-1]) >= 5  # there was something to agree on
    assert sum(sizes) >= 50


def test_half_precision_keeps_almost_all_matches() -> None:
    query = features(0, 64)
    others = [features(seed, 64, of=query) for seed in range(1, 6)]
    whole = matched(LightGlue(kornias(), precision=torch.float32), query, others)
    half = matched(LightGlue(kornias(), precision=torch.bfloat16), query, others)
    for a, b in zip(whole, half, strict=True):
        assert len(as_dict(a).keys() & as_dict(b).keys()) >= 0.9 * len(a)
        assert b.confidences.sum() == pytest.approx(a.confidences.sum(), rel=0.2)


def by_hand(query: LocalFeatures, candidate: LocalFeatures, module: Any, share: float) -> dict[tuple[int, int], float]:
    """Two layers of kornia's, a share of the points of each photo after the first, and the second's assignment."""
    sides, turns, rows = [], [], []
    for one in (query, candidate):
        middle = torch.tensor(one.size) / 2
        place = (torch.tensor(one.keypoints) - middle) / middle.max()
        turns.append(module.posenc(place[None]))
        sides.append(module.input_proj(torch.tensor(one.descriptors).float()[None]))
        rows.append(torch.arange(len(one)))
    a, b = module.transformers[0](*sides, *turns)
    sides = [a, b]
    for which in (0, 1):
        chosen = module.log_assignment[0].get_matchability(sides[which])[0].argsort(descending=True)
        chosen = chosen[: round(share * len(chosen))]
        sides[which], rows[which] = sides[which][:, chosen], rows[which][chosen]
        turns[which] = turns[which][..., chosen, :]
    log, _ = module.log_assignment[1](*module.transformers[1](*sides, *turns))
    probabilities = log[0, :-1, :-1].exp()
    found = {}
    for i, row in enumerate(probabilities):  # mutual best, naively
        j = int(row.argmax())
        if int(probabilities[:, j].argmax()) == i and row[j] > THRESHOLD:
            found[int(rows[0][i]), int(rows[1][j])] = float(row[j])
    return found


def test_points_that_go_on_keep_their_numbers() -> None:
    module = kornias()
    query = features(0, 64)
    others = [features(1, 64, of=query), features(2, 64, of=query), features(3, 32, of=query)]
    network = LightGlue(module, precision=torch.float32)
    for candidate, found in zip(others, matched(network, query, others, layers=2, keep=((1, 0.375),)), strict=True):
        with torch.inference_mode():
            expected = by_hand(query, candidate, module, 0.375)
        assert len(expected) >= 4
        assert as_dict(found) == pytest.approx(expected, abs=2e-4)


def test_shares_are_of_the_points_that_a_photo_came_with() -> None:
    query, candidate = features(0, 64), features(1, 64, of=features(0, 64))
    network = LightGlue(kornias(), precision=torch.float32)
    [twice], [once] = (
        matched(network, query, [candidate], layers=3, keep=keep) for keep in (((1, 0.5), (2, 0.5)), ((1, 0.5),))
    )
    assert as_dict(twice) == as_dict(once)
    [fewer] = matched(network, query, [candidate], layers=3, keep=((1, 0.5), (2, 0.05)))
    assert len(fewer) <= 3


def test_keeping_all_there_are_changes_nothing() -> None:
    query = features(0, 64)
    others = [features(1, 64, of=query)]
    network = LightGlue(kornias(), precision=torch.float32)
    [whole], [kept] = matched(network, query, others), matched(network, query, others, keep=((1, 1.0), (9, 0.1)))
    assert as_dict(kept) == as_dict(whole)


def test_the_company_of_a_candidate_does_not_matter() -> None:
    query = features(0, 64)
    others = [features(seed, 64 if seed % 3 else 40, of=query) for seed in range(1, 12)]
    network = LightGlue(kornias(), precision=torch.float32)
    together = matched(network, query, others)
    for number in (0, 3, 10):
        [alone] = matched(network, query, [others[number]])
        assert as_dict(alone) == pytest.approx(as_dict(together[number]), abs=1e-5)
    backwards = matched(network, query, others[::-1])[::-1]
    assert [as_dict(one).keys() for one in backwards] == [as_dict(one).keys() for one in together]


def test_points_beyond_a_multiple_of_the_step_are_the_weakest_and_left_out() -> None:
    network = LightGlue(kornias(), precision=torch.float32)
    assert [len(network.prepare(features(0, count))) for count in (0, 1, 31, 32, 63, 64, 100)] == [
        0, 1, 31, 32, 32, 64, 96,
    ]  # fmt: skip
    query = features(0, 64)
    [cut], [best] = (matched(network, query, [one]) for one in (features(1, 50, of=query),
                                                                 features(1, 50, of=query).best(32)))  # fmt: skip
    assert as_dict(cut) == as_dict(best)


def test_a_photo_without_points_has_no_matches() -> None:
    network = LightGlue(kornias(), precision=torch.float32)
    none, some = features(0, 0), features(1, 32)
    assert [len(one) for one in matched(network, none, [some, none])] == [0, 0]
    found = matched(network, some, [none, features(2, 32, of=some)])
    assert len(found[0]) == 0
    assert len(found[1]) > 0
    assert matched(network, some, []) == []


def test_wrong_input_is_refused() -> None:
    network = LightGlue(kornias())
    with pytest.raises(InputError, match="descriptors of 5 numbers: the matcher takes 8"):
        network.prepare(features(0, 32, dim=5))
    for wrong in ({"layers": 0}, {"keep": ((0, 0.5),)}, {"keep": ((1, 0.0),)}, {"keep": ((1, 3),)}):
        with pytest.raises(InputError, match="expected"):
            Effort(**wrong)


def test_precision_is_float32_where_the_processor_knows_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False}, raising=False)
    assert fastest_precision(torch.device("cpu")) == torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert fastest_precision(torch.device("cpu")) == torch.bfloat16
    assert fastest_precision(torch.device("cuda")) == torch.float16
