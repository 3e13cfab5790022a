from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest

from resight.errors import InputError, UnknownName
from resight.experiments import bootstrap, finetune, leave_one_out, multi_vs_single, reproduce_paper
from resight.experiments.given import Given, GivenSplit, Side, choose_species, nested_individuals
from resight.experiments.plan import Asked
from resight.training.presets import PAPER, TINY

RECIPE = replace(TINY, epochs=10, batch_size=10)


def side(individuals: int, *, photos: int = 5, tested: int = 4) -> Side:
    return Side({f"i{number:02}": photos for number in range(individuals)}, individuals, 3 * tested, tested)


def given(**changes: object) -> Given:
    species: Mapping[str, Side] = {"lion": side(8), "seal": side(4), "zebra": side(12)}
    splits = tuple(GivenSplit(f"s{seed}", seed, species) for seed in (0, 1))
    return replace(Given(splits, RECIPE, ("lion", "seal", "zebra")), **changes)  # type: ignore[arg-type]


def test_a_smaller_set_of_individuals_is_part_of_every_larger_one() -> None:
    split = given().splits[0]
    sets = [set(nested_individuals(split, "zebra", number)) for number in range(13)]
    assert [len(one) for one in sets] == list(range(13))
    assert all(small < large for small, large in pairwise(sets))
    other = nested_individuals(given().splits[1], "zebra", 6)
    assert set(other) != sets[6]  # another seed draws others


def test_a_run_has_its_splits_seed_and_only_its_species() -> None:
    runs = multi_vs_single.runs(given(), Asked())
    assert [(run.label, run.seed) for run in runs[:4]] == [
        ("joint", 0), ("only lion", 0), ("only seal", 0), ("only zebra", 0)
    ]  # fmt: skip
    assert len(runs) == 8
    assert all(run.recipe is not None and run.recipe.seed == run.seed for run in runs)
    assert runs[0].tests == runs[0].species == ("lion", "seal", "zebra")
    assert runs[2].tests == runs[2].species == ("seal",)


def test_leave_one_out_is_tested_on_what_it_never_saw() -> None:
    without = [run for run in leave_one_out.runs(given(), Asked()) if run.label == "without seal"]
    assert [run.species for run in without] == [("lion", "zebra")] * 2
    assert [run.tests for run in without] == [("seal",)] * 2


def test_a_model_that_never_saw_the_species_saw_no_other_part_of_it_either() -> None:
    species = {name: side(4) for name in ("lion", "lion+head", "seal")}
    parts = given(splits=(GivenSplit("s", 0, species),), species=tuple(species))
    of = {run.label: run.species for run in leave_one_out.runs(parts, Asked())}
    assert of["without lion"] == of["without lion+head"] == ("seal",)
    assert of["without seal"] == ("lion", "lion+head")
    joined = [run for run in bootstrap.runs(parts, Asked(species=("lion+head",), individuals=(2,))) if run.individuals]
    assert [run.species for run in joined] == [("lion+head",), ("lion+head", "seal")]
    one = replace(parts, species=("lion", "lion+head"))
    with pytest.raises(InputError, match=r"at least two species, and there is lion, lion\+head only"):
        leave_one_out.runs(one, Asked())
    assert {run.label for run in reproduce_paper.runs(one, Asked())} == {"joint", "only lion", "only lion+head"}


def test_equal_steps_give_small_runs_more_epochs() -> None:
    # 8 + 4 + 12 individuals of 5 photos are 120, so 12 steps an epoch; the seals' 20 are 2.
    by_label = {run.label: run for run in multi_vs_single.runs(given(budget="steps"), Asked()) if run.seed == 0}
    epochs = {label: run.recipe.epochs for label, run in by_label.items() if run.recipe is not None}
    assert epochs == {"joint": 10, "only lion": 30, "only seal": 60, "only zebra": 20}


def test_equal_steps_stretch_the_schedule_with_the_epochs() -> None:
    recipe = replace(PAPER, batch_size=10, epochs=10, warmup_epochs=5.0, head_only_epochs=1)
    runs = multi_vs_single.runs(given(budget="steps", recipe=recipe), Asked())
    joint, seal = (next(run.recipe for run in runs if run.label == label) for label in ("joint", "only seal"))
    assert joint is not None
    assert joint == recipe
    assert seal is not None
    assert (seal.epochs, seal.warmup_epochs, seal.head_only_epochs) == (60, 30.0, 6)
    # The rate falls by as much from the end of the warm-up to the last epoch.
    assert seal.decay_per_epoch**30 == pytest.approx(joint.decay_per_epoch**5)


