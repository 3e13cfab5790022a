"""Where the animal is in its box, where nobody drew an outline: estimated from many photos of its species.

The packaged ImageNet network says of each cell of a photo what it looks like. One linear separation for all photos of a
species starts from the middle of the boxes against their rims, which mostly show what is around the animal, and is then
fitted to its own surest cells until it settles. It needs no outline, and no animals but those of the catalogue.

The maps of strides 8 and 16 are used. That of stride 32 knows how far the picture's edge is, so that a separation of
the middle from the rim would learn the place and not the look. ``benchmarks/foreground.py`` measures all this.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label
from torch import Tensor

from resight.artefacts import Passport, key_of, write_json
from resight.errors import ArtefactMismatch, InputError
from resight.models.backbone import make_backbone
from resight.models.packaged import IMAGENET_LITE0, packaged_backbone_state

logger = logging.getLogger(__name__)

FOREGROUND_VERSION = 1  # raise it whenever the same photos would give another estimate
SIDE_PX = 448  # the chip is squeezed to a square of this side
CELLS = SIDE_PX // 16  # a side
LEAST_PHOTOS, MOST_PHOTOS = 20, 100
LEAST_IN_ONE = 0.9  # 0.97 for whole nyala and lions; 0.72 for cows that fill the box, where the coat's edges were found
LEAST_KEPT, MOST_KEPT = 0.05, 0.95  # of the box; beyond them the estimate tells nothing of a photo

_RIM = 0.9  # cells whose centre is farther out, towards any side, are rim; 0 is the middle of the box, 1 its edge
_MIDDLE = 0.6  # cells within this distance are what the separation starts from
_SURE = 0.8  # of either side, the surest share is fitted to
_RIDGE = 0.1  # of the mean variance, added to each
_MOST_ROUNDS = 30
_SETTLED = 0.001  # of the cells changing sides
_BINS = 128

Chip = NDArray[np.uint8]
Cells = NDArray[np.float32]
Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]


class CellNetwork:
    """The packaged network up to stride 16, built when it is first needed.

    Args:
        device: Such as ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device)

    @cached_property
    def _maps(self) -> Callable[..., list[Tensor]]:
        network = make_backbone(IMAGENET_LITE0.backbone, SIDE_PX)
        network.load_state_dict(packaged_backbone_state(IMAGENET_LITE0), strict=True)
        maps: Callable[..., list[Tensor]] = network.eval().to(self._device).forward_intermediates  # type: ignore[assignment]
        return maps

    def cells(self, chip: NDArray[np.uint8]) -> Cells:
        """What each cell of a chip looks like.

        Args:
            chip: (h, w, 3) uint8, RGB.

        Returns:
            (CELLS, CELLS, 152) float32, rows from the top.

        Raises:
            ArtefactMismatch: the package's file does not hold the tensors of timm's network.
        """
        squeezed = Image.fromarray(chip).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(squeezed, np.float32)).permute(2, 0, 1)[None].to(self._device)
        with torch.inference_mode():
            fine, coarse = self._maps(
                pixels / 127.5 - 1, indices=[2, 3], output_fmt="NCHW", intermediates_only=True, stop_early=True
            )
            found = torch.cat([F.avg_pool2d(fine, 2), coarse], 1)[0].permute(1, 2, 0)
        return np.ascontiguousarray(found.float().cpu().numpy())


