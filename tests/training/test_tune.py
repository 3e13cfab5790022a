from __future__ import annotations

import csv
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from sqlalchemy import Engine, event

from resight.catalogue.store import StoredSplit
from resight.errors import ArtefactMismatch, InputError, TrainingError
from resight.models.embedder import Embedder
from resight.training import study as study_module
from resight.training import tune as tune_module
from resight.training.checkpoint import EpochReport
from resight.training.chipset import TrainingSample
from resight.training.loop import Job
from resight.training.presets import PRESETS, TINY, TUNED, flattened, preset
from resight.training.recipe import Recipe
from resight.training.space import SPACE, applied, own_values, space_of, suggest
from resight.training.study import StudyFolder, found_recipes
from resight.training.tune import TuneResult, held_out_share, leak, tune

from .drawn import draw_samples

QUICK = replace(TINY, backbone="test_resnet", weights="none", image_size=64, batch_size=8, epochs=2, seed=3)
Scores = Callable[[Recipe], Sequence[float]]


def sample(name: str, identity: str = "a", species: str = "zebra") -> TrainingSample:
    return TrainingSample(name, species, identity, Path(f"{name}.npy"), encounter=name)


def made_job(folder: Path, recipe: Recipe = QUICK, **origin: Any) -> Job:
    """A job without chips, for a trainer that looks at none."""
    return Job(
        samples=[sample("1"), sample("2", "b")],
        recipe=recipe,
        run_dir=folder / "tuning" / "found",
        held_out=[sample("3"), sample("4")],
        origin={"split": "s", "tuned_for": "s", **origin},
    )


def by_learning_rate(recipe: Recipe) -> Sequence[float]:
    return [min(99.0, 1e4 * recipe.learning_rate)] * recipe.epochs


class Trainer:
    """Stands in for the training loop: what a recipe scores is a function of it."""

    def __init__(self, scores: Scores = by_learning_rate) -> None:
        self.scores = scores
        self.jobs: list[Job] = []
        self.epochs: list[int] = []

    def __call__(self, job: Job) -> None:
        self.jobs.append(job)
        self.epochs.append(0)
        (job.run_dir / "checkpoint").mkdir(parents=True)
        for epoch, score in enumerate(self.scores(job.recipe), start=1):
            self.epochs[-1] += 1
            assert job.on_epoch is not None
            job.on_epoch(EpochReport(epoch, epoch, 1.0, 0.0, 0.1, 0.1, 1, 1.0, 1.0, 0.0, 1.0, score))
        (job.run_dir / "model").mkdir()


@pytest.fixture(autouse=True)
def not_waiting_for_the_disk() -> Iterator[None]:
    def connected(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", connected)
    yield
    event.remove(Engine, "connect", connected)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    one = Trainer()
    monkeypatch.setattr(study_module, "train", one)
    return one


def search(job: Job, trials: int, **given: Any) -> TuneResult:
    return tune(job, base=given.pop("base", QUICK), trials=trials, **given)


def drawn(result: TuneResult) -> list[tuple[Any, ...]]:
    return [(one.number, one.state, one.value, dict(one.settings)) for one in result.trials]


def test_a_search_with_real_training(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    samples = draw_samples(tmp_path / "chips", identities=4, chips=4)
    samples = [replace(one, encounter=one.annotation_id) for one in samples]
    kept = [one for one in samples if not one.annotation_id.endswith((":2", ":3"))]
    held_out = [one for one in samples if one.annotation_id.endswith((":2", ":3"))]
    job = Job(kept, replace(QUICK, validation_share=0.25), tmp_path / "tuning" / "found", held_out=held_out)
    result = tune(job, base=QUICK, trials=3)
    folder = tmp_path / "tuning" / "found"
    assert (result.name, result.path, result.leaks, result.held_out) == ("found", folder / "best.toml", None, 8)
    assert [one.state for one in result.trials] == ["complete"] * 3
    values = [one.value for one in result.trials]
    assert all(value is not None and 0 <= value <= 100 for value in values)
    assert result.as_it_is == values[0]
    assert result.best.value == max(value for value in values if value is not None)
    for number in range(3):
        run = folder / "trials" / f"{number:04}"
        assert (run / "config.json").is_file()
        assert (run / "log.csv").is_file()
        assert not (run / "checkpoint").exists()
        assert (run / "model").exists() == (number == result.best.trial)
    assert Embedder.load(folder / "trials" / f"{result.best.trial:04}" / "model").config.backbone == "test_resnet"
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row["state"], float(row["value"])) for row in rows] == [
        (str(one.number), "complete", one.value) for one in result.trials
    ]
    assert float(rows[1]["learning_rate"]) == result.trials[1].settings["learning_rate"]


