"""In which order an epoch takes the chips: pure functions of the recipe, the epoch and the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from resight.training.chipset import TrainingSet
from resight.training.recipe import Recipe

ORDER_STREAM = 2  # a further number in the seed, so that no two uses of randomness share a stream

Rows = npt.NDArray[np.int64]


def epoch_batches(data: TrainingSet, recipe: Recipe, epoch: int) -> list[Rows]:
    """The rows of every batch of one epoch, as the recipe's ``sampler`` orders them.

    Args:
        data: The run's.
        recipe: Its sampler, batch size and seed are read.
        epoch: From 0.
    """
    random = np.random.default_rng((recipe.seed, ORDER_STREAM, epoch))
    if recipe.sampler == "identities":
        order = _by_identity(data.labels, recipe.per_identity, random)
    elif recipe.sampler == "species":
        order = _by_species(data.species_labels, random)
    else:
        order = random.permutation(len(data.samples))
    return cut_into_batches(order, recipe.batch_size)


def cut_into_batches(order: Rows, batch_size: int) -> list[Rows]:
    """Cut an order into as few batches as possible, all of one size give or take one, none above ``batch_size``.

    So no last batch is left that is too small for BatchNorm, or for several processes; and nothing is left out.
    """
    return np.array_split(order, -(-len(order) // batch_size))


def share_of(rows: Rows, rank: int, processes: int) -> Rows:
    """The part of a batch that one of several processes takes; together they take each row once."""
    return rows[rank::processes]


def _by_identity(labels: Rows, per_identity: int, random: np.random.Generator) -> Rows:
    """Every row once, in groups of up to ``per_identity`` of one class, the groups in random order."""
    shuffled = random.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.flatnonzero(np.diff(labels[by_class], prepend=-1))
    groups: list[Rows] = []
    for rows in np.split(by_class, starts[1:]):
        groups += [rows[start : start + per_identity] for start in range(0, len(rows), per_identity)]
    return np.concatenate([groups[place] for place in random.permutation(len(groups))])


def _by_species(species: Rows, random: np.random.Generator) -> Rows:
    """As many rows as there are; a species' share is its size's square root, each row of it as often as any other."""
    sizes = np.bincount(species)
    shares = np.sqrt(sizes) / np.sqrt(sizes).sum()
    wanted = _whole_numbers(shares * len(species))
    chosen = [_repeated(np.flatnonzero(species == one), wanted[one], random) for one in range(len(sizes))]
    return random.permutation(np.concatenate(chosen))


def _whole_numbers(quotas: npt.NDArray[np.float64]) -> Sequence[int]:
    """Round so that the sum stays: the largest remainders are rounded up."""
    low = np.floor(quotas).astype(int)
    up = np.argsort(low - quotas, kind="stable")[: round(quotas.sum()) - int(low.sum())]
    low[up] += 1
    return [int(number) for number in low]


def _repeated(rows: Rows, wanted: int, random: np.random.Generator) -> Rows:
    """``wanted`` of the rows, each as often as any other give or take one."""
    whole, rest = divmod(wanted, len(rows))
    return np.concatenate([np.tile(rows, whole), random.permutation(rows)[:rest]])