@dataclass(frozen=True, eq=False)
class Foreground:
    """What tells the animals of one species from what is around them.

    Attributes:
        weights: (d,) float64, one a number of a cell.
        bias: A cell is animal where its product with the weights and this add up to more than 0.
        in_one: Share of what counts as animal that lies in one piece, mean of the photos it was fitted to.
    """

    weights: Doubles
    bias: float
    in_one: float

    @property
    def is_sure(self) -> bool:
        """Whether this is an animal; where the box shows nothing else, edges or patches of its coat are told apart."""
        return self.in_one >= LEAST_IN_ONE

    @cached_property
    def key(self) -> str:
        """The same for the same separation."""
        return key_of("foreground", FOREGROUND_VERSION, IMAGENET_LITE0.name, self.weights.tolist(), self.bias)

    def scores(self, cells: Cells) -> Doubles:
        """(…, d) → (…): above 0 where there is animal."""
        found: Doubles = cells.astype(np.float64) @ self.weights + self.bias
        return found

    def mask(self, cells: Cells, size: tuple[int, int]) -> Bools | None:
        """The pixels of a chip that show the animal.

        Args:
            cells: (CELLS, CELLS, d) of the chip.
            size: Width and height of the chip.

        Returns:
            (h, w) bool; ``None`` where hardly anything or nearly everything would be animal.
        """
        scores = Image.fromarray(self.scores(cells).astype(np.float32))
        found: Bools = np.asarray(scores.resize(size, Image.Resampling.BILINEAR)) > 0
        return found if LEAST_KEPT <= found.mean() <= MOST_KEPT else None


def fit_foreground(cells: Cells) -> Foreground:
    """Find what tells the animals of one species from what is around them.

    Args:
        cells: (n, CELLS, CELLS, d) of as many photos, each of one box with its animal in the middle.

    Raises:
        InputError: fewer than ``LEAST_PHOTOS`` photos.
    """
    if len(cells) < LEAST_PHOTOS:
        raise InputError(f"{len(cells)} photos: expected at least {LEAST_PHOTOS} of a species to estimate from")
    rows = cells.reshape(-1, cells.shape[-1]).astype(np.float64)
    centre, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    rows = (rows - centre) / scale
    middle, rim = (np.tile(part.ravel(), len(cells)) for part in _places())
    inner = ~rim
    weights = _separation(rows, middle, rim)
    animal = np.zeros(len(rows), np.bool_)
    for _ in range(_MOST_ROUNDS):
        scores = rows @ weights
        before, animal = animal, scores > otsu(scores[inner])
        if (animal != before).mean() < _SETTLED:
            break
        share = animal[inner].mean()
        surely, hardly = np.quantile(scores[inner], [1 - share * _SURE, (1 - share) * _SURE])
        sure = inner & (scores > surely)
        if sure.sum() < 2:  # photos that show nothing, such as black ones
            break
        weights = _separation(rows, sure, rim | (scores < hardly))
    scores = rows @ weights
    threshold = otsu(scores[inner])
    kept = (scores > threshold).reshape(cells.shape[:-1])
    in_one = float(np.mean([_in_one_piece(one) for one in kept]))
    return Foreground(weights / scale, -float(threshold + centre @ (weights / scale)), in_one)


def _in_one_piece(kept: Bools) -> float:
    """The share of cells that lie in the largest piece, whose cells have a side in common; 0 where it tells nothing."""
    if not LEAST_KEPT <= kept.mean() <= MOST_KEPT:
        return 0.0
    pieces = np.bincount(label(kept)[0].ravel())[1:]
    return float(pieces.max() / pieces.sum())


def _places() -> tuple[Bools, Bools]:
    """(CELLS, CELLS) each: the cells in the middle of the box, and those at its rim."""
    across = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    x, y = np.meshgrid(across, across)
    return np.hypot(x, y) < _MIDDLE, np.maximum(np.abs(x), np.abs(y)) > _RIM


def _separation(rows: Doubles, animal: Bools, around: Bools) -> Doubles:
    """Fisher's linear discriminant of two sets of rows, both weighing alike, with a ridge."""
    one, other = rows[animal], rows[around]
    within = (np.cov(one, rowvar=False) + np.cov(other, rowvar=False)) / 2
    within[np.diag_indices_from(within)] += _RIDGE * np.trace(within) / len(within) + 1e-9
    found: Doubles = np.linalg.solve(within, one.mean(axis=0) - other.mean(axis=0))
    return found


