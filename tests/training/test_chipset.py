from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resight.errors import InputError, TrainingError
from resight.training.chipset import ChipSource, TrainingSample, gather

from .drawn import draw_samples
from .runs import QUICK

CPU = torch.device("cpu")


def test_classes_are_species_and_identity_in_order_whatever_the_samples_order(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=4, chips=2)
    data = gather(samples, QUICK)
    assert [(one.species, one.identity, one.annotations) for one in data.classes] == [
        ("barred", "animal 0", 2),
        ("barred", "animal 1", 2),
        ("striped", "animal 0", 2),
        ("striped", "animal 1", 2),
    ]
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    again = gather(samples[::-1], QUICK)
    assert again.samples == data.samples
    assert again.labels.tolist() == data.labels.tolist()


def spoil(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-5])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not a chip", encoding="utf-8")
    elif how == "size":
        np.save(path, np.zeros((32, 32, 3), dtype=np.uint8))
    elif how == "type":
        np.save(path, np.zeros((64, 64, 3), dtype=np.float32))
    elif how == "archive":
        with path.open("wb") as file:
            np.savez(file, chip=np.zeros((64, 64, 3), dtype=np.uint8))
    else:
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "text", "size", "type", "archive", "pickle"])
def test_a_chip_that_cannot_be_used_is_left_out_by_name(tmp_path: Path, how: str) -> None:
    samples = draw_samples(tmp_path, identities=3, chips=2)
    spoil(samples[1].chip_path, how)
    data = gather(samples, QUICK)
    assert [one.annotation_id for one in data.skipped] == [samples[1].annotation_id]
    assert data.skipped[0].chip_path == str(samples[1].chip_path)
    assert data.skipped[0].reason
    assert len(data.samples) == 5
    assert data.classes[0].annotations == 1  # counted after the bad ones are gone


def test_what_cannot_be_trained_on(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=2, chips=2)
    with pytest.raises(InputError, match="nothing to train on"):
        gather([], QUICK)
    with pytest.raises(InputError, match=r"given twice.*\(1 such\)"):
        gather([*samples, samples[0]], QUICK)
    with pytest.raises(InputError, match=r"one identity .*at least two"):
        gather(samples[:2], QUICK)
    with pytest.raises(TrainingError, match="none of 4 chips can be used"):
        gather(samples, replace(QUICK, image_size=96))


def test_a_class_that_loses_its_only_chip_is_gone(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=3, chips=1)
    spoil(samples[0].chip_path, "empty")
    assert len(gather(samples, QUICK).classes) == 2


def source(samples: list[TrainingSample], *, limit_bytes: int, workers: int | None) -> ChipSource:
    return ChipSource(samples, 64, device=CPU, limit_bytes=limit_bytes, workers=workers)


def test_chips_from_memory_from_files_and_from_workers_are_the_same(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=3, chips=2)
    batches = [np.array([4, 0, 2]), np.array([1, 5])]
    enough = 6 * 64 * 64 * 3
    memory = source(samples, limit_bytes=enough, workers=None)
    assert memory.held
    from_memory = list(memory.batches(batches))
    assert [batch.shape for batch in from_memory] == [(3, 3, 64, 64), (2, 3, 64, 64)]
    for rows, batch in zip(batches, from_memory, strict=True):
        for row, chip in zip(rows, batch, strict=True):
            assert torch.equal(chip, torch.from_numpy(np.load(samples[row].chip_path)).permute(2, 0, 1))
    before = torch.get_rng_state()
    for workers in (None, 1):
        files = source(samples, limit_bytes=enough - 1, workers=workers)
        assert not files.held
        streamed = list(files.batches(batches))
        assert all(torch.equal(a, b) for a, b in zip(streamed, from_memory, strict=True))
        assert [batch.stride() for batch in streamed] == [batch.stride() for batch in from_memory]  # channels_last
    assert torch.equal(torch.get_rng_state(), before)  # what the network draws does not depend on the reading


@pytest.mark.parametrize("workers", [None, 1])
def test_a_chip_that_changes_during_training_is_an_error_that_names_it(tmp_path: Path, workers: int | None) -> None:
    samples = draw_samples(tmp_path, identities=2, chips=1)
    samples[1].chip_path.unlink()
    with pytest.raises(TrainingError, match=r"1-0\.npy changed during training: the file is missing"):
        list(source(samples, limit_bytes=0, workers=workers).batches([np.array([0, 1])]))
    with pytest.raises(TrainingError, match=r"1-0\.npy changed during training"):
        source(samples, limit_bytes=10**9, workers=workers)


def of_two_species(folder: Path) -> list[TrainingSample]:
    """Barred animals, whose sides differ, 0 (2 chips) and 1 (1 chip); a striped one, whose sides are alike (1 chip)."""
    drawn = draw_samples(folder, identities=4, chips=2)
    sides = [replace(sample, sides_differ=sample.species == "barred") for sample in drawn]
    return [sides[0], sides[1], sides[4], sides[2]]


@pytest.mark.parametrize(
    ("mirror", "mirror_labels", "reflected"),
    [
        ("off", [-1, -1, -1, -1], []),
        ("same", [0, 0, 1, 2], []),
        ("new", [3, 3, 4, 5], [("barred", "animal 0", 2), ("barred", "animal 1", 1), ("striped", "animal 0", 1)]),
        ("by-species", [3, 3, 4, 2], [("barred", "animal 0", 2), ("barred", "animal 1", 1)]),
    ],
)
def test_classes_of_mirror_images_by_hand(
    tmp_path: Path, mirror: str, mirror_labels: list[int], reflected: list[tuple[str, str, int]]
) -> None:
    data = gather(of_two_species(tmp_path), replace(QUICK, mirror=mirror))
    assert data.labels.tolist() == [0, 0, 1, 2]
    assert data.mirror_labels.tolist() == mirror_labels
    assert data.species_labels.tolist() == [0, 0, 0, 1]
    assert [one.mirrored for one in data.classes] == [False] * 3 + [True] * len(reflected)
    assert [(one.species, one.identity, one.annotations) for one in data.classes[3:]] == reflected


def test_one_identity_is_one_class_even_where_its_mirror_image_would_be_another(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=1, chips=3)
    with pytest.raises(InputError, match="at least two identities are needed"):
        gather(samples, replace(QUICK, mirror="new"))


def test_a_species_with_one_identity_and_a_class_with_one_annotation_are_kept(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=2, chips=3)[:4]  # one animal a species; the second has one chip
    data = gather(samples, QUICK)
    assert [(one.species, one.annotations) for one in data.classes] == [("barred", 3), ("striped", 1)]
    assert data.species_labels.tolist() == [0, 0, 0, 1]


def test_a_folder_instead_of_a_chip(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=1)
    data = gather([replace(samples[0], chip_path=tmp_path), *samples[1:]], QUICK)
    assert "no readable .npy" in data.skipped[0].reason
