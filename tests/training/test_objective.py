from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from resight.models.heads import SubCenterArcFace
from resight.training.chipset import TrainingClass, TrainingSet
from resight.training.objective import Objective, centres_of, margins_of, similarity_distance
from resight.training.presets import TINY

CLASSES = (TrainingClass("a", "1", 1), TrainingClass("a", "2", 16), TrainingClass("b", "1", 81))
DIM = 5


def data_of(species: list[int]) -> TrainingSet:
    nothing = np.zeros(0, dtype=np.int64)
    return TrainingSet((), nothing, nothing, np.array(species), CLASSES, ())


def vectors(n: int, dim: int = DIM, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


TRUTH = torch.tensor([0, 1, 2, 2])
SPECIES = torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("form", "expected"),
    [("absolute", [0.321, 0.271 * 16**-0.364 + 0.05]), ("spread", [0.5, 0.2]), ("power", [0.55, 0.3])],
)
def test_margins_follow_the_recipes_form(form: str, expected: list[float]) -> None:
    assert margins_of(CLASSES[:2], replace(TINY, margin=form)).tolist() == pytest.approx(expected)


def test_margins_take_the_recipes_numbers() -> None:
    recipe = replace(TINY, margin="spread", margin_low=0.1, margin_high=0.4, margin_exponent=0.5)
    # t = 1, 1/4, 1/9: the middle one stands at (1/4 - 1/9) / (8/9) = 5/32 of the way from 0.1 to 0.4.
    assert margins_of(CLASSES, recipe).tolist() == pytest.approx([0.4, 0.1 + 0.3 * 5 / 32, 0.1])
    power = replace(TINY, margin="power", margin_a=0.2, margin_b=0.1, margin_exponent=0.5)
    assert margins_of(CLASSES, power).tolist() == pytest.approx([0.3, 0.15, 0.1 + 0.2 / 9])


def test_centres_of_a_class_by_hand() -> None:
    assert centres_of(CLASSES, replace(TINY, centres=3)) == 3
    # One for 16 annotations begun, at most 3: 1 is begun by one, 16 are one whole, 81 begin a sixth.
    assert centres_of(CLASSES, replace(TINY, centres=3, annotations_per_centre=16)) == [1, 1, 3]
    assert centres_of(CLASSES, replace(TINY, centres=9, annotations_per_centre=15)) == [1, 2, 6]
    head = Objective(DIM, data_of([0]), replace(TINY, centres=9, annotations_per_centre=15)).head
    assert head.weight.shape == (3 * 6, DIM)


def test_alone_it_is_the_cross_entropy_of_arcface() -> None:
    objective = Objective(DIM, data_of([0, 1]), replace(TINY, centres=2, scale=20.0))
    head = SubCenterArcFace(DIM, margins_of(CLASSES, TINY), centres=2, scale=20.0)
    head.load_state_dict(objective.head.state_dict())
    embeddings = vectors(4)
    loss, correct = objective(embeddings, TRUTH, SPECIES, [vectors(4, 7)], torch.ones(4, dtype=torch.bool))
    assert torch.equal(loss, F.cross_entropy(head(embeddings, TRUTH), TRUTH))
    assert int(correct) == int((head.cosines(embeddings).argmax(dim=1) == TRUTH).sum())
    assert [name for name, _ in objective.named_parameters()] == ["head.weight"]  # nothing that does not learn


def test_the_count_is_of_chips_nearest_to_their_class_without_the_margin() -> None:
    objective = Objective(2, data_of([0]), replace(TINY, centres=1))
    with torch.no_grad():
        objective.head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    # 44 degrees from its own class and 46 from the other: with the margin it would be the other's.
    chip = torch.tensor([[math.cos(math.radians(44)), math.sin(math.radians(44))]])
    assert objective(chip, torch.tensor([0]), torch.tensor([0]))[1].item() == 1
    assert objective(chip, torch.tensor([1]), torch.tensor([0]))[1].item() == 0


def test_the_species_head_adds_its_cross_entropy_times_the_weight() -> None:
    torch.manual_seed(1)
    objective = Objective(DIM, data_of([0, 1]), replace(TINY, species_weight=0.25))
    assert objective.species_head is not None
    assert objective.species_head.out_features == 2
    embeddings = vectors(4)
    plain = F.cross_entropy(objective.head(embeddings, TRUTH), TRUTH)
    logits = objective.species_head(embeddings).double().tolist()
    naive = [math.log(sum(map(math.exp, row))) - row[own] for row, own in zip(logits, SPECIES.tolist(), strict=True)]
    loss, _ = objective(embeddings, TRUTH, SPECIES)
    assert loss.item() == pytest.approx(plain.item() + 0.25 * sum(naive) / 4, rel=1e-5)
    loss.backward()
    assert objective.species_head.weight.grad is not None
    assert objective.species_head.weight.grad.abs().sum() > 0


