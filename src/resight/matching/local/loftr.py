"""LoFTR (Sun et al., CVPR 2021): matching without keypoints, as features and a matcher like those of the others.

LoFTR compares the cells of a coarse grid over two pictures. What its backbone makes of a picture does not depend on the
other one, so that these are the features of an animal: the cells of 8 × 8 pixels that lie on it, with 256 numbers each.
The matcher is LoFTR's coarse transformer on the cells of both, which may be any set since the place of each is in its
numbers, then dual softmax and mutual best partners. The refinement of a match within its cell is left out: evidence
counts matches and asks whether they lie alike, for which a cell is exact enough.

The weights are not installed with resight: a person downloads the authors' file and names it in the settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from resight.errors import InputError
from resight.matching.local.extractors import Inside, Points
from resight.matching.local.features import LocalFeatures
from resight.matching.local.lightglue import WHOLE, Effort, PairMatches
from resight.matching.local.weights import fill, read_weights, weights_hash

WEIGHTS_URL = "https://huggingface.co/kornia/loftr/resolve/main/loftr_outdoor.ckpt"
STRIDE = 8  # pixels of the picture from one cell to the next
LONGEST_CELLS = 60  # along the longer side of the grid: pictures of 480 px
BORDER_CELLS = 2  # the rim of the grid sees past the picture; the authors never match it
GPU_BATCH = 8  # pairs at once; on a CPU one pair fills the processor
_GREY = (0.299, 0.587, 0.114)


def picture_size(size: tuple[int, int], points: int, inside: Inside | None = None) -> tuple[int, int]:
    """Width and height of the picture that LoFTR is shown of a chip: never larger, its sides multiples of 8.

    Some of the cells cannot be left out as weak keypoints can, so the picture is made smaller until the animal has at
    most ``points`` of them.

    Args:
        size: Width and height of the evidence chip.
        points: So many cells the animal has at most.
        inside: Which points of the chip are on the animal; ``None``: all.
    """
    cells = max(1, min(LONGEST_CELLS, max(size) // STRIDE))
    while True:
        columns, rows = (max(1, side * cells // max(size)) for side in size)
        x, y = (
            (np.arange(count) * STRIDE + 0.5) * side / (count * STRIDE) - 0.5
            for count, side in zip((columns, rows), size, strict=True)
        )
        places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
        count = len(places) if inside is None else int(inside(places).sum())
        if count <= points or cells == 1:
            return columns * STRIDE, rows * STRIDE
        cells = max(1, min(cells - 1, math.ceil(cells * math.sqrt(points / count))))


def cells_of(network: Any) -> Callable[[Tensor], Points]:
    """What LoFTR has of one picture, in the form of keypoints.

    Args:
        network: kornia's ``LoFTR``, filled.

    Returns:
        (1, 3, h, w) from 0 to 1 → its cells, row by row: the pixel that each sits on, its numbers, and a score, which
        is 1, or 0 for cells of the rim (:data:`BORDER_CELLS`).
    """
    backbone, places = network.backbone, network.pos_encoding

    def run(picture: Tensor) -> Points:
        grey = (picture * picture.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)
        half = backbone.relu(backbone.bn1(backbone.conv1(grey)))
        # The coarse half of the backbone; the other is for the refinement.
        coarse = backbone.layer3_outconv(backbone.layer3(backbone.layer2(backbone.layer1(half))))
        cells = places(coarse)[0]  # (dim, rows, columns)
        scores = torch.zeros_like(cells[0])
        scores[BORDER_CELLS:-BORDER_CELLS, BORDER_CELLS:-BORDER_CELLS] = 1
        keypoints = torch.ones_like(scores).nonzero().flip(1) * STRIDE
        return keypoints, cells.flatten(1).T, scores.flatten()

    return run


@dataclass(frozen=True, eq=False)
class Cells:
    """One photo after the first self-attention.

    Attributes:
        values: (n, width), in the matcher's precision.
        matchable: (n,) bool.
    """

    values: Tensor
    matchable: Tensor

    def __len__(self) -> int:
        """How many cells there are."""
        return len(self.values)


class LoftrMatcher:
    """Matches the cells of photos, as :class:`~resight.matching.local.lightglue.LightGlue` matches keypoints.

    Args:
        network: kornia's ``LoFTR``, filled.
        device: Such as ``cpu`` or ``cuda``.
        precision: Of the transformer.
    """

    def __init__(self, network: Any, *, device: str = "cpu", precision: torch.dtype = torch.float32) -> None:
        transformer, ending = network.loftr_coarse, network.coarse_matching
        self._device, self._precision = torch.device(device), precision
        self._width: int = transformer.d_model
        self._temperature, self._threshold = float(ending.temperature), float(ending.thr)
        layers: Sequence[nn.Module] = transformer.layers.to(self._device, precision)
        self._first, *self._layers = zip(layers, transformer.layer_names, strict=True)
        self._batch = 1 if self._device.type == "cpu" else GPU_BATCH

    def prepare(self, features: LocalFeatures) -> Cells:
        """Do for one photo what does not depend on the other.

        Raises:
            InputError: descriptors of another extractor.
        """
        width = features.descriptors.shape[1]
        if width != self._width:
            raise InputError(
                f"descriptors of {width} numbers: LoFTR takes {self._width}; take the matcher of the extractor that "
                "made them"
            )
        with torch.inference_mode():
            values = torch.from_numpy(features.descriptors).to(self._device, self._precision)[None]
            layer, _ = self._first
            if len(features):
                values = layer(values, values)
            return Cells(values[0], torch.from_numpy(features.scores > 0).to(self._device))

    def match(self, query: Cells, candidates: Sequence[Cells], effort: Effort = WHOLE) -> list[PairMatches]:
        """Match one photo with others.

        Args:
            query: The photo.
            candidates: The others, in any order; a photo without cells has no matches.
            effort: Not used: only the last layer of LoFTR was trained to be matched.

        Returns:
            One a candidate.
        """
        nothing = PairMatches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        found = dict.fromkeys(range(len(candidates)), nothing)
        # Those of like numbers together, so that little is padded.
        rows = sorted((row for row in found if len(query) and len(candidates[row])), key=lambda r: len(candidates[r]))
        with torch.inference_mode():
            for start in range(0, len(rows), self._batch):
                batch = rows[start : start + self._batch]
                found.update(zip(batch, self._match_batch(query, [candidates[row] for row in batch]), strict=True))
        return [found[row] for row in range(len(candidates))]

    def _match_batch(self, query: Cells, candidates: Sequence[Cells]) -> list[PairMatches]:
        here = query.values.expand(len(candidates), -1, -1)
        there = pad_sequence([one.values for one in candidates], batch_first=True)
        matchable = pad_sequence([one.matchable for one in candidates], batch_first=True)
        real = pad_sequence([torch.ones_like(one.matchable) for one in candidates], batch_first=True)
        known = None if bool(real.all()) else real
        for layer, kind in self._layers:
            if kind == "self":
                here, there = layer(here, here), layer(there, there, known, known)
            else:
                here = layer(here, there, None, known)
                there = layer(there, here, known, None)
        alike = torch.matmul(here, there.mT).float() / (self._width * self._temperature)
        if known is not None:
            alike = alike.masked_fill(~real[:, None], torch.finfo(alike.dtype).min)
        both = alike.softmax(2) * alike.softmax(1)
        confidence, partner = both.max(dim=2)
        back = both.argmax(dim=1)
        own = torch.arange(len(query), device=self._device)
        good = (back.gather(1, partner) == own) & (confidence > self._threshold)
        good &= query.matchable & matchable.gather(1, partner)
        matches = []
        for pair in range(len(candidates)):
            chosen = good[pair].nonzero().squeeze(1)
            matches.append(
                PairMatches(
                    chosen.cpu().numpy(),
                    partner[pair][chosen].cpu().numpy(),
                    confidence[pair][chosen].cpu().numpy(),
                )
            )
        return matches


def load_loftr(weights: Path | None) -> tuple[Any, str]:
    """kornia's ``LoFTR`` with the authors' weights, and the hash of these.

    Args:
        weights: The file as the authors publish it (``loftr_outdoor.ckpt``, ``loftr_indoor.ckpt``).

    Raises:
        InputError: no file is named, it is not there, holds something else, or was trained otherwise.
        ArtefactMismatch: the weights do not fit kornia's network.
    """
    remedy = f'download {WEIGHTS_URL} and name it in resight.toml: [local] weights = "loftr_outdoor.ckpt"'
    if weights is None:
        raise InputError(f"the extractor 'loftr' needs a file of weights that resight does not bring: {remedy}")
    if not weights.is_file():
        raise InputError(f"{weights}, the weights of the extractor 'loftr', is no file: {remedy}")
    if "indoor_ds_new" in weights.name:
        raise InputError(f"{weights} was trained with another encoding of places than the other files: {remedy}")
    from kornia.feature import LoFTR

    state = {key.removeprefix("matcher."): tensor for key, tensor in read_weights(weights, remedy=remedy).items()}
    network = LoFTR(None)  # None: else kornia would fetch the weights itself
    fill(network, state, weights, remedy=remedy)
    return network, weights_hash(state)
