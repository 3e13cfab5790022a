from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.multiprocessing import ProcessRaisedException

from resight.errors import InputError, RecipeError, TrainingError
from resight.training.checkpoint import read_checkpoint
from resight.training.loop import Job, train
from resight.training.processes import errors_of_processes, make_fabric, whole_batch

from .drawn import draw_samples
from .runs import QUICK, distance, stop, trained, weights_of


class OneOfSeveral:
    """Stands for a fabric and for the gathering: gives what each process holds, its end padded with what is no row."""

    def __init__(self, batch: Tensor, rank: int, processes: int) -> None:
        self.batch, self.global_rank, self.world_size = batch.detach(), rank, processes

    def all_gather(self, of_process: list[Tensor], padded: Tensor) -> None:
        for rank, place in enumerate(of_process):
            own = self.batch[rank :: self.world_size]
            place.fill_(torch.nan)
            place[: len(own)] = own
            assert rank != self.global_rank or torch.equal(padded[: len(own)], own)


@pytest.mark.parametrize(("n", "processes"), [(6, 2), (7, 2), (7, 3), (5, 1), (2, 3)])
def test_the_whole_batch_is_in_its_order_and_the_mean_of_the_gradients_is_that_of_one_process(
    monkeypatch: pytest.MonkeyPatch, n: int, processes: int
) -> None:
    batch = torch.randn(n, 4, generator=torch.Generator().manual_seed(n))
    factor = torch.tensor(1.5, requires_grad=True)  # stands for the weights of the trunk

    def loss(rows: Tensor) -> Tensor:
        return (rows @ rows.T).square().mean()  # each row meets every other

    loss(batch * factor).backward()
    assert factor.grad is not None
    expected, factor.grad = factor.grad, None
    for rank in range(processes):
        fabric = OneOfSeveral(batch * factor, rank, processes)
        monkeypatch.setattr(torch.distributed, "all_gather", fabric.all_gather)
        own = batch[rank::processes] * factor
        whole = whole_batch(fabric, own, n)  # type: ignore[arg-type]
        assert torch.equal(whole, batch * factor)
        loss(whole).backward()
    assert torch.allclose(factor.grad / processes, expected, rtol=1e-5)


def test_more_devices_than_there_are_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="--devices 3: this machine has 1 GPUs"):
        make_fabric(devices=3, device="cuda", precision="float32")


def test_an_error_of_a_process_is_raised_as_its_own() -> None:
    def trace(last: str) -> ProcessRaisedException:
        return ProcessRaisedException(f"\n\n-- Process 0 …:\nTraceback …:\n  File …\n{last}\n", 0, 1)

    with pytest.raises(RecipeError, match=r"^epochs is 0: expected 1$"), errors_of_processes():
        raise trace("resight.errors.RecipeError: epochs is 0: expected 1")
    for last in ("KeyError: 'resight.errors.InputError: x'", "ValueError", "torch.AcceleratorError: CUDA error: bad"):
        with pytest.raises(ProcessRaisedException, match="Traceback"), errors_of_processes():
            raise trace(last)
    with pytest.raises(TrainingError, match="by itself"), errors_of_processes():
        raise TrainingError("by itself")


def test_two_processes_learn_what_one_does_and_one_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=7, size=32)
    held_out = [replace(sample, encounter=sample.annotation_id) for sample in samples]
    # Batches of 11 and 10 chips, in parts of 6, 5 and 5, 5. No BatchNorm but the neck, which sees the whole part.
    recipe = replace(
        QUICK, backbone="test_vit", image_size=32, batch_size=11, accumulate=2, mirror="new", ema_decay=0.9,
        gradient_clip=5.0, species_weight=0.2,
    )  # fmt: skip
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # where the other processes find it
    stop_there = importlib.import_module("runs").stop
    job = Job(samples=samples, recipe=recipe, run_dir=tmp_path / "two", held_out=held_out, on_epoch=stop_there)
    with pytest.raises(TrainingError, match=r"^the power went after epoch 1$"):
        train(job, devices=2, device="cpu")
    with pytest.raises(TrainingError):
        trained(samples, recipe, tmp_path / "one", held_out=held_out, on_epoch=stop)

    states = [read_checkpoint(tmp_path / run) for run in ("two", "one")]
    assert states[0] is not None
    assert states[1] is not None
    (two, tensors_of_two), (one, tensors) = states
    assert two.reports[0].loss == pytest.approx(one.reports[0].loss, rel=1e-5)
    assert two.reports[0].top1 == one.reports[0].top1
    assert two.reports[0].images == one.reports[0].images == 21
    assert two.reports[0].validation_top1 == pytest.approx(one.reports[0].validation_top1, abs=5)
    for number, moments in tensors["optimiser"]["state"].items():
        # The running mean of the gradients, whose length Adam does not care for and the shortening does.
        other = tensors_of_two["optimiser"]["state"][number]["exp_avg"]
        assert torch.allclose(other, moments["exp_avg"], rtol=1e-3, atol=1e-4), number

    resumed = train(replace(job, resume=True, on_epoch=None), device="cpu")
    whole = trained(samples, recipe, tmp_path / "whole", held_out=held_out)
    start = trained(samples, replace(recipe, learning_rate=1e-12, learning_rate_start=0.0, learning_rate_end=0.0),
                    tmp_path / "start")  # fmt: skip
    assert resumed.final_loss == pytest.approx(whole.final_loss, rel=1e-4)
    moved = distance(weights_of(whole), weights_of(start))
    assert distance(weights_of(whole), weights_of(resumed)) < 0.02 * moved


def test_batches_too_small_for_the_processes_are_refused(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=3, size=32)
    recipe = replace(QUICK, image_size=32, batch_size=4, accumulate=2)
    with pytest.raises(InputError, match=r"a batch of 3 chips in 2 parts for 1 processes .*raise batch_size"):
        trained(samples, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
