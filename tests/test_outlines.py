from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ImageFilter

from resight.catalogue import blocks, store
from resight.errors import InputError
from resight.outlines import Outline, outline_of_box, read_outline
from resight.project import Project
from resight.types import Box

from .catalogue.projects import annotations, do_import, herd, row


def inside(outline: Outline) -> NDArray[np.bool_]:
    """(height, width) bool."""
    values = np.asarray(outline.mask())
    assert set(np.unique(values)) <= {0, 255}
    return values > 0


def drawn(*rows: str) -> NDArray[np.bool_]:
    return np.array([[pixel == "#" for pixel in line] for line in rows])


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    """The counts of a mask by walking down its columns, pixel by pixel."""
    counts, now, length = [], False, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != now:
            counts.append(length)
            now, length = pixel, 0
        length += 1
    return [*counts, length]


def compressed(counts: list[int]) -> str:
    """``rleToString`` of the COCO API, line by line."""
    text = ""
    for place, count in enumerate(counts):
        x = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = x & 0x1F
            x >>= 5
            more = x != -1 if bits & 0x10 else x != 0
            text += chr((bits | 0x20 if more else bits) + 48)
    return text


RECTANGLE = drawn(
    ".....",
    ".###.",
    ".###.",
    ".....",
)


@pytest.mark.parametrize(
    "counts",
    [[5, 2, 2, 2, 2, 2, 5], "5220003", b"5220003", (5, 2, 2, 2, 2, 2, 5), [5, 2, 2, 1, 0, 1, 2, 2, 5]],
)
def test_runs_go_down_the_columns_outside_first(counts: Any) -> None:
    assert (inside(read_outline({"size": [4, 5], "counts": counts}, 5, 4)) == RECTANGLE).all()


def test_counts_compressed_by_the_coco_api_are_read() -> None:
    # Both texts were written by pycocotools: counts of two characters, and changes below zero.
    block = np.zeros((40, 60), bool)
    block[10:30, 20:45] = True
    block[12:14, 25:28] = False
    lines = np.zeros((40, 60), bool)
    lines[3:37, 20], lines[38, 20], lines[0:2, 40] = True, True, True
    of_block = "Zi0d0d000000000^O^O>b0B^O>b0B^O>b0400000000000000000000000000000000^b0"
    for mask, counts in [(block, of_block), (lines, "Si0R11oNhg01U1")]:
        assert compressed(runs_of(mask)) == counts
        assert (inside(read_outline({"size": [40, 60], "counts": counts}, 60, 40)) == mask).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([0.01, 0.5, 0.99]))
