from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from resight.errors import ArtefactMismatch, InputError
from resight.matching.local.foreground import (
    CELLS,
    LEAST_PHOTOS,
    CellNetwork,
    Estimates,
    Foreground,
    fit_foreground,
    otsu,
)

Bools = NDArray[np.bool_]
ACROSS = np.arange(CELLS) + 0.5


def bodies(count: int, seed: int = 0, *, filling: bool = False) -> Bools:
    """(count, CELLS, CELLS): an ellipse near the middle of each box, sometimes up to one side of it."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(ACROSS, ACROSS)
    found = []
    for _ in range(count):
        u, v = rng.uniform(0.4, 0.6, 2) * CELLS
        a, b = rng.uniform(0.3, 0.5, 2) * CELLS
        found.append(((x - u) / a) ** 2 + ((y - v) / b) ** 2 < 1)
    return np.ones((count, CELLS, CELLS), np.bool_) if filling else np.stack(found)


def cells_of(animal: Bools, seed: int = 0, dim: int = 6) -> NDArray[np.float32]:
    """Cells that look alike on all animals, and alike around them, but for noise as large as the difference."""
    rng = np.random.default_rng(seed)
    cells = rng.normal(size=(*animal.shape, dim))
    cells[..., :3] += 3.0 * animal[..., None]
    return cells.astype(np.float32)


def overlap(found: Bools, truth: Bools) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def spread_within(values: NDArray[np.float64], threshold: float) -> float:
    sides = values[values > threshold], values[values <= threshold]
    return sum(len(side) * float(side.var()) for side in sides if len(side))


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_leaves_the_least_spread(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(-2, 1, 300), rng.normal(2 + seed, 0.5, 100 + 200 * seed)])
    least = min(spread_within(values, one) for one in values)
    assert spread_within(values, otsu(values)) < 1.02 * least


def test_the_threshold_lies_between_two_heaps() -> None:
    assert 0 < otsu(np.array([0.0] * 60 + [1.0] * 40)) < 1


def test_animals_are_found_without_an_outline() -> None:
    truth = bodies(30)
    cells = cells_of(truth)
    found = fit_foreground(cells)
    assert overlap(found.scores(cells) > 0, truth) > 0.95
    others = bodies(30, seed=1)
    assert overlap(found.scores(cells_of(others, seed=1)) > 0, others) > 0.95
    assert found.in_one > 0.95
    assert found.is_sure


def test_neither_order_nor_units_matter() -> None:
    truth = bodies(24)
    cells = cells_of(truth)
    found = fit_foreground(cells).scores(cells)
    np.testing.assert_allclose(fit_foreground(cells[::-1]).scores(cells), found, atol=1e-6)
    units = np.float32([1, 10, 0.5, 2, 3, 0.1])
    scaled = cells * units + np.float32(3)
    np.testing.assert_allclose(fit_foreground(scaled).scores(scaled), found, atol=1e-2)


def test_where_the_box_shows_nothing_else_it_is_not_sure() -> None:
    found = fit_foreground(cells_of(bodies(30, filling=True)))
    assert not found.is_sure


def test_photos_that_show_nothing_give_no_estimate() -> None:
    assert not fit_foreground(np.zeros((LEAST_PHOTOS, CELLS, CELLS, 4), np.float32)).is_sure


def test_few_photos_are_too_few() -> None:
    cells = cells_of(bodies(LEAST_PHOTOS))
    fit_foreground(cells)
    with pytest.raises(InputError, match=rf"^{LEAST_PHOTOS - 1} photos: expected at least {LEAST_PHOTOS} "):
        fit_foreground(cells[1:])


def test_the_mask_lies_as_the_chip_does() -> None:
    cells = np.full((CELLS, CELLS, 1), -1, np.float32)
    cells[: CELLS // 4, : CELLS // 2] = 1  # above, to the left
    mask = Foreground(np.ones(1), 0.0, 1.0).mask(cells, (200, 100))
    assert mask is not None
    assert mask.shape == (100, 200)
    assert mask[:24, :97].all()
    assert not mask[27:].any()
    assert not mask[:, 103:].any()


@pytest.mark.parametrize(("kept", "tells"), [(0, False), (1, False), (2, True), (26, True), (27, False), (28, False)])
def test_an_estimate_of_hardly_anything_or_nearly_everything_tells_nothing(kept: int, tells: bool) -> None:
    cells = np.full((CELLS, CELLS, 1), -1, np.float32)
    cells[:kept] = 1  # rows, each 3.6 %
    assert (Foreground(np.ones(1), 0.0, 1.0).mask(cells, (56, 56)) is not None) == tells


def drawn(seed: int) -> tuple[NDArray[np.uint8], Bools]:
    """A smooth brown animal with stripes on coarse green leaves, and where it is."""
    rng = np.random.default_rng(seed)
    leaves = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize((160, 120))
    picture = Image.blend(leaves, Image.new("RGB", (160, 120), (40, 120, 40)), 0.4)
    x, y = rng.uniform(-10, 10, 2)
    coat = Image.new("RGB", (160, 120), (170, 100, 50))
    for place in range(0, 160, 16):
        ImageDraw.Draw(coat).line((place, 0, place + 8, 120), (230, 220, 200), 3)
    body = Image.new("L", (160, 120))
    ImageDraw.Draw(body).ellipse((30 + x, 30 + y, 130 + x, 90 + y), fill=255)
    picture.paste(coat, mask=body.filter(ImageFilter.GaussianBlur(1)))
    return np.asarray(picture), np.asarray(body) > 0


def chips(count: int = LEAST_PHOTOS) -> list[NDArray[np.uint8]]:
    return [drawn(seed)[0] for seed in range(count)]


@pytest.fixture(scope="module")
def network() -> CellNetwork:
    torch.set_num_threads(1)
    return CellNetwork()


def test_cells_lie_as_the_chip_does(network: CellNetwork) -> None:
    chip = np.full((60, 120, 3), 100, np.uint8)
    plain = network.cells(chip)
    assert plain.shape == (CELLS, CELLS, 152)
    chip[:10, 90:100] = 255  # above, at 0.75 to 0.83 of the width
    changed = np.abs(network.cells(chip) - plain).sum(axis=-1)
    row, column = np.unravel_index(changed.argmax(), changed.shape)
    assert row <= CELLS // 6 + 1
    assert 20 <= column <= 24


def test_a_drawn_animal_is_found_and_kept(tmp_path: Path) -> None:
    estimates = Estimates(tmp_path / "foreground")
    assert estimates.known("kudu") is None
    assert not estimates.is_fitted("kudu")
    estimates.fit("kudu", chips())
    assert estimates.is_fitted("kudu")
    first = estimates.known("kudu")
    again = Estimates(tmp_path / "foreground").known("kudu")
    assert first is not None
    assert again is not None
    assert again.key == first.key
    for seed in (97, 98, 99):
        chip, truth = drawn(seed)
        mask = again.mask(chip)
        assert mask is not None
        assert overlap(mask, truth) > 0.75
    assert Estimates(tmp_path / "foreground").known("eland") is None


def test_too_few_photos_are_tried_again(tmp_path: Path) -> None:
    estimates = Estimates(tmp_path)
    estimates.fit("kudu", chips(2))
    assert not estimates.is_fitted("kudu")
    assert estimates.known("kudu") is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_sure_is_kept_told_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Foreground(np.ones(152), 0.0, 0.5)
    monkeypatch.setattr("resight.matching.local.foreground.fit_foreground", lambda cells: found)
    estimates = Estimates(tmp_path)
    with caplog.at_level(logging.WARNING):
        estimates.fit("cow", chips())
    assert "cow: nothing in the boxes stands out as one piece (50.0 % of it, expected 90 %)" in caplog.text
    for one in (estimates, Estimates(tmp_path)):
        assert one.is_fitted("cow")
        assert one.known("cow") is None


def test_an_estimate_that_was_made_otherwise_or_is_broken_is_refused(tmp_path: Path) -> None:
    estimates = Estimates(tmp_path)
    estimates.fit("kudu", chips())
    path = estimates.path("kudu")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "decides": {**document["decides"], "side_px": 224}}))
    with pytest.raises(ArtefactMismatch, match="side_px is 224 there and 448 now; delete it"):
        Estimates(tmp_path).known("kudu")
    path.write_text(json.dumps({**document, "weights": None, "bias": "much"}))
    with pytest.raises(ArtefactMismatch, match="cannot be read as an estimate"):
        Estimates(tmp_path).known("kudu")
    path.write_text("{")
    with pytest.raises(ArtefactMismatch, match="cannot be read as a passport"):
        Estimates(tmp_path).known("kudu")
