from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from resight.errors import ArtefactMismatch, ImageError
from resight.images import upright_size
from resight.matching.local.extractors import Extractor
from resight.matching.local.features import ExtractorSpec, LocalFeatures
from resight.matching.local.foreground import CELLS, CellNetwork, Estimate, Estimates, Foreground
from resight.matching.local.store import FeatureSet, FeatureStore, fit_estimates, make_features, show
from resight.outlines import outline_of_box
from resight.types import Annotation, Box

from ...made_up import annotation, encoded, noise, write_photo

SPEC = ExtractorSpec(points=300, asked=4096, longest_px=64)
LEFT_HALF = [[0, 0, 30, 0, 30, 40, 0, 40]]  # of a photo of 60 x 40


class Grid:
    """A network that gives a point for every fourth pixel each way, and counts the chips it was given."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.given: list[tuple[int, int]] = []
        self._seconds = seconds

    def __call__(self, chip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        time.sleep(self._seconds)
        height, width = chip.shape[2:]
        self.given.append((width, height))
        y, x = torch.meshgrid(torch.arange(0.0, height, 4), torch.arange(0.0, width, 4), indexing="ij")
        points = torch.stack([x.flatten(), y.flatten()], dim=1)
        return points, torch.ones(len(points), 128), torch.linspace(1, 0, len(points))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def photo_of(photos: Path, name: str, seed: int, **changes: Any) -> Annotation:
    content = encoded(noise(seed, 60, 40))
    digest = write_photo(photos, f"{name}.png", content)
    known = {"content_hash": digest, "image_bytes": len(content), "image_width": 60, "image_height": 40}
    return annotation(name, **{**known, **changes})


def made(
    annotations: list[Annotation], photos: Path, grid: Grid, outlines: dict[str, Any] | None = None,
    *, weights: str = "hash", spec: ExtractorSpec = SPEC,
) -> FeatureSet:  # fmt: skip
    extractor = Extractor(spec, grid, weights)
    return make_features(annotations, outlines or {}, {"drawn": photos}, photos.parent / "local", extractor)


def some(count: int = 5) -> LocalFeatures:
    rng = np.random.default_rng(0)
    return LocalFeatures(
        rng.uniform(0, 50, (count, 2)).astype(np.float32),
        rng.normal(size=(count, 128)).astype(np.float16),
        rng.uniform(size=count).astype(np.float16),
        (60, 40),
    )


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    passport = Extractor(SPEC, Grid(), "hash").passport
    store = FeatureStore(tmp_path / "f", passport)
    assert store.read("ab12") is None
    assert not store.holds("ab12")
    for count in (5, 0):
        store.write("ab12", some(count))
        found = FeatureStore(tmp_path / "f", passport).read("ab12")
        assert found is not None
        assert found.size == (60, 40)
        for name in ("keypoints", "descriptors", "scores"):
            ours, theirs = getattr(some(count), name), getattr(found, name)
            assert (ours == theirs).all()
            assert ours.dtype == theirs.dtype
    assert store.holds("ab12")
    assert not [path for path in (tmp_path / "f").rglob("*") if path.name.startswith(".")]


def test_512_points_take_what_the_module_says(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, Extractor(SPEC, Grid(), "hash").passport)
    store.write("ab12", some(512))
    assert 130 < store.path("ab12").stat().st_size / 1024 < 140


def test_features_are_made_once_an_annotation(photos: Path) -> None:
    grid = Grid()
    a, b = photo_of(photos, "a", 1), photo_of(photos, "b", 2, box=Box(10, 0, 40, 40))
    first = made([a, b], photos, grid)
    assert (first.made, first.failures, first.by_outline) == (2, (), frozenset())
    assert grid.given == [(60, 40), (40, 40)]
    second = made([a, b], photos, grid)
    assert (second.made, second.keys, len(grid.given)) == (0, first.keys, 2)
    assert len(second.load("a")) == 150  # 15 x 10
    third = made([a, replace(b, box=Box(10, 0, 40, 36)), photo_of(photos, "c", 3)], photos, grid)
    assert (third.made, grid.given[2:]) == (2, [(40, 36), (60, 40)])
    assert third.keys["a"] == first.keys["a"]
    assert third.keys["b"] != first.keys["b"]


def test_one_animal_of_two_sources_is_made_once(photos: Path) -> None:
    grid = Grid(seconds=0.1)  # the second one's turn comes before the first one is written
    a = photo_of(photos, "a", 1)
    features = made([a, replace(a, annotation_id="other")], photos, grid)
    assert (features.made, len(grid.given)) == (1, 1)
    assert features.keys["a"] == features.keys["other"]


def test_points_off_an_outline_are_left_out(photos: Path) -> None:
    grid = Grid()
    a = photo_of(photos, "a", 1)
    outlined = made([a], photos, grid, {"a": LEFT_HALF})
    assert outlined.by_outline == {"a"}
    points = outlined.load("a").keypoints
    assert len(points) == 8 * 10  # at 0, 4, … 28 of 0, 4, … 56
    assert points[:, 0].max() == 28
    again = made([a], photos, grid, {"a": LEFT_HALF})
    assert (again.made, again.by_outline) == (0, {"a"})
    by_box = made([a], photos, grid)
    assert (by_box.made, len(by_box.load("a")), by_box.by_outline) == (1, 150, frozenset())


def test_an_outline_is_turned_with_its_box(photos: Path) -> None:
    # The whole photo's middle 40 x 40, turned by half: the left half of the photo is on the right of the chip.
    a = photo_of(photos, "a", 1, box=Box(10, 0, 40, 40), theta_rad=float(np.pi))
    points = made([a], photos, Grid(), {"a": LEFT_HALF}).load("a").keypoints
    assert len(points) == 5 * 10
    assert points[:, 0].min() == 20


@pytest.mark.parametrize(
    ("outline", "problem"),
    [
        ([[0, 0, 1]], "expected numbers x, y"),
        ({"size": [10, 10], "counts": [50, 50]}, "height and width"),
        ([[50, 0, 60, 0, 60, 40]], "away from its box"),
    ],
)
def test_an_outline_that_cannot_be_right_counts_as_none(
    photos: Path, outline: Any, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    a = photo_of(photos, "a", 1, box=Box(0, 0, 36, 40))
    features = made([a], photos, Grid(), {"a": outline})
    assert problem in features.broken["a"]
    assert features.by_outline == frozenset()
    assert len(features.load("a")) == 9 * 10
    assert "1 outlines count as none" in caplog.text


def test_a_photo_that_cannot_be_used_is_named_and_stops_no_other(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = photo_of(photos, "good", 1)
    gone = photo_of(photos, "gone", 2)
    (photos / "gone.png").unlink()
    changed = photo_of(photos, "changed", 3)
    write_photo(photos, "changed.png", encoded(noise(4, 60, 40)))
    write_photo(photos, "text.png", b"no picture")
    failing = [gone, changed, annotation("text"), photo_of(photos, "q", 5, image_status="quarantined")]
    outside = photo_of(photos, "outside", 6, box=Box(500, 0, 10, 10))
    features = made([*failing, outside, good], photos, Grid(), {"outside": LEFT_HALF})
    assert {failure.annotation_id: failure.reason for failure in features.failures} == {
        "gone": "missing", "changed": "changed", "text": "unreadable", "q": "unreadable", "outside": "box",
    }  # fmt: skip
    assert features.keys.keys() == {"good"}
    assert features.made == 1
    assert "no local features of gone.png" in caplog.text
    assert "q.png" not in caplog.text  # no news


def test_a_photo_that_changed_is_reported_even_where_its_features_are_there(photos: Path) -> None:
    a = photo_of(photos, "a", 1)
    a = replace(a, image_modified_ns=(photos / "a.png").stat().st_mtime_ns)
    assert made([a], photos, Grid()).failures == ()
    write_photo(photos, "a.png", encoded(noise(99, 60, 50)))
    [failure] = made([a], photos, Grid()).failures
    assert failure.reason == "changed"


def test_a_photo_never_read_before_gets_its_key_from_its_content(photos: Path) -> None:
    known = photo_of(photos, "a", 1)
    unknown = replace(known, content_hash=None, image_width=None, image_height=None)
    assert made([unknown], photos, Grid(), {"a": LEFT_HALF}).keys == made(
        [known], photos, Grid(), {"a": LEFT_HALF}
    ).keys  # fmt: skip


def test_a_file_that_was_cut_short_is_made_again(photos: Path) -> None:
    a = photo_of(photos, "a", 1)
    features = made([a], photos, Grid())
    path = features.store.path(features.keys["a"])
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert features.store.read(features.keys["a"]) is None
        with pytest.raises(ArtefactMismatch, match="gone or cut short"):
            features.load("a")
        assert made([a], photos, Grid()).made == 1
        assert path.read_bytes() == whole


def test_features_of_other_weights_are_refused_and_other_settings_lie_apart(photos: Path) -> None:
    a = photo_of(photos, "a", 1)
    features = made([a], photos, Grid())
    with pytest.raises(ArtefactMismatch, match="weights_hash is 'hash' there and 'other' now"):
        made([a], photos, Grid(), weights="other")
    assert made([a], photos, Grid(), spec=replace(SPEC, longest_px=65)).made == 1
    assert made([a], photos, Grid()).made == 0
    (features.store.folder / "passport.json").unlink()
    with pytest.raises(ArtefactMismatch, match="without a passport"):
        made([a], photos, Grid())


def test_a_query_photo_is_shown_without_a_catalogue() -> None:
    content = encoded(noise(1, 60, 40))
    outline = outline_of_box(Box(0, 0, 30, 40), 0.0, *upright_size(content, "q"))
    whole = show(content, "q", None, 0.0, outline, SPEC)
    assert whole.chip.shape == (40, 60, 3)
    points = np.array([[5, 5], [50, 5]], np.float32)
    assert whole.inside(points).tolist() == [True, False]
    assert show(content, "q", None, 0.0, None, SPEC).inside(points).tolist() == [True, True]
    with pytest.raises(ImageError, match="does not fit"):
        show(content, "q", Box(99, 0, 5, 5), 0.0, None, SPEC)


class Halves:
    """In place of a network: the left half of each chip is animal."""

    def cells(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]:
        cells = np.full((CELLS, CELLS, 1), -1, np.float32)
        cells[:, : CELLS // 2] = 1
        return cells


@pytest.fixture
def one_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resight.matching.local.store.LEAST_PHOTOS", 1)


class Fitted(Estimates):
    """Estimates that count what they are fitted to."""

    def __init__(self, folder: Path, *, is_sure: bool = True) -> None:
        super().__init__(folder)
        self.fitted: list[tuple[str, int]] = []
        self._found = Foreground(np.ones(1), 0.0, 1.0 if is_sure else 0.0)

    def is_fitted(self, species: str) -> bool:
        return species in {name for name, _ in self.fitted}

    def fit(self, species: str, chips: Iterable[NDArray[np.uint8]]) -> None:
        self.fitted.append((species, len(list(chips))))

    def known(self, species: str) -> Estimate | None:
        sure = self.is_fitted(species) and self._found.is_sure
        return Estimate(cast("CellNetwork", Halves()), self._found) if sure else None


@pytest.mark.usefixtures("one_is_enough")
def test_without_an_outline_points_are_kept_by_the_estimate(photos: Path, tmp_path: Path) -> None:
    grid, estimates = Grid(), Fitted(tmp_path)
    annotations = [photo_of(photos, name, seed) for seed, name in enumerate("abc")]
    outlines = {"a": [[20, 0, 60, 0, 60, 40, 20, 40]], "b": "broken"}

    def again(*, with_estimates: bool = True) -> FeatureSet:
        used = estimates if with_estimates else None
        fit_estimates(annotations, {"drawn": photos}, SPEC, estimates)
        extractor = Extractor(SPEC, grid, "hash")
        return make_features(annotations, outlines, {"drawn": photos}, tmp_path / "local", extractor, used)

    features = again()
    assert estimates.fitted == [(annotations[0].species, 3)]
    assert (features.by_outline, features.by_estimate, set(features.broken)) == ({"a"}, {"b", "c"}, {"b"})
    assert features.load("a").keypoints[:, 0].min() == 20
    for name in "bc":
        assert sorted(set(features.load(name).keypoints[:, 0].tolist())) == list(range(0, 30, 4))
    second = again()
    assert (second.made, second.keys, second.by_estimate) == (0, features.keys, features.by_estimate)
    assert len(estimates.fitted) == 1
    by_box = again(with_estimates=False)
    assert (by_box.made, by_box.by_estimate) == (2, frozenset())
    assert by_box.keys["a"] == features.keys["a"]
    assert by_box.keys["c"] != features.keys["c"]
    assert len(by_box.load("c")) == 150


@pytest.mark.usefixtures("one_is_enough")
def test_an_estimate_that_is_not_sure_keeps_the_box(photos: Path, tmp_path: Path) -> None:
    annotations = [photo_of(photos, name, seed) for seed, name in enumerate("ab")]
    estimates = Fitted(tmp_path, is_sure=False)
    extractor = Extractor(SPEC, Grid(), "hash")
    fit_estimates(annotations, {"drawn": photos}, SPEC, estimates)
    features = make_features(annotations, {}, {"drawn": photos}, tmp_path / "local", extractor, estimates)
    assert features.by_estimate == frozenset()
    assert features.keys == made(annotations, photos, Grid()).keys
    assert len(features.load("a")) == 150


@pytest.mark.usefixtures("one_is_enough")
def test_an_estimate_is_fitted_to_photos_that_can_be_read_of_each_species(photos: Path, tmp_path: Path) -> None:
    annotations = [photo_of(photos, name, seed) for seed, name in enumerate("abcd")]
    annotations[1] = replace(annotations[1], species="other")
    annotations[2] = replace(annotations[2], species=None)
    (photos / "d.png").unlink()
    estimates = Fitted(tmp_path)
    fit_estimates(annotations, {"drawn": photos}, SPEC, estimates)
    features = make_features(
        annotations, {}, {"drawn": photos}, tmp_path / "local", Extractor(SPEC, Grid(), "hash"), estimates
    )
    assert sorted(estimates.fitted) == sorted([(annotations[0].species, 1), ("other", 1)])
    assert features.by_estimate == {"a", "b"}
    assert len(features.load("c")) == 150
    assert [failure.annotation_id for failure in features.failures] == ["d"]


def test_a_photo_of_which_the_estimate_tells_nothing_keeps_its_box(photos: Path) -> None:
    content = encoded(noise(0, 60, 40))
    estimate = Estimate(cast("CellNetwork", Halves()), Foreground(np.ones(1), 5.0, 1.0))  # all of it
    animal = show(content, "x", None, 0.0, None, SPEC, estimate)
    assert animal.inside(np.float32([[0, 0], [59, 39]])).all()


def test_few_photos_are_not_even_tried(photos: Path, tmp_path: Path) -> None:
    estimates = Fitted(tmp_path)
    a = photo_of(photos, "a", 1)
    fit_estimates([a], {"drawn": photos}, SPEC, estimates)
    features = make_features([a], {}, {"drawn": photos}, tmp_path / "local", Extractor(SPEC, Grid(), "h"), estimates)
    assert estimates.fitted == []
    assert (features.made, features.by_estimate) == (1, frozenset())
