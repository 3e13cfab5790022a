"""What each option of a recipe does to the weights, watched from the optimiser's side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resight.errors import InputError
from resight.models.embedder import Embedder
from resight.models.weights import new_embedder
from resight.training import loop
from resight.training.chipset import TrainingSample
from resight.training.objective import Objective
from resight.training.recipe import Augmentation, Recipe

from .drawn import draw_samples
from .runs import QUICK, distance, same, trained, weights_of

SMALL = replace(QUICK, image_size=32, augment=Augmentation())
State = dict[str, torch.Tensor]


@pytest.fixture
def samples(tmp_path: Path) -> list[TrainingSample]:
    """Two animals of each of two species, 4 chips each: 4 batches of 4 an epoch."""
    return draw_samples(tmp_path / "chips", identities=4, chips=4, size=32)


@dataclass
class Watched:
    """The states of a run: before the first step and after each, and the gradient's length before each."""

    embedder: list[State] = field(default_factory=list)
    objective: list[State] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)
    stop_after: int | None = None


def state_of(module: torch.nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    seen = Watched()
    make_optimiser: Callable[..., torch.optim.Optimizer] = loop.make_optimiser

    def watch(embedder: Embedder, objective: Objective, recipe: Recipe) -> torch.optim.Optimizer:
        optimiser = make_optimiser(embedder, objective, recipe)

        def before(*_: object) -> None:
            weights = [weight for group in optimiser.param_groups for weight in group["params"]]
            lengths = [weight.grad.norm() for weight in weights if weight.grad is not None]
            seen.gradients.append(float(torch.stack(lengths).norm()))
            if seen.stop_after == len(seen.gradients) - 1:
                raise KeyboardInterrupt

        def after(*_: object) -> None:
            seen.embedder.append(state_of(embedder))
            seen.objective.append(state_of(objective))

        after()
        optimiser.register_step_pre_hook(before)
        optimiser.register_step_post_hook(after)
        return optimiser

    monkeypatch.setattr(loop, "make_optimiser", watch)
    return seen


def test_the_average_agrees_with_a_naive_one_of_weights_and_statistics(
    tmp_path: Path, samples: list[TrainingSample], watched: Watched
) -> None:
    recipe = replace(SMALL, ema_decay=0.6, epochs=3)  # 12 steps
    result = trained(samples, recipe, tmp_path / "run")
    average = {name: tensor.double() for name, tensor in watched.embedder[1].items()}
    kept = []
    for step, state in enumerate(watched.embedder[1:]):
        # The warm-up of timm: the first two steps keep nothing, later ones 1 - step ** -0.75 and at most the recipe's.
        kept.append(0.0 if step < 2 else min(0.6, 1.0 - step**-0.75))
        for name, tensor in state.items():
            average[name] = kept[-1] * average[name] + (1.0 - kept[-1]) * tensor.double()
    assert 0 < kept[2] < kept[3] < kept[-1] == 0.6  # both sides of the warm-up are met

    model, last = weights_of(result), watched.embedder[-1]
    running = [name for name in model if "running" in name]
    assert {"bn.running_mean", "bn.running_var"} < set(running)
    for name, tensor in model.items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor.double(), average[name], rtol=1e-4, atol=1e-6), name
        else:
            assert torch.equal(tensor, last[name]), name  # the count of batches
    assert not any(torch.equal(model[name], last[name]) for name in ("bn.weight", *running))


def test_the_average_is_no_part_of_the_learning_and_goes_on_after_a_stop(
    tmp_path: Path, samples: list[TrainingSample], watched: Watched
) -> None:
    plain = replace(SMALL, epochs=3, checkpoint_every_steps=2)
    trained(samples, plain, tmp_path / "plain")
    learned = watched.embedder[-1]
    recipe = replace(plain, ema_decay=0.6)
    whole = trained(samples, recipe, tmp_path / "averaged")
    assert same(watched.embedder[-1], learned)

    watched.gradients.clear()
    watched.stop_after = 7
    with pytest.raises(KeyboardInterrupt):
        trained(samples, recipe, tmp_path / "stopped")
    watched.stop_after = None
    resumed = trained(samples, recipe, tmp_path / "stopped", resume=True)
    assert same(weights_of(resumed), weights_of(whole))


