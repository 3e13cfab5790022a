from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.feature import LoFTR
from kornia.feature.loftr import loftr as kornias
from numpy.typing import NDArray
from PIL import Image

from resight import settings as settings_file
from resight.errors import ArtefactMismatch, InputError, SettingsError
from resight.matching.local.comparer import LocalComparer, rules_key
from resight.matching.local.extractors import Extractor, load_extractor
from resight.matching.local.features import ExtractorSpec, LocalFeatures
from resight.matching.local.lightglue import PairMatches
from resight.matching.local.loftr import WEIGHTS_URL, LoftrMatcher, cells_of, load_loftr, picture_size
from resight.settings import FILE_NAME, LocalRules
from resight.types import Box

from ...made_up import annotation, encoded, write_photo

DIM = 32


def made(seed: int = 0) -> Any:
    """kornia's module, small, with random weights, under which many cells match."""
    config = copy.deepcopy(kornias.default_cfg)
    config["resnetfpn"] = {"initial_dim": 16, "block_dims": [16, 24, DIM]}
    config["coarse"].update(d_model=DIM, d_ffn=DIM, nhead=4)
    config["fine"].update(d_model=16, d_ffn=16, nhead=4)
    config["match_coarse"].update(thr=0.01, dsmax_temperature=0.01)
    torch.manual_seed(seed)
    return LoFTR(None, config).eval()


network = cache(made)


def only_backbone() -> Any:
    """Cells are matched by what the backbone makes of them alone, wherever they lie."""

    class Unit(torch.nn.Module):
        def forward(self, cells: torch.Tensor) -> torch.Tensor:
            return cells / cells.norm(dim=1, keepdim=True)

    module = made()
    module.backbone.layer3_outconv = torch.nn.Sequential(torch.nn.InstanceNorm2d(DIM), Unit())
    module.coarse_matching.temperature = 0.001
    module.pos_encoding.pe.zero_()
    with torch.no_grad():
        for layer in module.loftr_coarse.layers:
            layer.norm2.weight.zero_()
            layer.norm2.bias.zero_()
    return module


def extractor(module: Any, points: int = 4096) -> Extractor:
    spec = ExtractorSpec("loftr", points=points)
    size = partial(picture_size, points=points)
    return Extractor(spec, cells_of(module), "hash", picture_size=size)


def blobs(width: int, height: int, seed: int = 5) -> NDArray[np.uint8]:
    """A picture with corners and spots all over; its sides are multiples of 8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3))
    return np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)


def as_dict(found: PairMatches, query: LocalFeatures, candidate: LocalFeatures) -> dict[tuple[float, ...], float]:
    """Places of both cells → confidence."""
    here, there = query.keypoints[found.query_points], candidate.keypoints[found.candidate_points]
    return dict(zip(map(tuple, np.hstack([here, there]).tolist()), found.confidences.tolist(), strict=True))


def as_numbers(found: PairMatches) -> dict[tuple[int, int], float]:
    """Numbers of both cells → confidence."""
    pairs = zip(found.query_points.tolist(), found.candidate_points.tolist(), strict=True)
    return dict(zip(pairs, found.confidences.tolist(), strict=True))


def matched(module: Any, query: LocalFeatures, others: list[LocalFeatures], batch: int = 1) -> list[PairMatches]:
    matcher = LoftrMatcher(module)
    matcher._batch = batch
    return matcher.match(matcher.prepare(query), [matcher.prepare(one) for one in others])


def as_map(features: LocalFeatures) -> torch.Tensor:
    """(1, dim, rows, columns): the cells where they lie; those that are not there are 0."""
    width, height = features.size
    cells = torch.zeros(1, features.descriptors.shape[1], height // 8, width // 8)
    x, y = (features.keypoints / 8).astype(int).T
    cells[0, :, y, x] = torch.from_numpy(features.descriptors).float().T
    return cells


def mask_of(features: LocalFeatures) -> torch.Tensor:
    """(1, height, width): whether the cell of a pixel is there."""
    width, height = features.size
    mask = torch.zeros(1, height, width)
    x, y = features.keypoints.astype(int).T
    mask[0, y, x] = 1
    return mask


def by_kornia(query: LocalFeatures, candidate: LocalFeatures, module: Any) -> dict[tuple[float, ...], float]:
    """Matches as kornia's coarse stage gives them for one pair, the cells that are not there masked."""
    maps, masks = [as_map(one) for one in (query, candidate)], [mask_of(one) for one in (query, candidate)]
    cells = [one.flatten(2).mT for one in maps]
    there = [mask[:, ::8, ::8].flatten(1) for mask in masks]
    data: dict[str, Any] = {"hw0_c": maps[0].shape[2:], "hw1_c": maps[1].shape[2:], "stride_c": 8}
    with torch.inference_mode():
        module.coarse_matching(*module.loftr_coarse(*cells, *there), data, mask_c0=there[0], mask_c1=there[1])
    places = torch.cat([data["mkpts0_c"], data["mkpts1_c"]], dim=1).tolist()
    return dict(zip(map(tuple, places), data["mconf"].tolist(), strict=True))