def test_the_first_trial_is_the_recipe_as_it_is_and_the_best_is_a_recipe_that_can_be_named(
    tmp_path: Path, trainer: Trainer
) -> None:
    start = replace(TUNED, epochs=4, backbone="test_vit", validation_share=0.25)
    trainer.scores = lambda recipe: [1.0 if recipe == start else 50.0] * 4
    result = tune(made_job(tmp_path, start), base=TUNED, trials=3, fixed={"epochs", "backbone"})
    assert trainer.jobs[0].recipe == start
    assert (result.as_it_is, result.best.trial, result.best.value) == (1.0, 1, 50.0)
    own = found_recipes(tmp_path / "tuning")
    assert own == tomllib.loads(result.path.read_text(encoding="utf-8"))["recipes"]
    found = preset("found", own)
    assert found == replace(trainer.jobs[1].recipe, name="found", validation_share=TUNED.validation_share)
    assert own["found"]["base"] == "tuned"
    assert own["found"].keys().isdisjoint({"image_size", "seed", "validation_share"})


def test_what_is_off_is_off_in_the_recipe_that_is_found(tmp_path: Path, trainer: Trainer) -> None:
    assert TUNED.ema_decay is not None
    start = replace(TUNED, ema_decay=None)
    tune(made_job(tmp_path, start), base=TUNED, trials=1, fixed={"ema_decay"})
    assert preset("found", found_recipes(tmp_path / "tuning")) == replace(start, name="found")


def test_a_value_is_the_mean_of_the_last_three_epochs(tmp_path: Path, trainer: Trainer) -> None:
    trainer.scores = lambda recipe: [90.0, 10.0, 20.0, 60.0]
    result = search(made_job(tmp_path, replace(QUICK, epochs=4)), 1)
    assert result.best.value == 30.0


def test_the_same_command_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path, trainer: Trainer) -> None:
    whole = search(made_job(tmp_path / "whole"), 12)
    assert len({str(one.settings) for one in whole.trials}) == 12
    for trials in (2, 11, 12):
        in_parts = search(made_job(tmp_path / "parts"), trials)
        assert len(in_parts.trials) == trials
    assert drawn(in_parts) == drawn(whole)
    ran = len(trainer.jobs)
    in_parts.path.unlink()
    assert drawn(search(made_job(tmp_path / "parts"), 5)) == drawn(whole)
    assert len(trainer.jobs) == ran
    assert in_parts.path.is_file()


KILLED_IN_THE_SECOND_TRIAL = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.training.test_tune import Trainer, made_job, search
from resight.training import study

def score_and_die(recipe):
    yield 10.0
    if len(trainer.jobs) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    yield 20.0