def test_the_head_learns_first(tmp_path: Path, samples: list[TrainingSample], watched: Watched) -> None:
    recipe = replace(SMALL, epochs=3, head_only_epochs=2, weight_decay=0.1)
    trained(samples, recipe, tmp_path / "run", held_out=with_encounters(samples))
    start, middle, end = watched.embedder[0], watched.embedder[8], watched.embedder[12]
    trunk = [name for name in start if not name.startswith("bn.")]
    assert {"pooling.p", "backbone.conv1.0.weight"} <= set(trunk)
    assert any("running_var" in name for name in trunk)
    assert all(torch.equal(start[name], middle[name]) for name in trunk)
    assert all(not torch.equal(start[name], middle[name]) for name in start if name.startswith("bn."))
    assert not torch.equal(watched.objective[0]["head.weight"], watched.objective[8]["head.weight"])
    assert [name for name in start if torch.equal(middle[name], end[name])] == []


def with_encounters(samples: list[TrainingSample]) -> list[TrainingSample]:
    return [replace(sample, encounter=sample.annotation_id) for sample in samples]


def start_without_neck(backbone: str) -> Embedder:
    torch.manual_seed(0)
    return Embedder(replace(new_embedder(backbone, weights="none", image_size=32).config, neck="none"))


def test_a_batch_in_parts_is_the_same_step_where_nothing_sees_the_whole_batch(
    tmp_path: Path, samples: list[TrainingSample], watched: Watched
) -> None:
    # BatchNorm, in a backbone or as the neck, sees a part at a time: this network has neither.
    start = start_without_neck("test_efficientnet_ln")
    recipe = replace(SMALL, backbone="test_efficientnet_ln", batch_size=5, epochs=1, mirror="new", warmup_epochs=0.0)
    whole = trained(samples[:15], recipe, tmp_path / "whole", initial=start)
    gradients = [*watched.gradients]
    watched.gradients.clear()
    parts = trained(samples[:15], replace(recipe, accumulate=2), tmp_path / "parts", initial=start)
    assert len(gradients) == 3  # batches of 5 chips, in parts of 3 and 2
    assert watched.gradients == pytest.approx(gradients, rel=1e-3)
    assert watched.gradients[0] == pytest.approx(gradients[0], rel=1e-5)
    assert parts.final_loss == pytest.approx(whole.final_loss, rel=1e-4)
    assert distance(weights_of(whole), weights_of(parts)) < 0.01 * distance(weights_of(whole), start.state_dict())


def test_a_batch_in_parts_passes_every_chip_once(
    tmp_path: Path, samples: list[TrainingSample], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    apply_changes = loop.apply_changes

    def watch(chips: torch.Tensor, *arguments: Any, **keywords: Any) -> torch.Tensor:
        sizes.append(len(chips))
        return apply_changes(chips, *arguments, **keywords)

    monkeypatch.setattr(loop, "apply_changes", watch)
    reports: list[Any] = []
    recipe = replace(SMALL, batch_size=8, accumulate=3, epochs=1)
    trained(samples, recipe, tmp_path / "run", on_epoch=reports.append)
    assert sizes == [3, 3, 2, 3, 3, 2]  # two batches of 8
    assert (reports[0].images, reports[0].step) == (16, 2)


def test_a_long_gradient_is_shortened(tmp_path: Path, samples: list[TrainingSample], watched: Watched) -> None:
    trained(samples, replace(SMALL, epochs=1), tmp_path / "free")
    free = [*watched.gradients]
    limit = 0.5 * min(free)
    watched.gradients.clear()
    trained(samples, replace(SMALL, epochs=1, gradient_clip=limit), tmp_path / "clipped")
    assert watched.gradients == pytest.approx([limit] * 4, rel=1e-4)
    watched.gradients.clear()
    trained(samples, replace(SMALL, epochs=1, gradient_clip=10 * max(free)), tmp_path / "long enough")
    assert watched.gradients == free


class Spy(Objective):
    """Notes what the loss is given."""

    given: list[tuple[torch.Tensor, ...]]

    def forward(self, embeddings: Any, truth: Any, species: Any, teachers: Any = (), comparable: Any = None) -> Any:
        self.given.append((truth, species, comparable, *teachers))
        return super().forward(embeddings, truth, species, teachers, comparable)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, ...]]:
    """(chips, truth, species, comparable, teachers …) of every batch."""
    chips: list[torch.Tensor] = []
    apply_changes = loop.apply_changes

    def watch(*arguments: Any, **keywords: Any) -> torch.Tensor:
        chips.append(apply_changes(*arguments, **keywords))
        return chips[-1]

    class Both(list[tuple[torch.Tensor, ...]]):
        def append(self, values: tuple[torch.Tensor, ...]) -> None:
            super().append((chips[-1], *values))

    monkeypatch.setattr(Spy, "given", found := Both(), raising=False)
    monkeypatch.setattr(loop, "apply_changes", watch)
    monkeypatch.setattr(loop, "Objective", Spy)
    return found