def test_a_model_at_hand_and_a_backbone_are_not_taken_for_a_run_of_their_name() -> None:
    asked = Asked(models=("joint", "test_resnet"), backbones=("test_resnet", "test_efficientnet"), individuals=(2,))
    runs = [run for run in reproduce_paper.runs(given(), asked) if run.seed == 0]
    assert len({run.label for run in runs}) == len(runs)
    assert [run.model for run in runs if run.model is not None] == ["joint", "test_resnet"]
    assert {run.recipe.backbone for run in runs if run.recipe is not None} >= set(asked.backbones)
    assert next(run for run in runs if run.label == "joint").recipe is not None


def test_one_individual_is_left_out_since_it_cannot_be_trained_on_alone() -> None:
    asked = Asked(species=("seal",), individuals=(0, 1, 2))
    assert {run.label for run in bootstrap.runs(given(), asked)} == {
        "without seal", "seal alone, 2 individuals", "seal joined, 2 individuals"
    }  # fmt: skip
    assert [one.what for one in bootstrap.left_out(given(), asked)] == ["1 individual"]


def test_reproducing_the_paper_with_one_species_says_what_it_cannot_answer() -> None:
    one = given(species=("lion",))
    assert {run.label for run in reproduce_paper.runs(one, Asked())} == {"joint"}
    reasons = {entry.what: entry.reason for entry in reproduce_paper.left_out(one, Asked())}
    assert any("multi-vs-single" in what and "there is lion only" in reason for what, reason in reasons.items())


def test_bootstrap_joins_some_individuals_of_one_species_to_all_of_the_others() -> None:
    asked = Asked(species=("zebra",), individuals=(0, 3, 50))
    runs = [run for run in bootstrap.runs(given(), asked) if run.seed == 0]
    assert [run.label for run in runs] == [
        "without zebra", "zebra alone, 3 individuals", "zebra joined, 3 individuals"
    ]  # fmt: skip
    assert runs[1].species == ("zebra",)
    assert runs[2].species == ("lion", "seal", "zebra")
    assert runs[1].individuals == runs[2].individuals
    assert len(runs[1].individuals["zebra"]) == 3
    assert [one.what for one in bootstrap.left_out(given(), asked)] == ["50 individuals"]


def test_fine_tuning_goes_on_from_the_model_without_the_species() -> None:
    runs = [run for run in finetune.runs(given(), Asked(species=("seal",), individuals=(2,))) if run.seed == 0]
    tuned = next(run for run in runs if "fine-tuned" in run.label)
    assert tuned.starts_from == "without seal"
    assert runs[0].label == "without seal"
    assert tuned.recipe is not None
    assert (tuned.recipe.weights, tuned.recipe.epochs, tuned.recipe.batch_size) == ("init", 10, 10)
    assert 0 < tuned.recipe.head_only_epochs < 10


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(), "name it .--species S.; there is lion, seal, zebra"),
        (Asked(species=("seal",), individuals=(50, 100)), "seal has 4 individuals in training"),
    ],
)
def test_what_bootstrap_cannot_answer_is_one_line(asked: Asked, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bootstrap.runs(given(), asked)
    with pytest.raises(UnknownName, match="zebra"):
        bootstrap.runs(given(), Asked(species=("zebr",)))


def test_species_that_cannot_be_told_apart_are_left_out_with_the_reason() -> None:
    few = GivenSplit("s1", 1, {"lion": side(8), "seal": side(1), "zebra": side(8, tested=1)})
    chosen, left_out = choose_species([*given().splits, few], None)
    assert chosen == ("lion",)
    assert {one.what: one.reason for one in left_out} == {
        "seal": "1 training identities in split s1, at least 2 needed",
        "zebra": "1 test identities in split s1, at least 2 needed",
    }
    with pytest.raises(InputError, match=r"no species has enough.*seal: 1 training"):
        choose_species([few], ["seal"])
    with pytest.raises(UnknownName):
        choose_species([few], ["sael"])


def test_a_species_that_turns_out_to_be_of_no_use_is_listed() -> None:
    fewer = given().less("seal", "no photos")
    assert fewer.species == ("lion", "zebra")
    assert [(one.what, one.reason) for one in fewer.left_out] == [("seal", "no photos")]
    with pytest.raises(InputError, match="zebra: no photos"):
        fewer.less("lion", "no photos").less("zebra", "no photos")


def test_comparing_species_needs_two_of_them() -> None:
    with pytest.raises(InputError, match="at least two species, and there is lion only"):
        multi_vs_single.runs(given(species=("lion",)), Asked())
