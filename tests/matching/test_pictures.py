from __future__ import annotations

import io
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resight.errors import InputError
from resight.images import cut_preview
from resight.matching.local.evidence import Evidence
from resight.matching.local.features import ExtractorSpec, cut_evidence_chip
from resight.matching.local.lightglue import PairMatches
from resight.matching.pictures import Frame, PairLines, frame_of, heat_overlay, pair_lines, strokes
from resight.types import Box

from ..made_up import encoded


def evidence(here: list[tuple[float, float]], there: list[tuple[float, float]], confidences: list[float]) -> Evidence:
    rows = np.arange(len(confidences))
    matches = PairMatches(rows, rows, np.array(confidences, np.float32))
    return Evidence(matches, np.array(here, np.float32), np.array(there, np.float32), None, True)


def lines(here: list[tuple[float, float]], there: list[tuple[float, float]], confidences: list[float]) -> PairLines:
    points = (np.array(side, np.float32).reshape(-1, 2) for side in (here, there))
    return PairLines(*points, np.array(confidences, np.float32), len(confidences))


def test_points_are_fractions_of_their_pictures_the_surest_first() -> None:
    found = pair_lines(
        evidence([(0, 0), (99, 49), (49.5, 24.5)], [(9.5, 0), (0, 19.5), (19.5, 39.5)], [0.3, 0.9, 0.5]),
        (100, 50),
        (20, 40),
    )
    assert found.confidences.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert found.query_points == pytest.approx(np.array([(0.995, 0.99), (0.5, 0.5), (0.005, 0.01)]))
    assert found.candidate_points == pytest.approx(np.array([(0.025, 0.5), (1.0, 1.0), (0.5, 0.0125)]))
    assert found.of == 3


def test_only_the_surest_lines_are_kept_and_all_are_counted() -> None:
    confidences = np.random.default_rng(0).permutation(np.linspace(0.1, 1, 90)).tolist()
    places = [(float(row), 0.0) for row in range(90)]
    found = pair_lines(evidence(places, places, confidences), (90, 10), (90, 10), most=7)
    surest = np.argsort(confidences)[::-1][:7]
    assert len(found) == 7
    assert found.of == 90
    assert found.query_points[:, 0] * 90 - 0.5 == pytest.approx(surest, abs=1e-4)
    assert found.candidate_points == pytest.approx(found.query_points)
    assert len(pair_lines(evidence(places, places, confidences), (90, 10), (90, 10))) == 60


def test_a_pair_without_matches_has_no_lines() -> None:
    nothing = Evidence(
        PairMatches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)),
        np.empty((0, 2), np.float32), np.empty((0, 2), np.float32), None, True,
    )  # fmt: skip
    found = pair_lines(nothing, (10, 10), (10, 10))
    assert len(found) == found.of == 0
    assert strokes(found, Frame(100.0, 100.0)) == ()


def brightest(picture: NDArray[np.uint8]) -> tuple[float, float]:
    """Where the bright mark of a picture lies, as a fraction of its width and height."""
    weight = np.clip(picture[:, :, 0].astype(float) - 90, 0, None)
    y, x = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]] + 0.5
    whole = weight.sum()
    return float((x * weight).sum() / whole / picture.shape[1]), float((y * weight).sum() / whole / picture.shape[0])


