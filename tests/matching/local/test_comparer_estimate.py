from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from resight.matching.local import comparer as rooms
from resight.matching.local.comparer import LocalComparer, rules_key
from resight.matching.local.extractors import Extractor
from resight.matching.local.features import ExtractorSpec
from resight.matching.local.foreground import CELLS, Estimates, Foreground
from resight.settings import LocalRules

from ...made_up import annotation, encoded, noise, write_photo


class Halves:
    """In place of a network: the left half of each chip is animal."""

    def cells(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]:
        cells = np.full((CELLS, CELLS, 1), -1, np.float32)
        cells[:, : CELLS // 2] = 1
        return cells


@pytest.fixture(autouse=True)
def without_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    def pixels(chip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points = chip[0, 0].new_ones(chip.shape[2:]).nonzero().flip(1).float()
        return points, points.new_ones(len(points), 128), points.new_ones(len(points))

    def load(spec: ExtractorSpec, **_: object) -> Extractor:
        return Extractor(spec, pixels, "hash")

    def fit(self: Estimates, species: str, chips: Iterable[NDArray[np.uint8]]) -> None:
        self._known[species] = Foreground(np.ones(1), 0.0, 1.0)

    monkeypatch.setattr(rooms, "load_extractor", load)
    monkeypatch.setattr("resight.matching.local.store.LEAST_PHOTOS", 1)
    monkeypatch.setattr(Estimates, "fit", fit)
    monkeypatch.setattr(Estimates, "_network", Halves())


@pytest.mark.parametrize(("foreground", "widest"), [("estimate", 29), ("box", 59)])
def test_a_new_photo_is_looked_at_as_those_of_its_species(tmp_path: Path, foreground: str, widest: int) -> None:
    content = encoded(noise(0, 60, 40))
    write_photo(tmp_path, "a.png", content)
    comparer = LocalComparer(LocalRules(points=4096, foreground=foreground), tmp_path / "local", {"drawn": tmp_path})
    animal = annotation("a")
    assert comparer.lacks_look(str(animal.species)) is (foreground == "estimate")
    comparer.learn_look([animal])
    features = comparer.features([animal], {})
    assert features.by_estimate == ({"a"} if foreground == "estimate" else set())
    own = features.load("a").keypoints
    asked = comparer.features_of_photo(content, "new", None, 0.0, species=animal.species).keypoints
    assert own[:, 0].max() == asked[:, 0].max() == widest
    for unknown in ("another", None):
        whole = comparer.features_of_photo(content, "new", None, 0.0, species=unknown)
        assert whole.keypoints[:, 0].max() == 59


def test_evidence_by_box_and_by_estimate_are_told_apart() -> None:
    assert rules_key(LocalRules(foreground="box"), {}) != rules_key(LocalRules(), {})
