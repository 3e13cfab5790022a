"""The training chips: which can be used, which class each is in, and where the loop takes them from."""

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
from resight.training.recipe import Recipe

Chips = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingSample:
    """One annotation to train on.

    Attributes:
        annotation_id: Its key.
        species: The full species string.
        identity: Its identity within the species; a class is (species, identity).
        chip_path: A ``.npy`` file, (N, N, 3) uint8, RGB, with N the recipe's ``image_size``.
        encounter: Its encounter; read where the sample is held out for validation.
        sides_differ: Whether the species' policy tells left from right; read where mirror images are made.
    """

    annotation_id: str
    species: str
    identity: str
    chip_path: Path
    encounter: str = ""
    sides_differ: bool = False


@dataclass(frozen=True)
class SkippedChip:
    """A sample that is left out because its chip cannot be used."""

    annotation_id: str
    chip_path: str
    reason: str


@dataclass(frozen=True)
class TrainingClass:
    """One class: an identity of a species, or the mirror image of one, and how many usable annotations it has."""

    species: str
    identity: str
    annotations: int
    mirrored: bool = False


@dataclass(frozen=True)
class TrainingSet:
    """What a run trains on.

    Attributes:
        samples: The usable ones in order of ``annotation_id``, so that a run does not depend on their order.
        labels: (n_samples,) int64, the class of each.
        mirror_labels: (n_samples,) int64, the class of its mirror image; −1 where none is made.
        species_labels: (n_samples,) int64, the species of each, numbered by name.
        classes: In order of (species, identity); after them, in the same order, the mirrored ones that are classes of
            their own.
        skipped: The others, with the reason.
    """

    samples: tuple[TrainingSample, ...]
    labels: npt.NDArray[np.int64]
    mirror_labels: npt.NDArray[np.int64]
    species_labels: npt.NDArray[np.int64]
    classes: tuple[TrainingClass, ...]
    skipped: tuple[SkippedChip, ...]


def gather(samples: Sequence[TrainingSample], recipe: Recipe) -> TrainingSet:
    """Check every chip's file and number the classes.

    A file is opened and its header and length are checked; its pixels are not read.

    Args:
        samples: In any order.
        recipe: Its ``image_size`` and ``mirror`` are read.

    Raises:
        InputError: no samples, an annotation given twice, or a single class.
        TrainingError: not one chip can be used.
    """
    if not samples:
        raise InputError("there is nothing to train on: the split has no training annotations of these species")
    twice = [key for key, times in Counter(sample.annotation_id for sample in samples).items() if times > 1]
    if twice:
        raise InputError(f"annotation {twice[0]!r} is given twice for training ({len(twice)} such): give each once")
    usable, skipped = usable_chips(samples, recipe.image_size)
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
    keys = sorted(counts)
    number = {key: place for place, key in enumerate(keys)}
    modes = {(sample.species, sample.identity): _mirror_mode(sample, recipe) for sample in usable}
    reflected = [key for key in keys if modes[key] == "new"]
    number_mirrored = {key: len(keys) + place for place, key in enumerate(reflected)}
    labels, mirror_labels = [], []
    for sample in usable:
        key = sample.species, sample.identity
        labels.append(number[key])
        mirror_labels.append(-1 if modes[key] == "off" else number_mirrored.get(key, number[key]))
    names = {species: place for place, species in enumerate(sorted({sample.species for sample in usable}))}
    return TrainingSet(
        samples=tuple(usable),
        labels=np.array(labels, dtype=np.int64),
        mirror_labels=np.array(mirror_labels, dtype=np.int64),
        species_labels=np.array([names[sample.species] for sample in usable], dtype=np.int64),
        classes=(
            *(TrainingClass(*key, annotations=counts[key]) for key in keys),
            *(TrainingClass(*key, annotations=counts[key], mirrored=True) for key in reflected),
        ),
        skipped=tuple(skipped),
    )


def usable_chips(samples: Sequence[TrainingSample], image_size: int) -> tuple[list[TrainingSample], list[SkippedChip]]:
    """Part samples by whether their chips can be used, in order of ``annotation_id``."""
    usable: list[TrainingSample] = []
    skipped: list[SkippedChip] = []
    for sample in track(sorted(samples, key=lambda one: one.annotation_id), "checking chips", len(samples)):
        reason = _fault(sample.chip_path, image_size)
        if reason is None:
            usable.append(sample)
        else:
            skipped.append(SkippedChip(sample.annotation_id, str(sample.chip_path), reason))
    return usable, skipped


def _mirror_mode(sample: TrainingSample, recipe: Recipe) -> str:
    if recipe.mirror == "by-species":
        return "new" if sample.sides_differ else "same"
    return recipe.mirror


class ChipSource:
    """Where the loop takes its chips from: all of them on the device at once, or the files, read ahead.

    Args:
        samples: The run's.
        image_size: Side of a chip in pixels.
        device: Where the chips are wanted.
        limit_bytes: They are all held on the device where they need no more than this.
        workers: Processes that read files ahead where they are not held; ``None``: this one reads.

    Raises:
        TrainingError: a chip changed since it was checked.
    """

    def __init__(
        self,
        samples: Sequence[TrainingSample],
        image_size: int,
        *,
        device: torch.device,
        limit_bytes: int,
        workers: int | None,
    ) -> None:
        self._files = _ChipFiles([sample.chip_path for sample in samples], image_size)
        self._device, self._workers = device, workers
        self._held: Tensor | None = None  # (n, N, N, 3) uint8
        if len(samples) * image_size * image_size * 3 <= limit_bytes:
            self._held = torch.empty((len(samples), image_size, image_size, 3), dtype=torch.uint8, device=device)
            for row, sample in enumerate(track(samples, "reading chips", len(samples))):
                self._held[row] = torch.from_numpy(read_chip(sample.chip_path, image_size)).to(device)

    @property
    def held(self) -> bool:
        """Whether all chips are on the device."""
        return self._held is not None

    def batches(self, batches: Sequence[npt.NDArray[np.int64]]) -> Iterator[Tensor]:
        """Yield the chips of each batch of rows, (n, 3, N, N) uint8 on the device, in channels_last memory.

        Raises:
            TrainingError: a chip changed since it was checked.
        """
        if self._held is not None:
            for rows in batches:
                # To block would be to wait for the work queued there, and to count that as waiting for chips.
                yield self._held[torch.from_numpy(rows).to(self._device, non_blocking=True)].permute(0, 3, 1, 2)
            return
        loader: DataLoader[Chips | str] = DataLoader(
            self._files,
            batch_sampler=[[int(row) for row in rows] for rows in batches],
            num_workers=self._workers or 0,
            collate_fn=_stack,
            pin_memory=self._device.type == "cuda",
            # The loader seeds its workers; from torch's global generator that would change what the network draws.
            generator=torch.Generator().manual_seed(0),
        )
        for read in loader:
            if isinstance(read, str):
                raise TrainingError(read)
            yield read.to(self._device, non_blocking=True).permute(0, 3, 1, 2)


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
