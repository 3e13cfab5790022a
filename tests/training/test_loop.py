from __future__ import annotations

import csv
import json
import logging
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resight.errors import ArtefactMismatch, InputError, TrainingError
from resight.models.embedder import Embedder
from resight.models.library import find_model, list_models
from resight.models.weights import new_embedder
from resight.training import checkpoint, loop
from resight.training.chipset import TrainingClass
from resight.training.loop import margins_of, train
from resight.training.presets import TINY
from resight.training.recipe import Augmentation, Recipe

from .drawn import draw_samples

QUICK = replace(
    TINY, backbone="test_resnet", weights="none", image_size=64, batch_size=4, epochs=2, learning_rate=1e-3, seed=3
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def weights_of(result: loop.TrainResult) -> dict[str, torch.Tensor]:
    return Embedder.load(result.model).state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_overfits_a_tiny_set(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=8, chips=4)
    recipe = replace(QUICK, epochs=14, batch_size=16, learning_rate=3e-3, augment=Augmentation())
    reports = []
    result = train(samples, recipe, tmp_path / "run", on_epoch=reports.append)
    assert reports[-1].top1 == 100.0
    assert result.final_loss == reports[-1].loss < reports[0].loss / 3

    chips = np.stack([np.load(sample.chip_path) for sample in samples])
    vectors = Embedder.load(result.model).embed_chips(chips).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T - 2 * np.eye(32)
    identities = np.arange(32) // 4
    assert (identities[cosines.argmax(axis=1)] == identities).all()


def test_what_a_run_leaves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=3)
    samples[4].chip_path.write_bytes(b"")
    random_before = torch.get_rng_state()
    with caplog.at_level(logging.INFO, logger="resight.training.loop"):
        result = train(samples, QUICK, tmp_path / "runs" / "first")
    assert torch.equal(torch.get_rng_state(), random_before)
    run = tmp_path / "runs" / "first"
    assert (result.run, result.model, result.epochs) == ("first", run / "model", 2)
    assert (result.samples, result.classes) == (8, 3)
    assert [one.annotation_id for one in result.skipped] == [samples[4].annotation_id]
    assert result.train_images_per_second > 0

    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert Recipe.from_json(config["recipe"]) == QUICK
    assert config["samples"]["annotations"] == 8
    assert config["classes"][0] == {"species": "barred", "identity": "animal 0", "annotations": 3}
    assert config["skipped"][0]["chip_path"] == str(samples[4].chip_path)
    assert set(config["versions"]) == {"python", "resight", "timm", "torch"}

    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["loss"]) == result.final_loss
    assert {"loss", "learning_rate", "images_per_second", "seconds"} <= rows[0].keys()
    assert sum("epoch" in record.message for record in caplog.records) == 2
    assert any("left out" in record.message for record in caplog.records)

    model = Embedder.load(result.model)
    assert model.config.weights_source == "run first, started from none (random start)"
    assert model.config.licence is None
    assert find_model("first", tmp_path / "runs").folder == result.model
    assert list_models(tmp_path / "runs")[1].dim == 96


def test_same_seed_same_weights_whatever_the_order_or_the_reading(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=3)
    first = train(samples, QUICK, tmp_path / "first")
    second = train(samples[::-1], QUICK, tmp_path / "second", memory_limit_bytes=0)
    assert same(weights_of(first), weights_of(second))
    other = train(samples, replace(QUICK, seed=4), tmp_path / "other")
    assert not same(weights_of(first), weights_of(other))


KILLED_IN_MID_EPOCH = """
import json, os, signal, sys
from pathlib import Path
import torch
from drawn import draw_samples
from resight.training import loop
from resight.training.recipe import Recipe

torch.set_num_threads(1)
drawn = 0
draw_change = loop.draw_change

def draw_and_die(*arguments, epoch, **keywords):
    global drawn
    drawn += 1
    if epoch == int(sys.argv[2]) and drawn > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return draw_change(*arguments, epoch=epoch, **keywords)

loop.draw_change = draw_and_die
folder = Path(sys.argv[1])
recipe = Recipe.from_json(json.loads(sys.argv[4]))
loop.train(draw_samples(folder / "chips", identities=4, chips=5), recipe, folder / "killed")
"""
RESUMED = replace(QUICK, epochs=3, checkpoint_every_steps=2, backbone="test_vit3")


