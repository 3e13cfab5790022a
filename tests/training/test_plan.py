from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resight.models.embedder import Embedder
from resight.models.weights import new_embedder
from resight.training import tracking, worker
from resight.training.chipset import SkippedChip
from resight.training.loop import Job
from resight.training.plan import read_plan, write_plan

from .drawn import draw_samples
from .runs import QUICK, same, trained, weights_of


def test_a_plan_says_all_that_the_job_says(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=2)
    samples[0] = replace(samples[0], sides_differ=True, encounter="e1")
    start = new_embedder("test_resnet", weights="none", image_size=64)
    vectors = {sample.annotation_id: np.full(4, row, np.float16) for row, sample in enumerate(samples)}
    job = Job(
        samples=samples[:4],
        recipe=(recipe := replace(QUICK, distil_weight=0.5)),
        run_dir=tmp_path / "runs" / "far",
        initial=start,
        held_out=samples[4:],
        teachers=[vectors],
        left_out=[SkippedChip("a", "a.jpg", "gone")],
        origin={"split": "s0", "teachers": ["old"]},
        trackers=["tensorboard"],
    )
    assert write_plan(job) == job.run_dir
    read = read_plan(job.run_dir, resume=True)
    assert (read.samples, read.held_out) == (samples[:4], samples[4:])
    assert (read.recipe, read.origin, read.trackers, read.resume) == (recipe, dict(job.origin), ["tensorboard"], True)
    assert read.left_out == job.left_out
    assert read.initial is not None
    assert same(read.initial.state_dict(), start.state_dict())
    assert {name: row.tolist() for name, row in read.teachers[0].items()} == {
        sample.annotation_id: vectors[sample.annotation_id].tolist() for sample in samples[:4]
    }


def test_a_worker_trains_from_the_plan_wherever_the_project_lies(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "here" / "chips", identities=3, chips=3)
    write_plan(Job(samples, QUICK, tmp_path / "here" / "runs" / "one"))
    here = trained(samples, QUICK, tmp_path / "here" / "runs" / "two")
    shutil.move(tmp_path / "here", tmp_path / "there")
    folder = tmp_path / "there" / "runs" / "one"
    assert worker.main([str(folder), "--device", "cpu"]) == 0
    trained_there = Embedder.load(folder / "model").state_dict()
    moved = replace(here, model=tmp_path / "there" / "runs" / "two" / "model")
    assert same(trained_there, weights_of(moved))
    assert worker.main([str(folder), "--device", "cpu", "--resume"]) == 0  # is done already


def test_a_worker_without_plan_or_with_a_run_that_has_begun(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert worker.main([str(tmp_path), "--device", "cpu"]) == 2
    assert "holds no plan.json: write it with resight train RUN --split S --plan" in caplog.text
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert worker.main([str(tmp_path), "--device", "cpu"]) == 2
    assert "holds a run that has begun: go on with it (--resume)" in caplog.text


def test_a_worker_without_a_trackers_package_begins_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    folder = write_plan(Job(samples, QUICK, tmp_path / "run", trackers=["wandb"]))
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    assert worker.main([str(folder), "--device", "cpu"]) == 2
    assert "tracker 'wandb' needs a package" in caplog.text
    assert not (folder / "config.json").exists()
