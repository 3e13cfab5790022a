"""The training chips: which can be used, which class each is in, and how batches of them are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resight.errors import InputError, TrainingError
from resight.progress import track
from resight.training.augment import ORDER_STREAM

Chips = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingSample:
    """One annotation to train on.

    Attributes:
        annotation_id: Its key.
        species: The full species string.
        identity: Its identity within the species; a class is (species, identity).
        chip_path: A ``.npy`` file, (N, N, 3) uint8, RGB, with N the recipe's ``image_size``.
    """

    annotation_id: str
    species: str
    identity: str
    chip_path: Path


@dataclass(frozen=True)
class SkippedChip:
    """A sample that is left out because its chip cannot be used."""

    annotation_id: str
    chip_path: str
    reason: str


@dataclass(frozen=True)
class TrainingClass:
    """One class: an identity of a species, and how many usable annotations it has."""

    species: str
    identity: str
    annotations: int


@dataclass(frozen=True)
class TrainingSet:
    """What a run trains on.

    Attributes:
        samples: The usable ones in order of ``annotation_id``, so that a run does not depend on their order.
        labels: (n_samples,) int64, the class of each.
        classes: In order of (species, identity).
        skipped: The others, with the reason.
    """

    samples: tuple[TrainingSample, ...]
    labels: npt.NDArray[np.int64]
    classes: tuple[TrainingClass, ...]
    skipped: tuple[SkippedChip, ...]


def gather(samples: Sequence[TrainingSample], image_size: int) -> TrainingSet:
    """Check every chip's file and number the classes.

    A file is opened and its header and length are checked; its pixels are not read.

    Raises:
        InputError: no samples, an annotation given twice, or a single class.
        TrainingError: not one chip can be used.
    """
    if not samples:
        raise InputError("there is nothing to train on: the split has no training annotations of these species")
    twice = [key for key, times in Counter(sample.annotation_id for sample in samples).items() if times > 1]
    if twice:
        raise InputError(f"annotation {twice[0]!r} is given twice for training ({len(twice)} such): give each once")
    usable: list[TrainingSample] = []
    skipped: list[SkippedChip] = []
    for sample in track(sorted(samples, key=lambda one: one.annotation_id), "checking chips", len(samples)):
        reason = _fault(sample.chip_path, image_size)
        if reason is None:
            usable.append(sample)
        else:
            skipped.append(SkippedChip(sample.annotation_id, str(sample.chip_path), reason))
    if not usable:
        raise TrainingError(
            f"none of {len(skipped)} chips can be used; the first is {skipped[0].chip_path}, {skipped[0].reason}: "
            "cut the chips anew"
        )
    counts = Counter((sample.species, sample.identity) for sample in usable)
    if len(counts) < 2:
        species, identity = next(iter(counts))
        raise InputError(
            f"all {len(usable)} usable training annotations are of one identity ({species} {identity}): "
            "at least two identities are needed"
        )
    numbers = {key: number for number, key in enumerate(sorted(counts))}
    labels = np.array([numbers[sample.species, sample.identity] for sample in usable], dtype=np.int64)
    classes = tuple(TrainingClass(*key, annotations=counts[key]) for key in numbers)
    return TrainingSet(tuple(usable), labels, classes, tuple(skipped))


def load_chips(samples: Sequence[TrainingSample], image_size: int, limit_bytes: int) -> Chips | None:
    """Read all chips into one array (n, N, N, 3) uint8, or give ``None`` where that would exceed ``limit_bytes``.

    Raises:
        TrainingError: a chip changed since it was checked.
    """
    if len(samples) * image_size * image_size * 3 > limit_bytes:
        return None
    chips = np.empty((len(samples), image_size, image_size, 3), dtype=np.uint8)
    for row, sample in enumerate(track(samples, "reading chips", len(samples))):
        chips[row] = read_chip(sample.chip_path, image_size)
    return chips


def epoch_order(n_samples: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of the samples in one epoch: a pure function of its arguments."""
    return np.random.default_rng((seed, ORDER_STREAM, epoch)).permutation(n_samples)


def cut_into_batches(order: npt.NDArray[np.int64], batch_size: int) -> list[npt.NDArray[np.int64]]:
    """Cut an order into batches; a last batch of one joins the one before it.

    BatchNorm has no variance for a single chip. Nothing is left out.
    """
    starts = list(range(0, len(order), batch_size))
    if len(starts) > 1 and len(order) - starts[-1] == 1:
        starts.pop()
    ends = [*starts[1:], len(order)]
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]


def read_batches(
    samples: Sequence[TrainingSample],
    batches: Sequence[npt.NDArray[np.int64]],
    image_size: int,
    *,
    chips: Chips | None,
    workers: int | None,
) -> Iterator[Tensor]:
    """Yield the chips of each batch, (n, 3, N, N) uint8 in channels_last memory.

    Args:
        samples: The run's.
        batches: Rows of ``samples``.
        image_size: Side of a chip in pixels.
        chips: All chips where they are in memory, else ``None``: then they are read from their files.
        workers: Processes that read files ahead; ``None``: this one reads.

    Raises:
        TrainingError: a chip changed since it was checked.
    """
    if chips is not None:
        for rows in batches:
            yield torch.from_numpy(chips[rows]).permute(0, 3, 1, 2)
        return
    loader: DataLoader[Chips | str] = DataLoader(
        _ChipFiles([sample.chip_path for sample in samples], image_size),
        batch_sampler=[[int(row) for row in rows] for rows in batches],
        num_workers=workers or 0,
        collate_fn=_stack,
        # The loader seeds its workers; from torch's global generator that would change what the network draws.
        generator=torch.Generator().manual_seed(0),
    )
    for read in loader:
        if isinstance(read, str):
            raise TrainingError(read)
        yield read.permute(0, 3, 1, 2)


def read_chip(path: Path, image_size: int) -> Chips:
    """Read one chip, (N, N, 3) uint8.

    Raises:
        TrainingError: the file cannot be read or holds something else.
    """
    reason = _fault(path, image_size)
    if reason is not None:
        raise TrainingError(f"chip {path} changed during training: {reason}; cut the chips anew and use --resume")
    chip: Chips = np.load(path, allow_pickle=False)
    return chip


class _ChipFiles(Dataset["Chips | str"]):
    """Chips read from their files; a fault is given back as a text, since exceptions lose their type on the way."""

    def __init__(self, paths: Sequence[Path], image_size: int) -> None:
        self._paths = paths
        self._image_size = image_size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> Chips | str:
        try:
            return read_chip(self._paths[row], self._image_size)
        except TrainingError as error:
            return str(error)


def _stack(chips: Sequence[Chips | str]) -> Tensor | str:
    for chip in chips:
        if isinstance(chip, str):
            return chip
    return torch.from_numpy(np.stack([chip for chip in chips if not isinstance(chip, str)]))


def _fault(path: Path, image_size: int) -> str | None:
    """Why a chip's file cannot be used; ``None`` where it can."""
    try:
        chip = np.load(path, mmap_mode="r", allow_pickle=False)  # mapping fails where the file is too short
    except FileNotFoundError:
        return "the file is missing"
    except (OSError, ValueError, EOFError) as error:
        return f"the file is no readable .npy ({error})"
    if not isinstance(chip, np.ndarray):
        chip.close()
        return "the file holds several arrays, expected one"
    if chip.dtype != np.uint8 or chip.shape != (image_size, image_size, 3):
        return f"it is {chip.dtype} of shape {chip.shape}, expected uint8 ({image_size}, {image_size}, 3)"
    return None