@pytest.mark.parametrize(
    ("epoch", "chips_drawn", "checkpointed"),
    [(1, 34, (1, 3)), (0, 3, None)],
    ids=["in the second epoch", "before the first checkpoint"],
)
def test_killed_in_mid_epoch_and_resumed_ends_in_the_same_weights(
    tmp_path: Path, epoch: int, chips_drawn: int, checkpointed: tuple[int, int] | None
) -> None:
    samples = draw_samples(tmp_path / "chips", identities=4, chips=5)  # 5 batches an epoch
    whole = train(samples, RESUMED, tmp_path / "whole")

    arguments = [str(tmp_path), str(epoch), str(chips_drawn), json.dumps(RESUMED.to_json())]
    command = [sys.executable, "-c", KILLED_IN_MID_EPOCH, *arguments]
    killed = subprocess.run(command, cwd=Path(__file__).parent, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "model").exists()
    state = checkpoint.read_checkpoint(tmp_path / "killed")
    assert (None if state is None else (state[0].epoch, state[0].batch)) == checkpointed

    resumed = train(samples, RESUMED, tmp_path / "killed", resume=True)
    assert same(weights_of(whole), weights_of(resumed))
    assert resumed.final_loss == whole.final_loss
    assert resumed.epochs == 3
    logs = [(tmp_path / run / "log.csv").read_text(encoding="utf-8").splitlines() for run in ("whole", "killed")]
    columns = [[line.split(",")[:7] for line in log] for log in logs]  # all but the times
    assert columns[0] == columns[1]


def test_random_numbers_of_the_network_go_on_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=4)
    recipe = replace(QUICK, checkpoint_every_steps=2)
    steps_left = 1000

    def drop_pixels(chips: torch.Tensor, changes: object) -> torch.Tensor:
        """Stands for dropout: draws from torch's global generator."""
        nonlocal steps_left
        steps_left -= 1
        if steps_left < 0:
            raise KeyboardInterrupt
        return chips * (torch.rand(chips.shape) > 0.2)

    monkeypatch.setattr(loop, "apply_changes", drop_pixels)
    whole = train(samples, recipe, tmp_path / "whole")
    steps_left = 5
    with pytest.raises(KeyboardInterrupt):
        train(samples, recipe, tmp_path / "stopped")
    steps_left = 1000
    torch.manual_seed(123)
    assert same(weights_of(whole), weights_of(train(samples, recipe, tmp_path / "stopped", resume=True)))


def test_resuming_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=3)
    first = train(samples, QUICK, tmp_path / "run")
    before = weights_of(first)
    (first.model / "model.safetensors").unlink()  # as if killed before it was written
    again = train(samples, QUICK, tmp_path / "run", resume=True)
    assert again == first
    assert same(before, weights_of(again))


def test_a_resumed_run_must_be_the_same_run(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=3)
    train(samples, replace(QUICK, epochs=1), tmp_path / "run")
    recipe = replace(QUICK, epochs=1)
    with pytest.raises(ArtefactMismatch, match=r"recipe\.epochs was 1 and is 2 now"):
        train(samples, QUICK, tmp_path / "run", resume=True)
    changed = replace(recipe, augment=replace(recipe.augment, shift=0.2))
    with pytest.raises(ArtefactMismatch, match=r"recipe\.augment\.shift was 0\.08 and is 0\.2 now"):
        train(samples, changed, tmp_path / "run", resume=True)
    with pytest.raises(ArtefactMismatch, match=r"samples\.annotations was 9 and is 8 now"):
        train(samples[1:], recipe, tmp_path / "run", resume=True)
    renamed = [*samples[:-1], replace(samples[-1], identity=samples[2].identity)]
    with pytest.raises(ArtefactMismatch, match=r"samples\.key was"):
        train(renamed, recipe, tmp_path / "run", resume=True)
    start = new_embedder("test_resnet", weights="none", image_size=64)
    with pytest.raises(ArtefactMismatch, match="initial_weights_hash"):
        train(samples, recipe, tmp_path / "run", initial=start, resume=True)
    free = replace(recipe, checkpoint_every_steps=1, loader_workers=None)
    assert train(samples, free, tmp_path / "run", resume=True).epochs == 1


def test_names_that_are_taken_or_missing(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"run 'taken' exists: .*--resume"):
        train(samples, QUICK, tmp_path / "taken")
    with pytest.raises(InputError, match="no run 'absent' to go on with"):
        train(samples, QUICK, tmp_path / "absent", resume=True)
    with pytest.raises(InputError, match="the name of a packaged model"):
        train(samples, QUICK, tmp_path / "imagenet-lite0")


