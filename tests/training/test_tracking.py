from __future__ import annotations

import builtins
import csv
import sys
from dataclasses import asdict, fields, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from resight.errors import InputError, UnknownName
from resight.training import tracking
from resight.training.checkpoint import EpochReport
from resight.training.tracking import check_trackers, draw_curves, trackers

from .drawn import draw_samples
from .runs import QUICK, trained

REPORT = EpochReport(1, 5, 3.5, 20.0, 1e-3, 1e-2, 20, 80.0, 0.25, 1.5, 300.0, 42.0)
SMALL = replace(QUICK, image_size=32)


def test_tensorboard_holds_the_figures_of_the_log(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    samples = draw_samples(tmp_path / "chips", identities=2, chips=3, size=32)
    held_out = [replace(sample, encounter=sample.annotation_id) for sample in samples]
    run = tmp_path / "run"
    trained(samples, SMALL, run, trackers=["tensorboard"], held_out=held_out)
    with (run / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    names = {field.name for field in fields(EpochReport)} - {"epoch"}
    assert set(events.Tags()["scalars"]) == names
    for name in names:
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [1, 2]
        assert [scalar.value for scalar in scalars] == pytest.approx([float(row[name]) for row in rows], rel=1e-6)


class FakeWandb(ModuleType):
    """Stands for Weights & Biases, whose run in offline mode starts a process of its own."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.opened: list[dict[str, Any]] = []
        self.logged: list[tuple[dict[str, float], int]] = []
        self.ended: list[type[BaseException] | None] = []

    def init(self, **settings: Any) -> FakeWandb:
        self.opened.append(settings)
        return self

    def log(self, figures: dict[str, float], *, step: int) -> None:
        self.logged.append((figures, step))

    def __enter__(self) -> FakeWandb:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.ended.append(raised[0])


def test_weights_and_biases_gets_figures_and_config_and_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = {"recipe": {"epochs": 2}, "classes": [{"identity": "the last one"}], "skipped": [{"chip_path": "a"}]}
    with trackers(["wandb"], tmp_path / "my run", config) as (track,):
        track(REPORT)
        track(replace(REPORT, epoch=2, validation_top1=None))
    (opened,) = fake.opened
    assert (opened["name"], opened["dir"], opened["config"]) == (
        "my run",
        str(tmp_path / "my run"),
        {"recipe": {"epochs": 2}},  # which animals there are is not for others' servers
    )
    assert opened["resume"] == "allow"
    with trackers(["wandb"], tmp_path / "my run", config), trackers(["wandb"], tmp_path / "other" / "my run", config):
        pass
    assert fake.opened[1]["id"] == opened["id"] != fake.opened[2]["id"]  # a resumed run, and another of its name
    figures = {name: value for name, value in asdict(REPORT).items() if name != "epoch"}
    without = {name: value for name, value in figures.items() if name != "validation_top1"}
    assert fake.logged == [(figures, 1), (without, 2)]  # what is not known is no figure
    with pytest.raises(KeyboardInterrupt), trackers(["wandb"], tmp_path, {}):
        raise KeyboardInterrupt
    assert (fake.ended[0], fake.ended[-1]) == (None, KeyboardInterrupt)


def test_a_tracker_that_is_unknown_or_not_installed_is_one_line_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2, size=32)
    with pytest.raises(UnknownName, match="no tracker named 'tensorbord': did you mean 'tensorboard'"):
        trained(samples, SMALL, tmp_path / "run", trackers=["tensorbord"])
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "wandb" else True)
    with pytest.raises(InputError, match=r"tracker 'wandb' needs a package .*: pip install 'resight\[wandb\]'"):
        trained(samples, SMALL, tmp_path / "run", trackers=["tensorboard", "wandb"])
    assert not (tmp_path / "run").exists()
    check_trackers(["tensorboard"])


def test_trackers_are_imported_only_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = builtins.__import__

    def refuse(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.split(".")[0] in ("wandb", "tensorboard") or name == "torch.utils.tensorboard":
            raise AssertionError(name)
        return true_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with trackers([], tmp_path, {}) as nothing:
        assert nothing == []
    with pytest.raises(AssertionError, match="wandb"), trackers(["wandb"], tmp_path, {}):
        pass


@pytest.mark.parametrize(("held_out", "epochs"), [(None, 1), (40.0, 3)])
def test_the_curves_are_a_picture_that_can_be_looked_at(tmp_path: Path, held_out: float | None, epochs: int) -> None:
    first = replace(REPORT, validation_top1=held_out)
    draw_curves(tmp_path, [replace(first, epoch=epoch, loss=3.0 / epoch) for epoch in range(1, epochs + 1)])
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert 800 <= picture.width <= 2000
        assert 250 <= picture.height <= 1000
        colours = picture.convert("RGB").getcolors(2**20)
    assert colours is not None
    assert len(colours) > 50  # lines and letters, not an empty sheet
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