@pytest.mark.parametrize("mirror", ["off", "same", "new", "by-species"])
def test_a_chip_goes_to_the_class_that_it_shows(
    tmp_path: Path, samples: list[TrainingSample], given: list[tuple[torch.Tensor, ...]], mirror: str
) -> None:
    sides = [replace(sample, sides_differ=sample.species == "barred") for sample in samples]
    teacher = {sample.annotation_id: np.full(3, number, np.float16) for number, sample in enumerate(sides)}
    recipe = replace(SMALL, mirror=mirror, distil_weight=1.0)
    result = trained(sides, recipe, tmp_path / "run", teachers=[teacher])

    stored = torch.stack([torch.from_numpy(np.load(sample.chip_path)).permute(2, 0, 1) for sample in sides])
    classes = sorted({(sample.species, sample.identity) for sample in sides})
    reflected = {"off": [], "same": [], "new": classes, "by-species": classes[:2]}[mirror]
    assert result.classes == 4 + len(reflected)
    seen: list[int] = []
    flipped = 0
    for chips, truth, species, comparable, known in given:
        for chip, label, kind, alike, vector in zip(chips, truth, species, comparable, known, strict=True):
            as_stored = [number for number in range(16) if torch.equal(stored[number], chip)]
            as_mirrored = [number for number in range(16) if torch.equal(stored[number].flip(-1), chip)]
            (number,) = as_stored + as_mirrored
            key = sides[number].species, sides[number].identity
            expected = 4 + reflected.index(key) if as_mirrored and key in reflected else classes.index(key)
            assert int(label) == expected
            assert int(kind) == (key[0] == "striped")
            assert bool(alike) == bool(as_stored)
            assert vector.tolist() == [number] * 3
            seen.append(number)
            flipped += len(as_mirrored)
    assert sorted(seen) == sorted(2 * [*range(16)])
    assert flipped == 0 if mirror == "off" else 8 <= flipped <= 24


def test_teachers_pull_the_cosines_towards_theirs(tmp_path: Path, samples: list[TrainingSample]) -> None:
    # This teacher tells species and no more; the classes would have animals of one species apart.
    teacher = {one.annotation_id: np.eye(2, dtype=np.float16)[int(one.species == "barred")] for one in samples}
    theirs = np.array([[float(a.species == b.species) for b in samples] for a in samples])
    chips = np.stack([np.load(sample.chip_path) for sample in samples])
    recipe = replace(SMALL, epochs=15, batch_size=16, learning_rate=3e-3)
    apart = {}
    for weight in (0.0, 100.0):
        teachers = [teacher] if weight else []
        result = trained(samples, replace(recipe, distil_weight=weight), tmp_path / f"{weight}", teachers=teachers)
        vectors = Embedder.load(result.model).embed_chips(chips).astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        apart[weight] = float(np.square(vectors @ vectors.T - theirs).mean())
    assert apart[100.0] < 0.6 * apart[0.0]


@pytest.mark.parametrize(("weight", "teachers"), [(0.0, [{}]), (0.5, [])])
def test_teachers_and_their_weight_go_together(
    tmp_path: Path, samples: list[TrainingSample], weight: float, teachers: list[dict[str, Any]]
) -> None:
    with pytest.raises(InputError, match=rf"distil_weight is {weight:g} and there are {len(teachers)} teachers: "):
        trained(samples, replace(SMALL, distil_weight=weight), tmp_path / "run", teachers=teachers)


def test_the_species_sampler_and_groups_of_identities_train(tmp_path: Path, samples: list[TrainingSample]) -> None:
    uneven = samples[:13]  # 7 chips of one species, 6 of the other
    for sampler in ("species", "identities"):
        reports: list[Any] = []
        recipe = replace(SMALL, epochs=1, sampler=sampler, per_identity=2)
        trained(uneven, recipe, tmp_path / sampler, on_epoch=reports.append)
        assert reports[0].images == 13


def test_centres_resolution_levels_and_columns_go_together(tmp_path: Path, samples: list[TrainingSample]) -> None:
    recipe = replace(
        SMALL, epochs=1, centres=3, annotations_per_centre=2, output_stride=16, gem_levels=2, gem_columns=2
    )
    result = trained(samples, recipe, tmp_path / "run")
    model = Embedder.load(result.model)
    assert (model.config.output_stride, model.config.gem_levels, model.config.gem_columns) == (16, 2, 2)
    assert np.isfinite(result.final_loss)