study.train = trainer = Trainer(score_and_die)
search(made_job(Path(sys.argv[1])), 3)
"""


def test_a_killed_trial_is_stopped_and_its_settings_are_tried_again(tmp_path: Path, trainer: Trainer) -> None:
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", KILLED_IN_THE_SECOND_TRIAL, str(tmp_path), str(root)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = tmp_path / "tuning" / "found"
    assert (folder / "best.toml").is_file()
    assert (folder / "trials" / "0001" / "checkpoint").exists()
    result = search(made_job(tmp_path), 3)
    assert [one.state for one in result.trials] == ["complete", "stopped", "complete", "complete"]
    assert result.trials[2].settings == result.trials[1].settings != result.trials[0].settings
    assert len(trainer.jobs) == 2
    assert not (folder / "trials" / "0001" / "checkpoint").exists()
    assert list(folder.glob(".trial-*.lock")) == []


def test_settings_whose_process_dies_each_time_are_given_up(tmp_path: Path, trainer: Trainer) -> None:
    record = StudyFolder(made_job(tmp_path), QUICK, 1, frozenset(), None)
    for number in range(3):
        with record.opened() as study:
            taken = record.take(study)
            assert taken is not None
            assert taken.trial.number == number
            assert applied(QUICK, taken.settings) == QUICK
            taken.lock.release()  # as the death of a process does
    result = search(made_job(tmp_path), 2)
    assert [one.state for one in result.trials] == ["stopped", "stopped", "failed", "complete"]
    assert "killed" in str(result.trials[2].problem)


def test_a_trial_of_a_living_process_is_left_alone_and_counts(tmp_path: Path, trainer: Trainer) -> None:
    record = StudyFolder(made_job(tmp_path), QUICK, 3, frozenset(), None)
    with record.opened() as study:
        taken = record.take(study)
        assert taken is not None
        meanwhile = search(made_job(tmp_path), 3)
        assert [one.state for one in meanwhile.trials] == ["running", "complete", "complete"]
        assert record.run(study, taken) is None
        assert record.take(study) is None
        assert [one.state for one in record.known(study)] == ["complete"] * 3


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("no such weights")])
def test_an_interrupted_trial_waits_for_the_next_call(tmp_path: Path, trainer: Trainer, error: BaseException) -> None:
    def scores(recipe: Recipe) -> Sequence[float]:
        if len(trainer.jobs) == 2:
            raise error
        return by_learning_rate(recipe)

    trainer.scores = scores
    for _ in range(4):  # more often than a killed one is tried
        with pytest.raises(type(error)):
            search(made_job(tmp_path), 2)
        trainer.jobs = trainer.jobs[:1]
    trainer.scores = by_learning_rate
    result = search(made_job(tmp_path), 2)
    assert [one.state for one in result.trials] == ["complete", *["stopped"] * 4, "complete"]
    assert len({str(one.settings) for one in result.trials[1:]}) == 1
    assert list(result.path.parent.glob(".trial-*.lock")) == []


def test_an_interruption_after_a_trial_has_ended_loses_nothing(
    tmp_path: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = optuna.Study.tell

    def tell_and_stop(self: optuna.Study, *given: Any, **more: Any) -> None:
        tell(self, *given, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "tell", tell_and_stop)
    with pytest.raises(KeyboardInterrupt):
        search(made_job(tmp_path), 2)
    monkeypatch.setattr(optuna.Study, "tell", tell)
    assert [one.state for one in search(made_job(tmp_path), 2).trials] == ["complete", "complete"]


def test_settings_that_are_fixed_are_not_searched(tmp_path: Path, trainer: Trainer) -> None:
    fixed = {"learning_rate", "margin", "augment.shift", "weights"}
    result = search(made_job(tmp_path), 6, fixed=fixed)
    assert QUICK.margin == "absolute"
    for one, job in zip(result.trials, trainer.jobs, strict=True):
        assert one.settings.keys().isdisjoint(fixed | {"margin_a", "margin_low"})
        assert {"scale", "augment.zoom"} <= one.settings.keys()
        recipe = job.recipe
        assert (recipe.learning_rate, recipe.augment.shift) == (QUICK.learning_rate, QUICK.augment.shift)
    assert len({job.recipe.scale for job in trainer.jobs}) == 6
    assert len({job.recipe.augment.zoom for job in trainer.jobs}) == 6
    with pytest.raises(InputError, match="all that tuning searches is fixed"):
        space_of(QUICK, [one.key for one in SPACE])


def test_trials_that_fall_behind_are_pruned_and_count(tmp_path: Path, trainer: Trainer) -> None:
    def scores(recipe: Recipe) -> Sequence[float]:
        return [50.0 if len(trainer.jobs) <= 5 else 10.0] * 9

    trainer.scores = scores
    result = search(made_job(tmp_path, replace(QUICK, epochs=9)), 8)
    assert [one.state for one in result.trials] == ["complete"] * 5 + ["pruned"] * 3
    assert trainer.epochs == [9] * 5 + [3] * 3
    assert [one.value for one in result.trials[5:]] == [None] * 3
    assert result.best.trial == 0
    assert "Trial 0 of 8" in result.path.read_text(encoding="utf-8")


def test_a_trial_that_diverges_is_failed_and_counts(tmp_path: Path, trainer: Trainer) -> None:
    def scores(recipe: Recipe) -> Sequence[float]:
        if len(trainer.jobs) in (2, 3):
            raise TrainingError("the loss is nan")
        return [10.0, 10.0]

    trainer.scores = scores
    result = search(made_job(tmp_path), 4)
    assert [one.state for one in result.trials] == ["complete", "failed", "failed", "complete"]
    assert [one.problem for one in result.trials] == [None, "the loss is nan", "the loss is nan", None]


def test_three_failures_in_a_row_end_the_search(tmp_path: Path, trainer: Trainer) -> None:
    def scores(recipe: Recipe) -> Sequence[float]:
        raise TrainingError("the disk is full")

    trainer.scores = scores
    with pytest.raises(TrainingError, match=r"3 trials in a row .* the disk is full"):
        search(made_job(tmp_path), 9)
    assert len(trainer.jobs) == 3
    with pytest.raises(TrainingError, match=r"none of 3 trials of 'found' is complete; .* the disk is full"):
        search(made_job(tmp_path), 3)


def test_a_study_is_not_gone_on_with_something_else(tmp_path: Path, trainer: Trainer) -> None:
    made = made_job(tmp_path)
    shifted = replace(QUICK, augment=replace(QUICK.augment, shift=0.3))
    search(made, 1)
    for other, named in (
        (made_job(tmp_path, split="t"), "split is 's' there and 't' now"),
        (made_job(tmp_path, tuned_for="t"), "tuned_for is 's' there and 't' now"),
        (made_job(tmp_path, replace(QUICK, epochs=5)), "recipe.epochs is 2 there and 5 now"),
        (made_job(tmp_path, shifted), "recipe.augment.shift is 0.08 there and 0.3 now"),
        (replace(made, samples=[sample("1"), sample("9", "b")]), "samples is"),
        (replace(made, held_out=[sample("3"), sample("5")]), "held_out is"),
    ):
        with pytest.raises(ArtefactMismatch) as caught:
            search(other, 2)
        assert named in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ArtefactMismatch, match=r"fixed is \[\] there and \['scale'\] now"):
        search(made, 2, fixed={"scale"})
    assert len(trainer.jobs) == 1
    assert len(search(made_job(tmp_path, replace(QUICK, loader_workers=None)), 2).trials) == 2


def test_a_broken_record_is_one_line(tmp_path: Path, trainer: Trainer) -> None:
    search(made_job(tmp_path), 1)
    (tmp_path / "tuning" / "found" / "study.db").write_bytes(b"no database at all")
    with pytest.raises(ArtefactMismatch, match=r"study\.db cannot be read"):
        search(made_job(tmp_path), 2)
    (tmp_path / "tuning" / "found" / "best.toml").write_text("recipes = 3", encoding="utf-8")
    with pytest.raises(ArtefactMismatch, match=r"best\.toml cannot be read"):
        found_recipes(tmp_path / "tuning")


STARTS = [
    *PRESETS,
    replace(TINY, name="margins", margin="spread", margin_low=0.41234567, margin_high=0.6, weight_decay=0.123456789),
    replace(TINY, name="low", margin="spread", margin_low=0.05, margin_high=0.1, learning_rate=1e-5),
    replace(TINY, name="strong", augment=replace(TINY.augment, brightness=0.8, zoom=0.6)),
    replace(TINY, name="late", learning_rate=4e-4, learning_rate_end=3.3e-4),
]


@pytest.mark.parametrize("start", STARTS, ids=lambda one: str(one.name))
def test_every_combination_is_a_valid_recipe_and_the_recipe_itself_is_one(start: Recipe) -> None:
    space = space_of(start, ())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(own_values(start, space))
    first = applied(start, suggest(study.ask(), space, start, ()))
    assert replace(first, assumed=()) == replace(start, assumed=())
    forms = set()
    for _ in range(60):
        recipe = applied(start, suggest(study.ask(), space, start, ()))  # is checked when built
        forms.add(recipe.margin)
        changed = {
            key.partition(".")[0]
            for key, value in flattened(recipe.to_json()).items()
            if value != flattened(start.to_json())[key]
        }
        assert changed <= {one.key for one in SPACE} | {"assumed"}
    assert forms == {"absolute", "power", "spread"}


def test_augmentation_goes_by_one_factor_and_what_is_off_stays_off() -> None:
    start = replace(TINY, augment=replace(TINY.augment, hue=0.0))
    space = [one for one in space_of(start, ()) if one.key == "augment"]
    study = optuna.create_study()
    study.enqueue_trial({"augment": 0.5})
    settings = suggest(study.ask(), space, start, ())
    assert settings["augment.shift"] == 0.5 * start.augment.shift
    assert settings["augment.rotation_deg"] == 0.5 * start.augment.rotation_deg
    assert "augment.hue" not in settings
    assert not any(key.endswith("_probability") for key in settings)
    none = replace(TINY, augment=replace(TINY.augment, affine_probability=0.0, jitter_probability=0.0,
                                         erase_probability=0.0))  # fmt: skip
    assert "augment" not in [one.key for one in space_of(none, ())]


def frozen(name: str, subset: dict[str, str]) -> StoredSplit:
    identity = {key: key[0] for key in subset}
    species = dict.fromkeys(subset, "zebra") | {key: "lion" for key in subset if key.startswith("L")}
    return StoredSplit(name, "paper", 1, 1, "", subset, identity, subset, species, {})


def test_what_another_split_leaks_by_hand() -> None:
    # Test side of s: a1 a2 b1 c1 d1 (and a lion, which is not trained on). The other split trains on a1 and b2, and
    # scores c1 and d9; so it trains on one of the five, scores one, and holds the animals a, b, c and d, not e.
    split = frozen("s", {"a1": "test", "a2": "test", "b1": "test", "c1": "test", "e1": "test", "b2": "train",
                         "d9": "train", "L1": "test"})  # fmt: skip
    trained = [sample("a1", "a"), sample("b2", "b")]
    scored = [sample("c1", "c"), sample("d9", "d")]
    said = leak(split, "t", trained, scored)
    assert "split 't', which trains on 1 and scores 1 of the 5 test annotations of split 's'" in said
    assert "holds 3 of their 4 identities" in said


def test_how_much_is_held_out() -> None:
    assert held_out_share(TINY, "s", None) == 0.25
    assert held_out_share(replace(TINY, validation_share=0.4), "s", None) == 0.4
    assert held_out_share(TINY, "s", "t") is None
    with pytest.raises(InputError, match="is the split itself"):
        held_out_share(TINY, "s", "s")
    with pytest.raises(InputError, match=r"validation_share is 0\.4"):
        held_out_share(replace(TINY, validation_share=0.4), "s", "t")


def test_held_out_photos_that_have_no_match_are_refused(tmp_path: Path, trainer: Trainer) -> None:
    alone = [replace(sample("3"), encounter="e"), replace(sample("4"), encounter="e"), sample("5", "b")]
    with pytest.raises(InputError, match="none of the 3 held-out annotations"):
        search(replace(made_job(tmp_path), held_out=alone), 1)
    assert not trainer.jobs


def test_without_optuna_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'resight\[tune\]'"):
        search(made_job(tmp_path), 1)
    assert not (tmp_path / "tuning").exists()
