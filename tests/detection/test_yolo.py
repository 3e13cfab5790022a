from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.catalogue.detecting import overlap
from resight.detection import yolo
from resight.detection.detector import CATEGORIES
from resight.errors import InputError
from resight.types import Box

ANCHORS_640 = 25_200  # 3 x (80² + 40² + 20²)
ANCHORS_1280 = 102_000  # 3 x (160² + 80² + 40² + 20²)


@pytest.mark.parametrize(
    ("shape", "classes", "side", "layout"),
    [
        ((1, ANCHORS_1280, 8), 3, 1280, "anchors"),  # MegaDetector v5
        ((1, ANCHORS_1280, 8), None, 1280, "anchors"),
        ((1, ANCHORS_640, 85), 80, 640, "anchors"),
        ((1, ANCHORS_640, 6), 1, 640, "anchors"),  # one class makes rows of 6 as well
        ((1, ANCHORS_640, 6), None, 640, "anchors"),
        ((1, ANCHORS_640, 117), 80, 640, "anchors"),  # with masks
        ((1, 7, 8400), 3, 640, "channels"),  # MegaDetector v6
        ((1, 7, 8400), None, 640, "channels"),
        ((1, 84, 8400), 80, 640, "channels"),
        ((1, 116, 8400), 80, 640, "channels"),
        ((1, 300, 6), 3, 640, "end to end"),
        ((1, 300, 6), None, 640, "end to end"),
        ((1, 0, 6), 1, 640, "end to end"),
    ],
)
def test_the_layout_is_told_by_the_shape(shape: tuple[int, ...], classes: int | None, side: int, layout: str) -> None:
    assert yolo.recognise(shape, classes, side, side) == layout


@pytest.mark.parametrize(
    ("shape", "classes"),
    [
        ((1, 300, 84), 80),  # RT-DETR: rows without the confidence that there is anything
        ((1, 300, 7), 3),
        ((1, 83, 8400), 80),
        ((1, 300, 7), None),
        ((1, 84, 8400), None),  # 80 classes without names
        ((1, 300, 4), None),
        ((2, 300, 6), 3),
        ((300, 6), 3),
    ],
)
def test_another_shape_is_an_error_that_names_it(shape: tuple[int, ...], classes: int | None) -> None:
    with pytest.raises(InputError, match=r"its output has the shape \[.*\]; expected one picture as \[1, N, 5"):
        yolo.recognise(shape, classes, 640, 640)


def found(output: list[list[float]], layout: yolo.Layout, classes: int | None = 3) -> yolo.Candidates:
    array = np.array([output], np.float32)
    return yolo.candidates(array.transpose(0, 2, 1) if layout == "channels" else array, layout, classes)


def test_anchors_by_hand() -> None:
    rows = [[10, 20, 4, 6, 0.5, 0.2, 0.9, 0.1], [1, 1, 2, 2, 0.004, 1, 0, 0], [50, 40, 10, 20, 1, 0.8, 0.1, 0.1]]
    boxes = found(rows, "anchors")
    np.testing.assert_allclose(boxes.corners, [[45, 30, 55, 50], [8, 17, 12, 23]])
    np.testing.assert_allclose(boxes.confidences, [0.8, 0.45])
    assert boxes.classes.tolist() == [0, 1]


def test_channels_by_hand_and_masks_are_no_classes() -> None:
    boxes = found([[10, 20, 4, 6, 0.2, 0.7, 0.1, 55.0]], "channels")
    np.testing.assert_allclose(boxes.corners, [[8, 17, 12, 23]])
    np.testing.assert_allclose(boxes.confidences, [0.7])
    assert boxes.classes.tolist() == [1]


