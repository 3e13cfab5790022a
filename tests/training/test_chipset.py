from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resight.errors import InputError, TrainingError
from resight.training.chipset import cut_into_batches, epoch_order, gather, load_chips, read_batches

from .drawn import draw_samples


def test_classes_are_species_and_identity_in_order_whatever_the_samples_order(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=4, chips=2)
    data = gather(samples, 64)
    assert [(one.species, one.identity, one.annotations) for one in data.classes] == [
        ("barred", "animal 0", 2),
        ("barred", "animal 1", 2),
        ("striped", "animal 0", 2),
        ("striped", "animal 1", 2),
    ]
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    again = gather(samples[::-1], 64)
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
    data = gather(samples, 64)
    assert [one.annotation_id for one in data.skipped] == [samples[1].annotation_id]
    assert data.skipped[0].chip_path == str(samples[1].chip_path)
    assert data.skipped[0].reason
    assert len(data.samples) == 5
    assert data.classes[0].annotations == 1  # counted after the bad ones are gone


def test_what_cannot_be_trained_on(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=2, chips=2)
    with pytest.raises(InputError, match="nothing to train on"):
        gather([], 64)
    with pytest.raises(InputError, match=r"given twice.*\(1 such\)"):
        gather([*samples, samples[0]], 64)
    with pytest.raises(InputError, match=r"one identity .*at least two"):
        gather(samples[:2], 64)
    with pytest.raises(TrainingError, match="none of 4 chips can be used"):
        gather(samples, 96)


def test_a_class_that_loses_its_only_chip_is_gone(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=3, chips=1)
    spoil(samples[0].chip_path, "empty")
    assert len(gather(samples, 64).classes) == 2


@given(st.integers(2, 200), st.integers(2, 40))
def test_every_chip_is_in_one_batch_and_no_batch_is_single(n: int, batch_size: int) -> None:
    batches = cut_into_batches(epoch_order(n, seed=1, epoch=0), batch_size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert all(2 <= len(batch) <= batch_size + 1 for batch in batches)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    order = epoch_order(50, seed=1, epoch=2).tolist()
    assert epoch_order(50, seed=1, epoch=2).tolist() == order
    assert epoch_order(50, seed=1, epoch=3).tolist() != order
    assert epoch_order(50, seed=2, epoch=2).tolist() != order


def test_chips_from_memory_from_files_and_from_workers_are_the_same(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, identities=3, chips=2)
    batches = [np.array([4, 0, 2]), np.array([1, 5])]
    chips = load_chips(samples, 64, limit_bytes=6 * 64 * 64 * 3)
    assert chips is not None
    assert load_chips(samples, 64, limit_bytes=6 * 64 * 64 * 3 - 1) is None
    from_memory = list(read_batches(samples, batches, 64, chips=chips, workers=None))
    assert [batch.shape for batch in from_memory] == [(3, 3, 64, 64), (2, 3, 64, 64)]
    assert torch.equal(from_memory[0][0], torch.from_numpy(np.load(samples[4].chip_path)).permute(2, 0, 1))
    before = torch.get_rng_state()
    for workers in (None, 1):
        streamed = list(read_batches(samples, batches, 64, chips=None, workers=workers))
        assert all(torch.equal(a, b) for a, b in zip(streamed, from_memory, strict=True))
    assert torch.equal(torch.get_rng_state(), before)  # what the network draws does not depend on the reading


@pytest.mark.parametrize("workers", [None, 1])
def test_a_chip_that_changes_during_training_is_an_error_that_names_it(tmp_path: Path, workers: int | None) -> None:
    samples = draw_samples(tmp_path, identities=2, chips=1)
    samples[1].chip_path.unlink()
    with pytest.raises(TrainingError, match=r"1-0\.npy changed during training: the file is missing"):
        list(read_batches(samples, [np.array([0, 1])], 64, chips=None, workers=workers))


def test_a_folder_instead_of_a_chip(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=1)
    data = gather([replace(samples[0], chip_path=tmp_path), *samples[1:]], 64)
    assert "no readable .npy" in data.skipped[0].reason
