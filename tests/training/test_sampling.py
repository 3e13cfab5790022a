from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.training.chipset import TrainingClass, TrainingSample, TrainingSet
from resight.training.recipe import Recipe
from resight.training.sampling import cut_into_batches, epoch_batches, share_of

SAMPLERS = ("shuffle", "identities", "species")
PLAIN = Recipe(name="plain", batch_size=6, per_identity=3)

sizes_of_classes = st.lists(st.integers(1, 9), min_size=2, max_size=8)


def data_of(sizes: list[int], *, of_species: list[int] | None = None) -> TrainingSet:
    """Classes of so many annotations, each of a species; no files."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    species = np.asarray(of_species or [0] * len(sizes))[labels]
    samples = tuple(
        TrainingSample(f"{row:04}", f"s{kind}", f"i{label}", Path("none"))
        for row, (label, kind) in enumerate(zip(labels, species, strict=True))
    )
    classes = tuple(TrainingClass("s", f"i{label}", size) for label, size in enumerate(sizes))
    return TrainingSet(samples, labels, np.full(len(labels), -1), species, classes, ())


def in_order(batches: list[npt.NDArray[np.int64]]) -> list[int]:
    return [int(row) for batch in batches for row in batch]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_order_is_a_function_of_seed_and_epoch_alone(sampler: str) -> None:
    data = data_of([9, 4, 6, 2], of_species=[0, 0, 1, 1])
    recipe = replace(PLAIN, sampler=sampler)
    order = in_order(epoch_batches(data, recipe, 2))
    np.random.default_rng(5).random(3)  # other draws in between do not matter
    assert in_order(epoch_batches(data, replace(recipe, learning_rate=1e-4), 2)) == order
    assert in_order(epoch_batches(data, recipe, 3)) != order
    assert in_order(epoch_batches(data, replace(recipe, seed=1), 2)) != order


@given(sizes_of_classes, st.sampled_from(["shuffle", "identities"]), st.integers(0, 5))
def test_every_row_is_taken_once_an_epoch(sizes: list[int], sampler: str, epoch: int) -> None:
    batches = epoch_batches(data_of(sizes), replace(PLAIN, sampler=sampler), epoch)
    assert sorted(in_order(batches)) == list(range(sum(sizes)))


@given(sizes_of_classes, st.integers(2, 5), st.integers(0, 5))
def test_identities_stand_side_by_side_in_groups_of_k(sizes: list[int], per_identity: int, epoch: int) -> None:
    data = data_of(sizes)
    recipe = replace(PLAIN, sampler="identities", per_identity=per_identity)
    labels = [int(data.labels[row]) for row in in_order(epoch_batches(data, recipe, epoch))]
    runs = [(label, len(list(rows))) for label, rows in groupby(labels)]
    for label, size in enumerate(sizes):
        whole, rest = divmod(size, per_identity)
        lengths = [length for owner, length in runs if owner == label]
        # Groups of K and what is left over; groups of one class that happen to meet make a longer run.
        assert len(lengths) <= whole + (rest > 0)
        assert sum(lengths) == size
        assert sum(length % per_identity != 0 for length in lengths) <= (rest > 0)


def test_batches_of_p_identities_by_k_chips() -> None:
    data = data_of([4] * 12)
    recipe = replace(PLAIN, sampler="identities", batch_size=12, per_identity=4)
    batches = epoch_batches(data, recipe, 0)
    assert [sorted(np.unique(data.labels[batch], return_counts=True)[1].tolist()) for batch in batches] == [[4] * 3] * 4
    shuffled = epoch_batches(data, replace(recipe, sampler="shuffle"), 0)
    assert max(len(np.unique(data.labels[batch])) for batch in shuffled) > 3


def test_chips_of_one_identity_are_grouped_anew_each_epoch() -> None:
    data = data_of([8, 8])
    recipe = replace(PLAIN, sampler="identities", batch_size=4, per_identity=4)
    grouped = {frozenset(map(int, batch)) for epoch in range(4) for batch in epoch_batches(data, recipe, epoch)}
    assert len(grouped) > 4


def test_shares_of_species_follow_the_square_root_by_hand() -> None:
    # Sizes 16, 4 and 1 have roots 4, 2 and 1: of 21 rows 12, 6 and 3.
    data = data_of([16, 4, 1], of_species=[0, 1, 2])
    rows = in_order(epoch_batches(data, replace(PLAIN, sampler="species"), 0))
    times = np.bincount(rows, minlength=21)
    assert [int(times[part].sum()) for part in (slice(0, 16), slice(16, 20), slice(20, 21))] == [12, 6, 3]
    assert set(times[:16]) == {0, 1}
    assert sorted(times[16:20]) == [1, 1, 2, 2]
    others = in_order(epoch_batches(data, replace(PLAIN, sampler="species"), 1))
    assert {row for row in others if row < 16} != {row for row in rows if row < 16}  # others have their turn


@given(sizes_of_classes, st.data())
def test_no_species_is_lost_and_an_epoch_keeps_its_length(sizes: list[int], drawn: st.DataObject) -> None:
    kinds = drawn.draw(st.lists(st.integers(0, 2), min_size=len(sizes), max_size=len(sizes)))
    numbers = {kind: place for place, kind in enumerate(sorted(set(kinds)))}
    data = data_of(sizes, of_species=[numbers[kind] for kind in kinds])
    rows = in_order(epoch_batches(data, replace(PLAIN, sampler="species"), 1))
    assert len(rows) == sum(sizes)
    of_species = np.bincount(data.species_labels)
    taken = np.bincount(data.species_labels[rows], minlength=len(of_species))
    exact = np.sqrt(of_species) / np.sqrt(of_species).sum() * sum(sizes)
    assert (np.abs(taken - exact) < 1).all()
    assert (taken > 0).all()
    times = np.bincount(rows, minlength=sum(sizes))
    for kind in range(len(of_species)):
        own = times[data.species_labels == kind]
        assert own.max() - own.min() <= 1  # as often as any other of its species


@given(st.integers(2, 200), st.integers(2, 40))
def test_every_chip_is_in_one_batch_and_batches_are_of_one_size(n: int, batch_size: int) -> None:
    batches = cut_into_batches(np.random.default_rng(n).permutation(n), batch_size)
    sizes = [len(batch) for batch in batches]
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-n // batch_size)


def test_no_small_batch_is_left_at_the_end() -> None:
    assert [len(batch) for batch in cut_into_batches(np.arange(9), 4)] == [3, 3, 3]
    assert [len(batch) for batch in cut_into_batches(np.arange(8), 4)] == [4, 4]
    assert [len(batch) for batch in cut_into_batches(np.arange(2), 4)] == [2]


@given(st.integers(0, 60), st.integers(1, 7))
def test_processes_take_each_row_once_and_alike_many(n: int, processes: int) -> None:
    rows = np.random.default_rng(n).permutation(n)
    shares = [share_of(rows, rank, processes) for rank in range(processes)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
