"""How good a model is between epochs, on photos held out from its training side: one-vs-all per species."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from resight.metrics import Summary, macro_average, summarise
from resight.models.embedder import Embedder
from resight.ranking import rank_one_vs_all
from resight.training.chipset import SkippedChip, TrainingSample, read_chip, usable_chips

_CHIPS_AT_ONCE = 256


class HeldOut:
    """Samples that are scored and not trained on.

    Args:
        samples: With their encounters; chips that cannot be used are left out, and listed in ``skipped``.
        image_size: Side of a chip in pixels.
    """

    def __init__(self, samples: Sequence[TrainingSample], image_size: int) -> None:
        usable, skipped = usable_chips(samples, image_size)
        self.skipped: tuple[SkippedChip, ...] = tuple(skipped)
        self._image_size = image_size
        self._of_species: dict[str, list[TrainingSample]] = defaultdict(list)
        for sample in usable:
            self._of_species[sample.species].append(sample)

    def top1(self, embedder: Embedder) -> float | None:
        """Top-1 in percent, the mean over species; ``None`` where no query has a possible match.

        Args:
            embedder: Is left in the mode it is in.
        """
        return macro_average(self._score(embedder, samples) for samples in self._of_species.values()).top1

    def _score(self, embedder: Embedder, samples: Sequence[TrainingSample]) -> Summary:
        labels = _codes([sample.identity for sample in samples])
        groups = _codes([sample.encounter for sample in samples])
        ranking = rank_one_vs_all(self._vectors(embedder, samples), labels=labels, groups=groups, k=1)
        return summarise(ranking, labels, draws=1)

    def _vectors(self, embedder: Embedder, samples: Sequence[TrainingSample]) -> npt.NDArray[np.float16]:
        vectors = np.empty((len(samples), embedder.config.dim), np.float16)
        for start in range(0, len(samples), _CHIPS_AT_ONCE):
            some = samples[start : start + _CHIPS_AT_ONCE]
            chips = np.stack([read_chip(sample.chip_path, self._image_size) for sample in some])
            vectors[start : start + len(some)] = embedder.embed_chips(chips)
        return vectors


def _codes(names: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
