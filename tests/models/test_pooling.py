from __future__ import annotations

import pytest
import torch

from resight.models.pooling import GeM, GeMLevels


def test_p_of_one_is_the_mean_and_a_large_p_nears_the_maximum() -> None:
    features = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert GeM(p=1.0)(features).item() == pytest.approx(3.0)
    assert GeM(p=40.0)(features).item() == pytest.approx(6.0, rel=0.04)


def test_worked_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[0.0, -5.0]]]])  # (1, 2, 1, 2)
    pooled = GeM(p=3.0, eps=0.5)(features)
    assert pooled[0, 0].item() == pytest.approx((9 / 2) ** (1 / 3))
    assert pooled[0, 1].item() == pytest.approx(0.5)  # everything below eps counts as eps


def test_the_exponent_is_learned_and_its_gradient_is_finite_at_zero_activations() -> None:
    pooling = GeM()
    features = torch.zeros(2, 3, 4, 4, requires_grad=True)
    pooling(features).sum().backward()
    assert pooling.p.grad is not None
    assert torch.isfinite(pooling.p.grad).all()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()
    assert [name for name, _ in pooling.named_parameters()] == ["p"]


def test_stays_float32_under_autocast_where_half_precision_would_overflow() -> None:
    features = torch.full((1, 2, 2, 2), 50.0, dtype=torch.float16)  # 50 ** 3 is beyond float16
    with torch.autocast("cpu", torch.bfloat16):
        pooled = GeM()(features)
    assert pooled.dtype == torch.float32
    assert pooled.tolist() == [pytest.approx([50.0, 50.0], rel=1e-5)]


def test_columns_are_pooled_apart_and_stand_left_to_right() -> None:
    features = torch.tensor([[[[1.0, 2.0, 5.0], [3.0, 6.0, 9.0]], [[0.0, 0.0, 1.0], [0.0, 0.0, 7.0]]]])  # (1, 2, 2, 3)
    pooled = GeM(p=1.0, columns=2)(features)[0]  # the left column is two positions wide, the right one
    assert pooled.tolist() == pytest.approx([12 / 4, 0.0, 7.0, 4.0], abs=1e-5)
    assert torch.equal(GeM(p=3.0, columns=1)(features), GeM(p=3.0)(features))
    flipped = GeM(p=1.0, columns=3)(features.flip(-1)).view(3, 2)
    assert torch.allclose(flipped, GeM(p=1.0, columns=3)(features).view(3, 2).flip(0))


def test_levels_have_an_exponent_each_and_stand_side_by_side() -> None:
    fine = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    coarse = torch.tensor([[[[5.0]], [[7.0]]]])  # (1, 2, 1, 1)
    pooling = GeMLevels(2, p=1.0)
    with torch.no_grad():
        pooling.levels[0].p.fill_(2.0)
    assert pooling([fine, coarse])[0].tolist() == pytest.approx([(50 / 4) ** 0.5, 5.0, 7.0])
    halves = GeMLevels(2, p=1.0, columns=2)
    assert halves([fine, torch.tensor([[[[5.0, 1.0]]]])])[0].tolist() == pytest.approx([2.0, 4.0, 5.0, 1.0])
    with pytest.raises(ValueError, match="shorter"):
        pooling([fine])