def test_end_to_end_by_hand() -> None:
    boxes = found([[8, 17, 12, 23, 0.7, 2], [0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 0.9, 0]], "end to end")
    np.testing.assert_allclose(boxes.corners, [[1, 2, 3, 4], [8, 17, 12, 23]])
    assert boxes.classes.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("row", "layout", "message"),
    [
        ([10, 20, 4, 6, np.nan, 0.1, 0.1], "channels", "a confidence of nan"),
        ([10, 20, 4, 6, 7.5, -2, 0.1], "channels", "a confidence of 7.5; expected 0 to 1"),
        ([np.inf, 20, 4, 6, 0.5, 0.1, 0.1], "channels", "boxes that are not finite"),
        # RT-DETR for two classes has rows of six numbers, none of which is a class.
        ([0.5, 0.5, 0.1, 0.1, 0.8, 0.3], "end to end", r"classes such as 0\.3.*; expected whole numbers"),
    ],
)
def test_numbers_that_cannot_be_right_are_an_error(row: list[float], layout: yolo.Layout, message: str) -> None:
    with pytest.raises(InputError, match=message):
        found([row], layout)


def test_only_so_many_candidates_go_on_and_they_are_the_surest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yolo, "MOST_CANDIDATES", 2)
    rows = [[n, n, 1, 1, confidence, 0, 0] for n, confidence in enumerate((0.1, 0.9, 0.3, 0.6))]
    np.testing.assert_allclose(found(rows, "channels").confidences, [0.9, 0.6])


def boxes(corners: list[list[float]], confidences: list[float], classes: list[int]) -> yolo.Candidates:
    corners_of = np.array(corners, np.float32).reshape(-1, 4)
    return yolo.Candidates(corners_of, np.array(confidences, np.float32), np.array(classes, np.int64))


def test_one_animal_is_one_box_whatever_it_is_taken_for_and_a_person_is_another() -> None:
    same = [[0, 0, 10, 10]] * 4
    kept = yolo.without_repeats(boxes(same, [0.5, 0.9, 0.8, 0.7], [0, 1, 2, 3]), ("deer", "boar", "human", "vehicle"))
    assert sorted(kept.classes.tolist()) == [1, 2, 3]
    apart = yolo.without_repeats(boxes([[0, 0, 10, 10], [0, 6, 10, 16]], [0.5, 0.9], [0, 0]), CATEGORIES)
    assert len(apart.classes) == 2  # they share 25 %
    assert len(yolo.without_repeats(boxes([], [], []), CATEGORIES).classes) == 0


def naive_without_repeats(corners: list[list[int]], confidences: list[float]) -> list[float]:
    kept: list[tuple[float, Box]] = []
    for confidence, (x, y, right, bottom) in sorted(zip(confidences, corners, strict=True), reverse=True):
        box = Box(x, y, right - x, bottom - y)
        if all(overlap(box, other) <= yolo.OVERLAP for _, other in kept):
            kept.append((confidence, box))
    return [confidence for confidence, _ in kept]


corner = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 6), st.integers(1, 6))


@given(st.lists(corner, min_size=1, max_size=8))
def test_repeats_are_left_out_as_a_naive_loop_does(drawn: list[tuple[int, int, int, int]]) -> None:
    corners = [[x, y, x + w, y + h] for x, y, w, h in drawn]
    confidences = [(n + 1) / 16 for n in range(len(drawn))]
    as_floats = [[float(side) for side in one] for one in corners]
    kept = yolo.without_repeats(boxes(as_floats, confidences, [0] * len(drawn)), CATEGORIES)
    assert kept.confidences.tolist() == naive_without_repeats(corners, confidences)


@pytest.mark.parametrize(("size", "frame", "left", "top"), [((4, 8), (8, 8), 0, 2), ((5, 3), (8, 8), 2, 1)])
def test_a_picture_is_put_in_the_middle(size: tuple[int, int], frame: tuple[int, int], left: int, top: int) -> None:
    pixels = np.zeros((*size, 3), np.uint8)
    whole, *offsets = yolo.letterbox(pixels, *frame)
    assert (whole.shape, offsets) == ((frame[1], frame[0], 3), [left, top])
    assert (whole == 0).sum() == pixels.size
    assert (whole[top : top + size[0], left : left + size[1]] == 0).all()
    assert set(np.unique(whole)) == {0, yolo.FRAME_GREY}