def test_a_start_that_fails_leaves_the_name_free(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    with pytest.raises(InputError, match="--set weights=FILE"):
        train(samples, replace(QUICK, weights="imagenet"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert train(samples, replace(QUICK, epochs=1), tmp_path / "run").epochs == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=4)
    true_loss = torch.nn.functional.cross_entropy
    steps = 0

    def broken_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return true_loss(logits, labels) * (float("nan") if steps == 5 else 1.0)

    monkeypatch.setattr(loop.F, "cross_entropy", broken_loss)
    with pytest.raises(TrainingError, match="the loss is nan in epoch 2 at step 4"):
        train(samples, replace(QUICK, checkpoint_every_steps=1), tmp_path / "run")
    state = checkpoint.read_checkpoint(tmp_path / "run")
    assert state is not None
    assert (state[0].epoch, state[0].batch) == (1, 1)
    assert all(torch.isfinite(tensor).all() for tensor in state[1]["embedder"].values())
    assert not (tmp_path / "run" / "model").exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)

    def ruin(optimiser: torch.optim.Optimizer, rate: float) -> None:
        for group in optimiser.param_groups:
            group["lr"] = float("inf")

    monkeypatch.setattr(loop, "set_learning_rate", ruin)
    with pytest.raises(TrainingError, match="is not finite"):
        train(samples, replace(QUICK, epochs=1), tmp_path / "run")
    assert checkpoint.read_checkpoint(tmp_path / "run") is None


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=4)
    true_save = torch.save
    saved = 0

    def full_disk(value: object, path: Path) -> None:
        nonlocal saved
        saved += 1
        if saved == 2:
            path.write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        true_save(value, path)

    monkeypatch.setattr(checkpoint.torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        train(samples, QUICK, tmp_path / "run")
    monkeypatch.undo()
    assert [file.name for file in (tmp_path / "run" / "checkpoint").iterdir()] == ["state.pt"]
    whole = train(samples, QUICK, tmp_path / "whole")
    assert same(weights_of(train(samples, QUICK, tmp_path / "run", resume=True)), weights_of(whole))


def test_a_broken_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    train(samples, replace(QUICK, epochs=1), tmp_path / "run")
    (tmp_path / "run" / "checkpoint" / "state.pt").write_bytes(b"torn")
    with pytest.raises(ArtefactMismatch, match=r"state\.pt cannot be read") as error:
        train(samples, replace(QUICK, epochs=1), tmp_path / "run", resume=True)
    assert "\n" not in str(error.value)


def test_starts_from_a_model_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    torch.manual_seed(0)
    start = new_embedder("test_resnet", weights="none", image_size=96)
    before = start.weights_hash
    still = replace(QUICK, epochs=1, learning_rate=1e-12, learning_rate_start=0.0, learning_rate_end=0.0)
    result = train(samples, still, tmp_path / "run", initial=start)
    assert start.weights_hash == before
    trained = Embedder.load(result.model)
    assert trained.config.image_size == 64
    first, now = start.state_dict(), trained.state_dict()
    assert torch.allclose(first["backbone.conv1.0.weight"], now["backbone.conv1.0.weight"], atol=1e-6)
    with pytest.raises(InputError, match="set backbone=test_resnet"):
        train(samples, replace(QUICK, backbone="test_efficientnet"), tmp_path / "other", initial=start)


def test_bfloat16_trains_with_the_head_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    seen = []
    true_loss = torch.nn.functional.cross_entropy

    def watch(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(logits.dtype)
        return true_loss(logits, labels)

    monkeypatch.setattr(loop.F, "cross_entropy", watch)
    train(samples, replace(QUICK, epochs=1, precision="bfloat16"), tmp_path / "run")
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize(
    ("form", "expected"),
    [("absolute", [0.321, 0.271 * 16**-0.364 + 0.05]), ("spread", [0.5, 0.2]), ("power", [0.55, 0.3])],
)
def test_margins_follow_the_recipes_form(form: str, expected: list[float]) -> None:
    classes = [TrainingClass("s", "a", 1), TrainingClass("s", "b", 16)]
    assert margins_of(classes, replace(TINY, margin=form)).tolist() == pytest.approx(expected)