def test_any_mask_is_the_same_through_counts_and_compressed_counts(
    width: int, height: int, seed: int, share: float
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    mask[0, 0] = True
    counts = runs_of(mask)
    plain = read_outline({"size": [height, width], "counts": counts}, width, height)
    short = read_outline({"size": [height, width], "counts": compressed(counts)}, width, height)
    assert (inside(plain) == mask).all()
    assert (inside(short) == mask).all()
    assert plain.key == short.key


def test_a_large_photo_s_counts_are_read() -> None:
    counts = [100_000_000, 50_000_000, 50_000_000]
    outline = read_outline({"size": [10_000, 20_000], "counts": compressed(counts)}, 20_000, 10_000)
    assert outline.key == read_outline({"size": [10_000, 20_000], "counts": counts}, 20_000, 10_000).key


# Polygons


def test_polygons_are_filled_with_the_pixels_that_their_corners_lie_in() -> None:
    expected = drawn(
        "........",
        ".####...",
        ".####...",
        "......##",
        "......##",
    )
    parts = [[1.2, 1.0, 4.9, 1.0, 4.9, 2.5, 1.2, 2.5], [6, 3, 7, 3, 7, 4, 6, 4]]
    assert (inside(read_outline(parts, 8, 5)) == expected).all()
    first = expected.copy()
    first[3:] = False
    for alone in ([parts[0]], parts[0]):  # a polygon alone is met without the list around it
        assert (inside(read_outline(alone, 8, 5)) == first).all()


def test_overlapping_polygons_are_joined_and_what_is_out_of_the_photo_is_left_out() -> None:
    twice = [[-50, -50, 5, -50, 5, 2, -50, 2], [0, 0, 900, 0, 900, 2, 0, 2], [3, 3], []]
    expected = np.zeros((6, 10), bool)
    expected[:3] = True
    assert (inside(read_outline(twice, 10, 6)) == expected).all()


def contains(corners: list[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a point is inside a polygon, by counting the edges to its right."""
    crossings = 0
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            crossings += 1
    return crossings % 2 == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_polygon_and_the_same_shape_as_runs_are_the_same_within_a_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles, radii = np.sort(rng.uniform(0, 2 * math.pi, 9)), rng.uniform(14, 19, 9)
    corners = [(24 + r * math.cos(a), 20 + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]
    shape = np.array([[contains(corners, x + 0.5, y + 0.5) for x in range(50)] for y in range(40)])
    runs = read_outline({"size": [40, 50], "counts": runs_of(shape)}, 50, 40)
    assert (inside(runs) == shape).all()
    filled = inside(read_outline([[v for corner in corners for v in corner]], 50, 40))
    picture = runs.mask()
    assert not (filled & ~(np.asarray(picture.filter(ImageFilter.MaxFilter(3))) > 0)).any()
    assert not (~filled & (np.asarray(picture.filter(ImageFilter.MinFilter(3))) > 0)).any()


def test_a_box_as_an_outline_is_turned_about_its_centre() -> None:
    def is_inside(box: Box, theta_rad: float) -> NDArray[np.bool_]:
        return inside(outline_of_box(box, theta_rad, 20, 20))

    flat, upright = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    flat[7:12, 4:15], upright[4:15, 7:12] = True, True  # 10 x 4 with the pixels on its far edges
    assert (is_inside(Box(4, 7, 10, 4), 0) == flat).all()
    assert (is_inside(Box(4.5, 7.5, 10, 4), math.pi / 2) == upright).all()
    slanted = is_inside(Box(2, 8, 16, 3), math.pi / 4)  # clockwise with y down: from top left to bottom right
    assert slanted[5, 5]
    assert slanted[14, 14]
    assert not slanted[14, 5]
    assert not slanted[5, 14]


# Keys


def test_the_same_shape_has_the_same_key_and_another_has_another() -> None:
    shapes: list[Any] = [[[0, 0, 4, 0, 4, 3]], [[0, 0, 4, 0, 4, 3.5]], [[0, 0, 4, 0, 4, 3], [1, 1, 2, 2, 1, 2]]]
    shapes += [{"size": [4, 5], "counts": counts} for counts in ([5, 2, 13], [5, 3, 12])]
    keys = [read_outline(shape, 5, 4).key for shape in shapes]
    assert len(set(keys)) == len(shapes)
    assert read_outline([[0.0, 0.0, 4.0, 0.0, 4.0, 3.0]], 5, 4).key == keys[0]
    assert read_outline([0, 0, 4, 0, 4, 3], 5, 4).key == keys[0]


# Broken ones

NAN = float("nan")


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        (None, "is None: expected polygons"),
        ("5220003", "is '5220003': expected polygons"),
        (3, "is 3: expected polygons"),
        ([], r"the outline \[\] has no area"),
        ([[]], "has no area"),
        ([[1, 1, 4, 1]], "has no area"),
        ([[1, 1, 2, 2, 3, 3]], "has no area"),
        ([[1, 1], [4, 1], [4, 3]], "has no area"),
        ([[1, 1, 4, 1, 4]], "expected numbers x, y"),
        ([[1, 1, 4, 1, 4, "3"]], "expected numbers x, y"),
        ([["1", "1", "4", "1", "4", "3"]], "expected numbers x, y"),
        ([[1, 1, 4, 1, 4, None]], "expected numbers x, y"),
        ([[True, False, True, True, False, True]], "expected numbers x, y"),
        ([[[1, 1], [4, 1], [4, 3]]], "expected numbers x, y"),
        ([[[1, 1], [4]]], "expected numbers x, y"),
        ([{"size": [4, 5], "counts": "5220003"}], "expected numbers x, y"),
        ([[1, 1, 4, 1, 4, NAN]], "expected pixels of the photo"),
        ([[1, 1, 4, 1, 4, float("inf")]], "expected pixels of the photo"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "expected pixels of the photo"),
        ([[0, 0, -(2**63), 0, 4, 4]], "expected pixels of the photo"),
        ([[0, 0, 10**30, 0, 4, 4]], "expected numbers x, y"),
        ({}, "height and width are None"),
        ({"counts": "5220003"}, "height and width are None"),
        ({"size": [5, 4], "counts": "5220003"}, r"are \[5, 4\], and this one's are \[4, 5\]"),
        ({"size": 4, "counts": "5220003"}, "height and width are 4"),
        ({"size": [4, 5]}, "are None: expected whole numbers"),
        ({"size": [4, 5], "counts": [[5, 15]]}, "expected whole numbers"),
        ({"size": [4, 5], "counts": [[5, 15], 3]}, "expected whole numbers"),
        ({"size": [4, 5], "counts": [5.0, 15.0]}, "expected whole numbers"),
        ({"size": [4, 5], "counts": [5, "15"]}, "expected whole numbers"),
        ({"size": [4, 5], "counts": []}, "expected whole numbers"),
        ({"size": [4, 5], "counts": [5, 14]}, "do not add up to the photo's 5 x 4 pixels"),
        ({"size": [4, 5], "counts": [5, 16]}, "do not add up"),
        ({"size": [4, 5], "counts": [25, -5]}, "do not add up"),
        ({"size": [4, 5], "counts": [2**63 - 1, 2**63 - 1, 22]}, "do not add up"),
        ({"size": [4, 5], "counts": [20]}, "has no area"),
        ({"size": [4, 5], "counts": [20, 0]}, "has no area"),
        ({"size": [4, 5], "counts": ""}, "expected those of a compressed RLE"),
        ({"size": [4, 5], "counts": "522000"}, "do not add up"),
        ({"size": [4, 5], "counts": "522000P"}, "expected those of a compressed RLE, whole"),
        ({"size": [4, 5], "counts": "52 0003"}, "expected those of a compressed RLE"),
        ({"size": [4, 5], "counts": "522000é"}, "expected those of a compressed RLE"),
        ({"size": [4, 5], "counts": "522000\ud800"}, "expected those of a compressed RLE"),
        ({"size": [4, 5], "counts": "P" * 40 + "0"}, "larger than any photo"),
    ],
)
def test_a_broken_or_empty_outline_says_what_is_wrong(segmentation: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as raised:
        read_outline(segmentation, 5, 4)
    assert len(str(raised.value)) < 250
    assert "\n" not in str(raised.value)


# Out of the catalogue


def test_the_outlines_asked_for_are_read_from_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "KEYS_A_QUERY", 2)
    cells: list[Any] = [[[1, 1, 9, 1, 9, 9]], None, {"size": [40, 60], "counts": "5220003"}, [[0, 0, 5, 5, 0, 5]], None]
    rows = [row(n, segmentation="" if cell is None else json.dumps(cell)) for n, cell in enumerate(cells)]
    project = Project.init(tmp_path / "project")
    do_import(project, herd(tmp_path / "herd", rows))
    ids = [a.annotation_id for a in annotations(project)]
    with project.database.reading() as connection:
        everything = store.outlines(connection, ids)
        some = store.outlines(connection, iter([ids[3], "of another project", ids[1]]))
        assert store.outlines(connection, []) == {}
    assert everything == {name: cell for name, cell in zip(ids, cells, strict=True) if cell is not None}
    assert some == {ids[3]: cells[3]}