@pytest.mark.parametrize("outlined", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_gives_what_kornias_coarse_stage_gives(batch: int, outlined: bool) -> None:
    def on_the_left(keypoints: NDArray[np.float32]) -> NDArray[np.bool_]:
        return keypoints[:, 0] < 120

    inside = on_the_left if outlined else None
    module = network()
    take = extractor(module).extract
    query = take(blobs(200, 200), inside)
    sizes = (200, 200), (200, 160), (96, 240), (176, 200), (64, 64)
    others = [take(blobs(*size, seed=seed), inside) for seed, size in enumerate(sizes)]
    assert len(query) == (15 if outlined else 25) * 25
    agreed = 0
    for candidate, found in zip(others, matched(module, query, others, batch), strict=True):
        expected = by_kornia(query, candidate, module)
        assert as_dict(found, query, candidate) == pytest.approx(expected, abs=1e-4)
        agreed += len(expected)
    assert agreed >= 10  # there was something to agree on


def test_the_whole_network_of_kornia_agrees_on_the_picture_itself() -> None:
    module = network()
    here, there = blobs(160, 128), blobs(120, 136, seed=1)
    query, candidate = (extractor(module).extract(one) for one in (here, there))
    grey = [torch.tensor(one @ [0.299, 0.587, 0.114] / 255)[None, None].float() for one in (here, there)]
    with torch.inference_mode():
        coarse = module.extract_features(grey[0])["coarse"]
        out = module({"image0": grey[0], "image1": grey[1]})
    assert np.allclose(as_map(query), coarse, atol=2e-3)  # features are kept in float16
    [found] = matched(module, query, [candidate])
    assert len(found) == pytest.approx(len(out["confidence"]), abs=1)
    assert len(found) >= 2
    assert found.confidences.sum() == pytest.approx(float(out["confidence"].sum()), rel=0.05)


def test_the_company_of_a_candidate_does_not_matter() -> None:
    module = made()
    module.coarse_matching.temperature, module.coarse_matching.thr = 1e3, 0.0  # every partner is nearly as likely
    take = extractor(module).extract
    query, others = take(blobs(96, 96)), [take(blobs(72, 72, seed=1)), take(blobs(160, 160, seed=2))]
    for alone, together in zip(matched(module, query, others), matched(module, query, others, batch=2), strict=True):
        assert len(alone) >= 1
        assert as_numbers(together) == pytest.approx(as_numbers(alone), rel=1e-4)


@pytest.mark.parametrize("enlarged", [1, 4])
def test_a_mark_is_found_again_where_it_moved(enlarged: int) -> None:
    picture, side = blobs(264, 256).repeat(enlarged, 0).repeat(enlarged, 1), 240 * enlarged
    query, candidate = picture[:side, :side], picture[16 * enlarged :, 24 * enlarged :]
    module = only_backbone()
    here, there = (extractor(module).extract(one) for one in (query, candidate))
    assert (here.size, len(here)) == ((side, side), min(60, 30 * enlarged) ** 2)
    [found] = matched(module, here, [there])
    moved = (here.keypoints[found.query_points] - there.keypoints[found.candidate_points]) / enlarged
    assert len(found) >= 400
    assert (np.abs(moved - [24, 16]).max(axis=1) < 1).mean() > 0.9


def test_cells_lie_on_the_chip_as_the_smaller_picture_shows_it() -> None:
    asked = []

    def inside(keypoints: NDArray[np.float32]) -> NDArray[np.bool_]:
        asked.append(keypoints)
        return np.ones(len(keypoints), np.bool_)

    found = extractor(network()).extract(blobs(960, 480), inside)
    assert np.allclose(asked[0], asked[-1], atol=1e-4)  # the size was chosen for the places that the cells then had
    assert found.size == (960, 480)
    assert len(found) == 60 * 30
    columns, rows = (sorted(set(side.tolist())) for side in found.keypoints.T)
    assert columns == [0.5 + 16 * number for number in range(60)]  # between the two pixels that became the first
    assert rows == [0.5 + 16 * number for number in range(30)]


def test_the_rim_takes_part_but_is_never_matched() -> None:
    module = only_backbone()
    found = extractor(module).extract(blobs(64, 48))
    rim = (found.keypoints < 16).any(axis=1) | (found.keypoints >= [48, 32]).any(axis=1)
    assert found.scores.tolist() == [1.0] * 8 + [0.0] * 40
    assert (rim == (found.scores == 0)).all()
    [self_matches] = matched(module, found, [found])
    assert sorted(self_matches.query_points) == sorted(self_matches.candidate_points) == list(range(8))
    tiny = extractor(module).extract(blobs(32, 32))
    [none] = matched(module, tiny, [tiny])
    assert (len(tiny), len(none)) == (16, 0)


@settings(deadline=None, max_examples=60)
@given(width=st.integers(32, 1024), height=st.integers(32, 1024), points=st.integers(8, 4096), share=st.floats(0.05, 1))
def test_the_picture_has_no_more_cells_on_the_animal_than_asked_for(
    width: int, height: int, points: int, share: float
) -> None:
    def inside(keypoints: NDArray[np.float32]) -> NDArray[np.bool_]:
        assert (keypoints >= 0).all()
        assert (keypoints < [width, height]).all()
        return keypoints[:, 0] < share * width

    across, down = picture_size((width, height), points, inside)
    assert across % 8 == down % 8 == 0
    assert 8 <= across <= max(8, min(width, 480))
    assert 8 <= down <= max(8, min(height, 480))
    x = ((np.arange(0, across, 8) + 0.5) * width / across - 0.5).astype(np.float32)
    on_animal = int((x < share * width).sum()) * (down // 8)
    assert on_animal <= points


def test_an_animal_that_fills_little_of_its_chip_is_shown_larger() -> None:
    def corner(keypoints: NDArray[np.float32]) -> NDArray[np.bool_]:
        return (keypoints < 200).all(axis=1)

    for points in (100, 400, 1000, 2500):
        across, down = picture_size((1024, 768), points)
        assert 0.85 * points <= across * down / 64 <= points
    assert picture_size((800, 800), 400) == (160, 160)
    assert picture_size((800, 800), 400, corner) == (480, 480)
    found = extractor(network(), points=100).extract(blobs(800, 800), corner)
    assert 70 <= len(found) <= 100
    assert found.keypoints.max() < 200


def test_a_photo_without_cells_has_no_matches() -> None:
    module = only_backbone()
    some = extractor(module).extract(blobs(80, 80))
    none = extractor(module).extract(blobs(80, 80), lambda keypoints: keypoints[:, 0] > 1000)
    assert len(none) == 0
    assert [len(one) for one in matched(module, none, [some, none])] == [0, 0]
    found = matched(module, some, [none, some])
    assert (len(found[0]), len(found[1])) == (0, 36)
    assert matched(module, some, []) == []


def test_descriptors_of_another_extractor_are_refused() -> None:
    other = LocalFeatures(np.zeros((3, 2), np.float32), np.zeros((3, 8), np.float16), np.ones(3, np.float16), (9, 9))
    with pytest.raises(InputError, match="descriptors of 8 numbers: LoFTR takes 32"):
        LoftrMatcher(network()).prepare(other)


@pytest.fixture(scope="module")
def whole() -> dict[str, torch.Tensor]:
    """Random weights of the whole network."""
    torch.manual_seed(3)
    return dict(LoFTR(None).state_dict())


@pytest.fixture(scope="module")
def published(whole: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a file as the authors publish it."""
    path = tmp_path_factory.mktemp("weights") / "loftr_outdoor.ckpt"
    torch.save({"state_dict": {f"matcher.{name}": tensor for name, tensor in whole.items()}}, path)
    return path


def test_the_file_of_the_authors_is_read_and_nothing_is_fetched(
    whole: dict[str, torch.Tensor], published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(kornias, "load_state_dict_from_url", fetched)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetched)
    module, digest = load_loftr(published)
    assert not module.training
    assert all(torch.equal(tensor, whole[name]) for name, tensor in module.state_dict().items())
    found = load_extractor(ExtractorSpec("loftr", points=1024), weights=published)
    assert found.passport.decides["weights_hash"] == digest
    cells = found.extract(blobs(96, 72))
    assert cells.descriptors.shape == (12 * 9, 256)
    matcher = LoftrMatcher(module)
    assert (matcher._threshold, matcher._temperature) == (0.2, 0.1)  # as the authors set them


def test_a_file_that_is_not_there_or_not_right_is_told_with_what_to_do(
    whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    assert WEIGHTS_URL in kornias.urls["outdoor"]
    for wrong, problem in (
        (None, "needs a file of weights"),
        (tmp_path / "away.ckpt", r"away\.ckpt, the weights .* no"),
    ):
        with pytest.raises(InputError, match=f"{problem}.*download {WEIGHTS_URL}"):
            load_extractor(ExtractorSpec("loftr"), weights=wrong)
    other = tmp_path / "loftr_indoor_ds_new.ckpt"
    other.write_bytes(b"not weights")
    with pytest.raises(InputError, match="another encoding of places"):
        load_loftr(other)
    broken = other.rename(tmp_path / "broken.ckpt")
    with pytest.raises(InputError, match=r"broken\.ckpt cannot be read .*: download"):
        load_loftr(broken)
    lacking = {f"matcher.{name}": tensor for name, tensor in whole.items() if not name.startswith("loftr_fine.")}
    torch.save({"state_dict": lacking}, broken)
    with pytest.raises(ArtefactMismatch, match=r"'loftr_fine\..* is in one of them only\): download"):
        load_loftr(broken)


def test_settings_name_the_file_relative_to_themselves(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(
        '[local]\nweights = "w/loftr.ckpt"\n[local.nyala]\nextractor = "loftr"\npoints = 1024\n'
        '[local.cow]\nextractor = "loftr"\nweights = "/else/where.ckpt"\n'
    )
    found = settings_file.read(tmp_path)
    own = (tmp_path / "w/loftr.ckpt").resolve()
    assert found.local_rules("zebra") == LocalRules(weights=own)
    assert found.local_rules("nyala") == LocalRules("loftr", 1024, weights=own)
    assert found.local_rules("cow").weights == Path("/else/where.ckpt")
    (tmp_path / FILE_NAME).write_text("[local]\nweights = 3\n")
    with pytest.raises(SettingsError, match=r"local\.weights is 3; expected text"):
        settings_file.read(tmp_path)


def test_where_the_weights_lie_does_not_matter_to_how_animals_are_compared() -> None:
    rules = LocalRules("loftr", 1024, weights=Path("/a/outdoor.ckpt"))
    key = rules_key(LocalRules(), {"nyala": rules})
    assert rules_key(LocalRules(), {"nyala": replace(rules, weights=Path("/b/outdoor.ckpt"))}) == key
    assert rules_key(LocalRules(), {"nyala": replace(rules, weights=Path("/a/indoor.ckpt"))}) != key
    assert rules_key(LocalRules(), {"nyala": replace(rules, weights=None)}) != key


def test_a_project_compares_by_it_as_by_any_other(published: Path, tmp_path: Path) -> None:
    comparer = LocalComparer(LocalRules("loftr", 64, weights=published), tmp_path / "local", {"drawn": tmp_path})
    photos = []
    for seed, name in enumerate("ab"):
        content = encoded(Image.fromarray(blobs(160, 120, seed)))
        digest = write_photo(tmp_path, f"{name}.png", content)
        size = {"image_bytes": len(content), "image_width": 160, "image_height": 120}
        photos.append(annotation(name, box=Box(8, 8, 144, 104), content_hash=digest, **size))
    features = comparer.features(photos, {"a": [[0, 0, 80, 0, 80, 120, 0, 120]]})
    assert (features.made, features.by_outline, features.failures) == (2, {"a"}, ())
    halves, wholes = features.load("a"), features.load("b")
    assert 40 <= len(halves) <= 64
    assert 40 <= len(wholes) <= 64
    assert halves.keypoints[:, 0].max() < 80 - 8 < wholes.keypoints[:, 0].max()
    [[one, other]] = comparer.compare([halves], ["a", "b"], features)
    assert one is not None
    assert other is not None
    found = comparer.compare_all(["a"], [["a", "b"]], features)
    assert [len(one) for one in found.values()] == [1] * len(found)
    with pytest.raises(InputError, match="needs a file of weights"):
        LocalComparer(LocalRules("loftr"), tmp_path, {})
