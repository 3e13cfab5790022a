from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resight.errors import TrainingError
from resight.models.embedder import Embedder
from resight.models.library import find_model, list_models
from resight.training import checkpoint, loop, objective
from resight.training.recipe import Augmentation, Recipe
from resight.training.tracking import draw_curves

from .drawn import draw_samples
from .runs import QUICK, same, trained, weights_of


def test_overfits_a_tiny_set(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=8, chips=4)
    recipe = replace(QUICK, epochs=14, batch_size=16, learning_rate=3e-3, augment=Augmentation())
    reports = []
    result = trained(samples, recipe, tmp_path / "run", on_epoch=reports.append)
    assert reports[-1].top1 == 100.0
    assert result.final_loss == reports[-1].loss < reports[0].loss / 3

    chips = np.stack([np.load(sample.chip_path) for sample in samples])
    vectors = Embedder.load(result.model).embed_chips(chips).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T - 2 * np.eye(32)
    identities = np.arange(32) // 4
    assert (identities[cosines.argmax(axis=1)] == identities).all()


def test_what_a_run_leaves(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=3)
    samples[4].chip_path.write_bytes(b"")
    random_before = torch.get_rng_state()
    monkeypatch.setattr(loop, "draw_curves", draw_curves)
    with caplog.at_level(logging.INFO, logger="resight.training.loop"):
        result = trained(samples, QUICK, tmp_path / "runs" / "first")
    assert torch.equal(torch.get_rng_state(), random_before)
    run = tmp_path / "runs" / "first"
    assert (result.run, result.model, result.epochs) == ("first", run / "model", 2)
    assert (result.samples, result.classes) == (8, 3)
    assert [one.annotation_id for one in result.skipped] == [samples[4].annotation_id]
    assert result.train_images_per_second > 0

    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert Recipe.from_json(config["recipe"]) == QUICK
    assert config["samples"]["annotations"] == 8
    first = {"species": "barred", "identity": "animal 0", "annotations": 3, "mirrored": False}
    assert config["classes"][0] == first
    assert config["skipped"][0]["chip_path"] == str(samples[4].chip_path)
    assert set(config["versions"]) == {"python", "resight", "timm", "torch"}

    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["loss"]) == result.final_loss
    assert {"loss", "learning_rate", "images_per_second", "seconds"} <= rows[0].keys()
    assert sum("epoch" in record.message for record in caplog.records) == 2
    assert any("left out" in record.message for record in caplog.records)

    assert {file.name for file in run.iterdir()} == {"checkpoint", "config.json", "curves.png", "log.csv", "model"}
    model = Embedder.load(result.model)
    assert model.config.weights_source == "run first, started from none (random start)"
    assert model.config.licence is None
    assert find_model("first", tmp_path / "runs").folder == result.model
    assert [card.dim for card in list_models(tmp_path / "runs") if card.name == "first"] == [96]


def test_same_seed_same_weights_whatever_the_order_or_the_reading(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=3)
    first = trained(samples, QUICK, tmp_path / "first")
    second = trained(samples[::-1], QUICK, tmp_path / "second", memory_limit_bytes=0)
    assert same(weights_of(first), weights_of(second))
    other = trained(samples, replace(QUICK, seed=4), tmp_path / "other")
    assert not same(weights_of(first), weights_of(other))


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

    monkeypatch.setattr(objective.F, "cross_entropy", broken_loss)
    with pytest.raises(TrainingError, match="the loss is nan in epoch 2 at step 4"):
        trained(samples, replace(QUICK, checkpoint_every_steps=1), tmp_path / "run")
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
        trained(samples, replace(QUICK, epochs=1), tmp_path / "run")
    assert checkpoint.read_checkpoint(tmp_path / "run") is None


def test_bfloat16_trains_with_the_head_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    seen = []
    true_loss = torch.nn.functional.cross_entropy

    def watch(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(logits.dtype)
        return true_loss(logits, labels)

    monkeypatch.setattr(objective.F, "cross_entropy", watch)
    trained(samples, replace(QUICK, epochs=1, precision="bfloat16"), tmp_path / "run")
    assert set(seen) == {torch.float32}


def test_an_accelerator_whose_memory_is_full_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)

    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(loop, "set_learning_rate", full)
    with pytest.raises(TrainingError, match=r"memory of cpu is full, with batch_size 4 in 1 parts .*raise accumulate$"):
        trained(samples, QUICK, tmp_path / "run")