def otsu(values: Doubles) -> float:
    """The threshold that leaves the least variance within the two sides (Otsu 1979), in 128 steps.

    The highest and lowest 0.2 % do not count.
    """
    lowest, highest = np.quantile(values, [0.002, 0.998])
    counts, edges = np.histogram(values, _BINS, range=(float(lowest), float(highest)))
    middles, shares = (edges[:-1] + edges[1:]) / 2, counts / counts.sum()
    below, sums = np.cumsum(shares)[:-1], np.cumsum(shares * middles)[:-1]
    mean = float((shares * middles).sum())
    between = (mean * below - sums) ** 2 / np.maximum(below * (1 - below), 1e-12)
    return float(edges[1 + int(np.argmax(between))])


@dataclass(frozen=True, eq=False)
class Estimate:
    """Tells the animal on a chip of one species."""

    network: CellNetwork
    foreground: Foreground

    @property
    def key(self) -> str:
        """The same where the same chip gets the same mask."""
        return self.foreground.key

    def mask(self, chip: Chip) -> Bools | None:
        """(h, w, 3) uint8 → (h, w), where the animal is; ``None`` where the estimate tells nothing of this photo."""
        return self.foreground.mask(self.network.cells(chip), (chip.shape[1], chip.shape[0]))


class Estimates:
    """The estimates of a project, fitted once a species and kept: one JSON file for each.

    Args:
        folder: Where they lie; is made when something is written.
        device: What the network runs on.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._folder = folder
        self._device = device
        self._known: dict[str, Foreground] = {}

    @cached_property
    def _network(self) -> CellNetwork:
        return CellNetwork(self._device)

    def known(self, species: str) -> Estimate | None:
        """The estimate of a species; ``None`` where nothing was fitted yet, or it is not sure.

        Raises:
            ArtefactMismatch: it was fitted otherwise, or its file is broken.
        """
        if species not in self._known and self.is_fitted(species):
            self._known[species] = _read(self.path(species), _passport(species))
        found = self._known.get(species)
        return Estimate(self._network, found) if found is not None and found.is_sure else None

    def is_fitted(self, species: str) -> bool:
        """Whether a species has been tried, with whatever outcome."""
        return self.path(species).is_file()

    def path(self, species: str) -> Path:
        """Where the estimate of a species lies."""
        return self._folder / f"{key_of(species)[:12]}.json"

    def fit(self, species: str, chips: Iterable[Chip]) -> None:
        """Fit the estimate of a species and keep it; with fewer than ``LEAST_PHOTOS`` nothing is kept.

        Args:
            species: Whose.
            chips: (h, w, 3) uint8 each, some of its annotations' boxes; ``MOST_PHOTOS`` are enough.
        """
        cells = [self._network.cells(chip) for chip in chips]
        if len(cells) < LEAST_PHOTOS:
            logger.info("%s: %d photos are too few to estimate where the animal is", species, len(cells))
            return
        found = fit_foreground(np.stack(cells))
        if not found.is_sure:
            logger.warning(
                "%s: nothing in the boxes stands out as one piece (%.1f %% of it, expected %.0f %%); keypoints of the "
                "whole box are compared", species, 100 * found.in_one, 100 * LEAST_IN_ONE,
            )  # fmt: skip
        passport = _passport(species, {"species": species, "photos": len(cells)})
        document = {"weights": found.weights.tolist(), "bias": found.bias, "in_one": found.in_one}
        write_json(
            self.path(species),
            {"kind": passport.kind, "decides": passport.decides, "recorded": passport.recorded, **document},
        )
        self._known[species] = found


def _passport(species: str, recorded: dict[str, object] | None = None) -> Passport:
    decides = {
        "species": species,
        "foreground_version": FOREGROUND_VERSION,
        "network": IMAGENET_LITE0.name,
        "side_px": SIDE_PX,
    }
    return Passport("foreground", decides, recorded or {})


def _read(path: Path, expected: Passport) -> Foreground:
    remedy = "delete it, it is made again when it is needed"
    Passport.read(path).require_fit(expected, where=path, remedy=remedy)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return Foreground(np.array(value["weights"], np.float64), float(value["bias"]), float(value["in_one"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactMismatch(f"{path} cannot be read as an estimate ({error}); {remedy}") from None
