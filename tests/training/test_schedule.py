from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resight.models.weights import new_embedder
from resight.training.chipset import TrainingClass, TrainingSet
from resight.training.objective import Objective
from resight.training.presets import PAPER, PAPER_AS_CODED, TINY
from resight.training.schedule import learning_rate, make_optimiser, parameter_groups, set_learning_rate


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 1.5e-5),
        (1, 1.5e-5 + (1.5e-3 - 1.5e-5) / 15),
        (14, 1.5e-5 + (1.5e-3 - 1.5e-5) * 14 / 15),
        (15, 1.5e-3),
        (16, 1.2e-3),
        (29, 1.5e-3 * 0.8**14),
    ],
)
def test_the_papers_schedule_by_hand(epoch: int, expected: float) -> None:
    # 15 epochs of warm-up are 15 and not 7: every step of an epoch has one rate, and an epoch advances it once.
    for step_in_epoch in (0, 50, 99):
        assert learning_rate(epoch * 100 + step_in_epoch, PAPER, 100) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 1.5e-5),
        (1, 1.5e-5 + (1.5e-3 - 1.5e-5) * 2 / 15),
        (7, 1.5e-5 + (1.5e-3 - 1.5e-5) * 14 / 15),  # the highest; 15 of 15 would be reached in mid-epoch
        (8, 1.5e-3 * 0.8),
        (9, 1.5e-3 * 0.8**3),
        (29, 1.5e-3 * 0.8**43),
    ],
)
def test_the_papers_schedule_as_coded_moves_on_twice_an_epoch(epoch: int, expected: float) -> None:
    for step_in_epoch in (0, 99):
        assert learning_rate(epoch * 100 + step_in_epoch, PAPER_AS_CODED, 100) == pytest.approx(expected)


def test_cosine_by_hand() -> None:
    recipe = replace(
        TINY, epochs=3, warmup_epochs=1.0, learning_rate=1.0, learning_rate_start=0.2, learning_rate_end=0.1
    )
    rates = [learning_rate(step, recipe, 4) for step in range(12)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[11] == pytest.approx(0.1)  # the last step of the run
    odd = replace(recipe, epochs=3, warmup_epochs=0.0)
    assert [learning_rate(step, odd, 3) for step in (0, 4, 8)] == pytest.approx([1.0, 0.55, 0.1])  # 4 is half-way


def test_a_warmup_as_long_as_the_run() -> None:
    recipe = replace(TINY, epochs=1)
    rates = [learning_rate(step, recipe, 5) for step in range(5)]
    assert rates == sorted(rates)
    assert rates[-1] < recipe.learning_rate


@given(st.integers(1, 30), st.integers(1, 40), st.floats(0.0, 1.0), st.sampled_from(["cosine", "exponential"]))
def test_the_rate_rises_then_falls_and_never_passes_its_top(
    epochs: int, steps_per_epoch: int, share: float, schedule: str
) -> None:
    warmup = share * epochs if schedule == "cosine" else float(int(share * epochs))
    recipe = replace(TINY, epochs=epochs, warmup_epochs=warmup, schedule=schedule)
    rates = [learning_rate(step, recipe, steps_per_epoch) for step in range(epochs * steps_per_epoch)]
    top = rates.index(max(rates))
    assert all(0 < rate <= recipe.learning_rate * (1 + 1e-12) for rate in rates)
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(rates[: top + 1]))
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(rates[top:]))


def objective_of(dim: int, *, species_weight: float = 0.0) -> Objective:
    nothing = np.zeros(0, dtype=np.int64)
    classes = (TrainingClass("a", "1", 4), TrainingClass("b", "1", 4))
    data = TrainingSet((), nothing, nothing, np.array([0, 1]), classes, ())
    return Objective(dim, data, replace(TINY, centres=2, species_weight=species_weight))


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit"])
def test_centres_norms_biases_and_the_pooling_exponent_do_not_decay(backbone: str) -> None:
    embedder = new_embedder(backbone, weights="none", image_size=160)
    objective = objective_of(embedder.config.dim, species_weight=0.1)
    decayed, plain, of_head = parameter_groups(embedder, objective, TINY)
    names = {id(weight): name for name, weight in embedder.named_parameters()}
    assert decayed["weight_decay"] == TINY.weight_decay > 0
    assert plain["weight_decay"] == of_head["weight_decay"] == 0.0
    assert (decayed["lr_factor"], plain["lr_factor"], of_head["lr_factor"]) == (1.0, 1.0, 10.0)
    assert {id(weight) for weight in of_head["params"]} == {id(weight) for weight in objective.parameters()}
    assert len(of_head["params"]) == 3  # the centres, and the weight and the bias of the species head

    decayed_names = {names[id(weight)] for weight in decayed["params"]}
    plain_names = {names[id(weight)] for weight in plain["params"]}
    assert decayed_names | plain_names == set(names.values())
    assert not decayed_names & plain_names
    assert {"pooling.p", "bn.weight", "bn.bias"} <= plain_names
    assert all(name.endswith(".weight") for name in decayed_names)
    assert not any("bn" in name or "norm" in name for name in decayed_names)
    if backbone == "test_vit":
        assert {"backbone.pos_embed", "backbone.cls_token"} <= plain_names


def test_rates_of_the_groups() -> None:
    embedder = new_embedder("test_resnet", weights="none", image_size=64)
    objective = objective_of(96)
    optimiser = make_optimiser(embedder, objective, TINY)
    set_learning_rate(optimiser, 0.01)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.01, 0.01, 0.1])
    assert type(optimiser) is torch.optim.AdamW
    assert type(make_optimiser(embedder, objective, PAPER)) is torch.optim.Adam