@pytest.mark.parametrize(
    ("box", "theta_rad"),
    [
        (None, 0.0),
        (Box(100, 40, 400, 250), 0.0),
        (Box(60, 30, 500, 330), 0.4),
        (Box(-40, 20, 420, 300), -0.3),
        (Box(230, 40, 20, 300), 0.0),  # so narrow that the evidence chip stretches it
    ],
)
def test_a_mark_lies_in_the_preview_where_it_lies_in_the_evidence_chip(box: Box | None, theta_rad: float) -> None:
    pixels = np.full((400, 600, 3), 40, np.uint8)
    pixels[176:184, 232:240] = 250
    photo = encoded(Image.fromarray(pixels))
    spec = ExtractorSpec(longest_px=512, most_enlarged=2.0)
    chip = cut_evidence_chip(photo, "x", box, theta_rad, spec)
    preview = np.asarray(Image.open(io.BytesIO(cut_preview(photo, "x", box, theta_rad, 360))))
    mark = np.array(brightest(chip)) * (chip.shape[1], chip.shape[0]) - 0.5  # as keypoints count
    found = pair_lines(evidence([tuple(mark)], [tuple(mark)], [0.5]), *[(chip.shape[1], chip.shape[0])] * 2)
    assert found.query_points[0] == pytest.approx(brightest(preview), abs=0.02)


def test_lines_run_from_the_query_at_the_left_to_the_candidate_at_the_right() -> None:
    frame = frame_of((300, 200), (100, 200))
    assert frame == Frame(150.0, 50.0)
    assert frame.candidate_x == 152
    assert frame.width == 202
    drawn = strokes(lines([(0.5, 0.5), (0, 1), (1, 0)], [(0, 0), (1, 1), (0.5, 0.25)], [0.95, 0.15, 0.19]), frame)
    assert [one.step for one in drawn] == [0, 4]  # the surest are painted last, over the others
    assert drawn[0].lines == "M0.0 100.0L202.0 100.0M150.0 0.0L177.0 25.0"
    assert drawn[1].lines == "M75.0 50.0L152.0 0.0"
    assert drawn[1].ends == "M75.0 50.0h0M152.0 0.0h0"


def test_every_match_is_one_line_of_the_colour_of_its_confidence() -> None:
    random = np.random.default_rng(0)
    confidences = [0.0, 0.1, 0.199, 0.2, 0.5, 0.79, 0.8, 1.0]
    places = [(float(x), float(y)) for x, y in random.random((8, 2))]
    drawn = strokes(lines(places, places, confidences), Frame(120.0, 80.0))
    assert {one.step: one.lines.count("L") for one in drawn} == {0: 3, 1: 1, 2: 1, 3: 1, 4: 2}
    numbers = [float(number) for one in drawn for number in re.findall(r"[\d.]+", one.lines)]
    assert max(numbers) <= 202
    assert min(numbers) >= 0


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    one, two = np.zeros((1, 2), np.float32), np.zeros((2, 2), np.float32)
    with pytest.raises(InputError, match="expected"):
        PairLines(one, two, np.zeros(1, np.float32), 1)
    with pytest.raises(InputError, match="expected"):
        PairLines(two, two, np.zeros(2, np.float32), 1)


def overlay(heat: NDArray[np.float64]) -> NDArray[np.uint8]:
    content = heat_overlay(heat)
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "PNG"
    return np.asarray(picture.convert("RGBA"))


def test_heat_is_bright_where_it_is_most_and_clear_where_there_is_none() -> None:
    heat = np.zeros((8, 8))
    heat[0, 7] = 1
    pixels = overlay(heat)
    assert pixels.shape == (64, 64, 4)
    assert pixels[2, 61, 3] > 150
    assert pixels[2, 61, 3] < 230  # the animal shows through
    assert (pixels[20:, :, 3] == 0).all()
    assert (pixels[:, :44, 3] == 0).all()
    assert pixels[2, 61, :3].sum() > pixels[2, 52, :3].sum()


def test_a_heat_picture_is_small_and_of_the_heats_proportions() -> None:
    heat = np.random.default_rng(0).random((8, 8))
    assert len(heat_overlay(heat)) < 4000
    assert overlay(np.ones((4, 16))).shape == (16, 64, 4)
    assert (overlay(np.zeros((8, 8)))[..., 3] == 0).all()


@pytest.mark.parametrize("heat", [np.zeros(4), np.full((2, 2), 1.5), np.full((2, 2), np.nan), np.zeros((0, 3))])
def test_what_is_no_heat_is_refused(heat: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        heat_overlay(heat)
