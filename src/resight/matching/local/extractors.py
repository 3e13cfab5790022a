"""Networks that give keypoints and descriptors of a chip, each a tiny adapter to kornia's module of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from resight.artefacts import Passport
from resight.errors import InputError
from resight.matching.local.features import ExtractorSpec, LocalFeatures, keep_best
from resight.matching.local.weights import EXTRACTORS, fill, find_weights, read_weights, weights_hash

Points = tuple[Tensor, Tensor, Tensor]
"""Keypoints (n, 2), descriptors (n, dim) and scores (n,)."""


class Inside(Protocol):
    """Says which points of a chip are on the animal."""

    def __call__(self, keypoints: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n, 2) pixels of the chip → (n,)."""
        ...


class PictureSize(Protocol):
    """Says how large a picture of a chip the network is shown."""

    def __call__(self, size: tuple[int, int], *, inside: Inside | None) -> tuple[int, int]:
        """Width and height of a chip, and which of its points are on the animal → those of the picture."""
        ...


class Extractor:
    """Takes the keypoints of chips.

    Args:
        spec: Which network, and how many points.
        network: (1, 3, h, w) float32 from 0 to 1 → its points.
        weights_hash: Of the network's weights.
        device: Such as ``cpu`` or ``cuda``; the network lies there.
        picture_size: Of what the network is shown; ``None``: the chip as it is.
    """

    def __init__(
        self,
        spec: ExtractorSpec,
        network: Callable[[Tensor], Points],
        weights_hash: str,
        *,
        device: str = "cpu",
        picture_size: PictureSize | None = None,
    ) -> None:
        self.spec = spec
        self.weights_hash = weights_hash
        self._picture_size = picture_size
        self._network = network
        self._device = torch.device(device)

    @property
    def passport(self) -> Passport:
        """What decides the points."""
        return Passport("local features", {**self.spec.decides, "weights_hash": self.weights_hash})

    def extract(self, chip: NDArray[np.uint8], inside: Inside | None = None) -> LocalFeatures:
        """Take the keypoints of one animal.

        Args:
            chip: (h, w, 3) uint8, RGB.
            inside: Which points count; ``None``: all.

        Raises:
            InputError: a chip of another type or shape.
        """
        if chip.dtype != np.uint8 or chip.ndim != 3 or chip.shape[2] != 3:
            raise InputError(f"a chip is {chip.dtype} of shape {chip.shape}: expected uint8 of (height, width, 3)")
        pixels = torch.from_numpy(np.ascontiguousarray(chip.transpose(2, 0, 1)))[None]
        size = (chip.shape[1], chip.shape[0])
        shown = size if self._picture_size is None else self._picture_size(size, inside=inside)
        with torch.inference_mode():
            picture = pixels.to(self._device).float() / 255
            if shown != size:
                picture = F.interpolate(picture, shown[::-1], mode="bilinear", antialias=True)
            found = self._network(picture)
        keypoints, descriptors, scores = (part.float().cpu().numpy() for part in found)
        if shown != size:
            keypoints = (keypoints + 0.5) * (np.array(size, np.float32) / np.array(shown, np.float32)) - 0.5
        keypoints = np.clip(keypoints, 0, np.array(size, np.float32) - 1)
        on_animal = None if inside is None else inside(keypoints)
        return keep_best(keypoints, descriptors, scores, size, self.spec.points, on_animal)


def load_extractor(spec: ExtractorSpec, *, device: str = "cpu", weights: Path | None = None) -> Extractor:
    """Build the network that a spec names, with the weights of its Python package.

    Args:
        spec: Which one.
        device: Such as ``cpu`` or ``cuda``.
        weights: The file with LoFTR's weights; the others take none.

    Raises:
        InputError: the package with the weights is not installed, or the file is not there.
        ArtefactMismatch: the weights do not fit kornia's network.
    """
    if spec.name == "loftr":
        return _loftr(spec, weights, device)
    path = find_weights(EXTRACTORS[spec.name])
    state = read_weights(path)
    if spec.name == "xfeat":
        network = _xfeat(spec, state, path, device)
    elif spec.name == "disk":
        network = _disk(spec, state, path, device)
    else:
        network = _aliked(spec, state, path, device)
    return Extractor(spec, network, weights_hash(state), device=device)


def _loftr(spec: ExtractorSpec, weights: Path | None, device: str) -> Extractor:
    from resight.matching.local.loftr import cells_of, load_loftr, picture_size

    network, its_hash = load_loftr(weights)
    size = partial(picture_size, points=spec.points)
    return Extractor(spec, cells_of(network.to(device)), its_hash, device=device, picture_size=size)


def _aliked(spec: ExtractorSpec, state: Mapping[str, Tensor], path: Path, device: str) -> Callable[[Tensor], Points]:
    from kornia.feature import ALIKED

    network = ALIKED(spec.name, max_num_keypoints=spec.asked, detection_threshold=0.0)  # 0: the best, however weak
    fill(network, state, path, derived=("dkd.hw_grid",))
    network.to(device)

    def run(chip: Tensor) -> Points:
        found = network(chip)[0]
        return found.keypoints, found.descriptors, found.keypoint_scores

    return run


def _disk(spec: ExtractorSpec, state: Mapping[str, Tensor], path: Path, device: str) -> Callable[[Tensor], Points]:
    from kornia.feature import DISK

    network = DISK()
    fill(network, state, path)
    network.to(device)

    def run(chip: Tensor) -> Points:
        found = network(chip, n=spec.asked, pad_if_not_divisible=True)[0]
        return found.keypoints, found.descriptors, found.detection_scores

    return run


def _xfeat(spec: ExtractorSpec, state: Mapping[str, Tensor], path: Path, device: str) -> Callable[[Tensor], Points]:
    from kornia.feature import XFeat

    network = XFeat(top_k=spec.asked, detection_threshold=0.0)
    fill(network.net, state, path)
    network.eval().to(device)

    def run(chip: Tensor) -> Points:
        found = network.detectAndCompute(chip)[0]
        return found["keypoints"].float(), found["descriptors"], found["scores"]

    return run