def test_one_species_has_no_species_head() -> None:
    assert Objective(DIM, data_of([0, 0]), replace(TINY, species_weight=0.25)).species_head is None


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def naive_distance(own: torch.Tensor, teachers: list[torch.Tensor], rows: list[int]) -> float:
    total, pairs = 0.0, 0
    for i in rows:
        for j in rows:
            if i != j:
                theirs = [cosine(t[i].double().tolist(), t[j].double().tolist()) for t in teachers]
                mine = cosine(own[i].double().tolist(), own[j].double().tolist())
                total += (mine - sum(theirs) / len(theirs)) ** 2
                pairs += 1
    return total / pairs if pairs else 0.0


@given(st.integers(2, 7), st.integers(1, 3), st.data())
def test_the_distance_to_teachers_agrees_with_a_naive_loop(n: int, teachers: int, drawn: st.DataObject) -> None:
    own = vectors(n)
    taught = [vectors(n, 3 + number, seed=number + 1) for number in range(teachers)]
    seen = drawn.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    rows = [row for row in range(n) if seen[row]]
    got = similarity_distance(own, taught, torch.tensor(seen))
    assert got.item() == pytest.approx(naive_distance(own, taught, rows), rel=1e-4, abs=1e-6)
    everyone = similarity_distance(own, taught).item()
    assert everyone == pytest.approx(naive_distance(own, taught, list(range(n))), rel=1e-4, abs=1e-6)


def test_the_distance_to_teachers_by_hand() -> None:
    # Own cosine 0 and the teachers' 1 and 0: (0 - 1/2)², for either order of the two.
    own = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    teachers = [torch.tensor([[2.0], [5.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])]
    assert similarity_distance(own, teachers).item() == pytest.approx(0.25)


def test_the_distance_knows_neither_scale_nor_order_and_is_0_for_its_own_teacher() -> None:
    own, teachers = vectors(6), [vectors(6, 3, seed=1), vectors(6, 8, seed=2)]
    distance = similarity_distance(own, teachers).item()
    assert distance > 0.01
    assert similarity_distance(own, [7 * teachers[0], 0.1 * teachers[1]]).item() == pytest.approx(distance, rel=1e-5)
    other = torch.tensor([3, 0, 5, 1, 4, 2])
    assert similarity_distance(own[other], [t[other] for t in teachers]).item() == pytest.approx(distance, rel=1e-5)
    assert similarity_distance(own, teachers[::-1]).item() == pytest.approx(distance, rel=1e-5)
    assert similarity_distance(own, [5 * own]).item() == pytest.approx(0.0, abs=1e-10)
    assert similarity_distance(own, [own.half()]).item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("seen", [0, 1])
def test_no_pair_to_compare_is_no_distance_and_no_nan_in_the_gradient(seen: int) -> None:
    own = vectors(3).requires_grad_()
    distance = similarity_distance(own, [vectors(3, 4, seed=1)], torch.arange(3) < seen)
    distance.backward()
    assert distance.item() == 0.0
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_teachers_are_added_times_their_weight() -> None:
    objective = Objective(DIM, data_of([0, 1]), replace(TINY, distil_weight=3.0))
    embeddings, teachers = vectors(4), [vectors(4, 9, seed=4)]
    unlike = torch.tensor([True, True, False, True])
    plain = objective(embeddings, TRUTH, SPECIES)[0].item()
    expected = plain + 3.0 * similarity_distance(embeddings, teachers, unlike).item()
    assert objective(embeddings, TRUTH, SPECIES, teachers, unlike)[0].item() == pytest.approx(expected, rel=1e-6)


def test_no_value_is_looked_at_so_that_no_accelerator_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors on the meta device have no values: whatever would ask for one raises. It has no autocast either.
    monkeypatch.setattr(torch, "autocast", lambda device, enabled: nullcontext())
    recipe = replace(TINY, species_weight=0.5, distil_weight=3.0, centres=3, annotations_per_centre=16)
    objective = Objective(DIM, data_of([0, 1]), recipe).to("meta")
    teachers, comparable = [vectors(4, 9).to("meta")], torch.ones(4, dtype=torch.bool, device="meta")
    loss, correct = objective(vectors(4).to("meta"), TRUTH.to("meta"), SPECIES.to("meta"), teachers, comparable)
    assert (loss.shape, correct.shape) == ((), ())
